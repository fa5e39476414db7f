import grpc
import pytest

from coordinator.cli.words import coloured, failure_text, labels_text, operation_name, state_text
from saga.v1 import types_pb2 as types
from saga.v1.types_pb2 import Failure


@pytest.mark.parametrize(
    ("failure", "where", "shown"),
    [
        (
            Failure(
                kind=types.FAILURE_KIND_REJECTED,
                step="charge",
                operation=types.OPERATION_EXECUTE,
                reason="CARD_DECLINED",
                message="no funds",
                metadata={"b": "2", "a": "1"},
            ),
            None,
            "REJECTED at charge execute: CARD_DECLINED: no funds [a=1, b=2]",
        ),
        (Failure(kind=types.FAILURE_KIND_DEADLINE_PASSED), None, "DEADLINE_PASSED"),
        (
            Failure(kind=types.FAILURE_KIND_DEADLOCK),
            None,
            "DEADLOCK: the holder of an exclusive key waits, directly or not, for what this saga's own root holds",
        ),
        (
            Failure(kind=types.FAILURE_KIND_DEADLOCK, message="transfer-7 holds account:1"),
            None,
            "DEADLOCK: transfer-7 holds account:1",
        ),
        (
            Failure(kind=types.FAILURE_KIND_UNAVAILABLE, step="charge", grpc_code=grpc.StatusCode.UNAVAILABLE.value[0]),
            "",
            "UNAVAILABLE (gRPC status 14)",
        ),
        (Failure(kind=types.FAILURE_KIND_LOST, step="charge"), "confirm", "LOST at confirm"),
    ],
)
def test_a_failure_in_one_line(failure: Failure, where: str | None, shown: str) -> None:
    assert failure_text(failure, where=where) == shown


def test_every_state_has_a_colour() -> None:
    assert state_text(types.SAGA_STATE_FAILED).style == "bold red"
    names = [name.removeprefix("SAGA_STATE_") for name in types.SagaState.keys()[1:]]  # no mapping
    names += [name.removeprefix("STEP_STATE_") for name in types.StepState.keys()[1:]]
    assert [name for name in names if not coloured(name).style] == []
    assert coloured("99").style == ""


def test_operations_and_labels() -> None:
    assert operation_name(types.OPERATION_COMPENSATE) == "compensate"
    assert operation_name(types.OPERATION_UNSPECIFIED) == ""
    assert labels_text({"b": "2", "a": "1"}) == "a=1 b=2"
