"""What the built-in checks find, and what they let pass."""

from collections.abc import Sequence

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.participants.call import Call
from coordinator.rehearse import checks
from coordinator.rehearse.caller import Exchange
from coordinator.rehearse.faults import Attempt
from coordinator.rehearse.paths import REHEARSED, Path
from saga.v1 import coordinator_pb2 as pb
from saga.v1.event_pb2 import AttemptFailed, SagaEvent
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_LOST,
    FAILURE_KIND_PROTOCOL_VIOLATION,
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_READ_ONLY,
    STEP_STATE_COMPENSATION_FAILED,
    Failure,
    Operation,
    StepKind,
)
from tests.coordinator.rehearse.shop import payload

EXECUTE, COMPENSATE, CONFIRM = OPERATION_EXECUTE, OPERATION_COMPENSATE, OPERATION_CONFIRM
COMPLETES = Path((), (), frozenset({SAGA_STATE_COMPLETED}))
DONE, OTHER = Done(output=payload(1)), Done(output=payload(2))
REFUSED = Refused("NO")
BUSY = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=True)
BROKEN = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE, message="broken"), retryable=False, answered=True)


def exchange(
    operation: Operation.ValueType,
    reply: Reply,
    attempt: int = 1,
    kind: StepKind.ValueType = STEP_KIND_COMPENSATABLE,
    saga_id: str = "s",
) -> Exchange:
    context = StepContext(saga_id=saga_id, step="a", attempt=attempt, kind=kind)
    return Exchange(Call("shop", operation, context, Any(), 1, "", lambda _output: None), reply)


def found(*exchanges: Exchange) -> list[str]:
    return list(checks.contradictions(exchanges, lambda output: output.value))


def ended(saga: pb.Saga, path: Path = COMPLETES, *, all_reached: bool = True) -> Sequence[str]:
    return list(checks.end_state(path, saga, all_reached=all_reached))


@pytest.mark.parametrize(
    "exchanges",
    [
        (exchange(EXECUTE, DONE), exchange(EXECUTE, DONE), exchange(COMPENSATE, Done()), exchange(EXECUTE, REFUSED)),
        (exchange(COMPENSATE, Done(noop=True)), exchange(EXECUTE, BUSY), exchange(EXECUTE, REFUSED)),
        (exchange(EXECUTE, Accepted(1)), exchange(EXECUTE, BUSY), exchange(EXECUTE, DONE)),
        (exchange(EXECUTE, REFUSED), exchange(EXECUTE, REFUSED), exchange(EXECUTE, DONE, attempt=2)),
        (exchange(COMPENSATE, Done()), exchange(COMPENSATE, Done(noop=True)), exchange(CONFIRM, Done())),
        (exchange(EXECUTE, DONE, kind=STEP_KIND_READ_ONLY), exchange(EXECUTE, OTHER, kind=STEP_KIND_READ_ONLY)),
        (exchange(EXECUTE, DONE, saga_id="s"), exchange(EXECUTE, OTHER, saga_id="s/child")),
    ],
)
def test_what_the_contract_allows_is_no_contradiction(exchanges: tuple[Exchange, ...]) -> None:
    assert found(*exchanges) == []


@pytest.mark.parametrize(
    ("exchanges", "problem"),
    [
        ((exchange(EXECUTE, DONE), exchange(EXECUTE, OTHER)), "the same key was answered with another output"),
        (
            (exchange(EXECUTE, DONE), exchange(EXECUTE, REFUSED)),
            "had been completed, and was then answered rejected (NO)",
        ),
        (
            (exchange(EXECUTE, DONE), exchange(EXECUTE, Accepted(1))),
            "had been completed, and was then answered pending",
        ),
        ((exchange(COMPENSATE, Done()), exchange(COMPENSATE, REFUSED)), "a.compensate#1: it had been completed"),
        ((exchange(CONFIRM, Done()), exchange(CONFIRM, REFUSED)), "a.confirm#1: it had been completed"),
        ((exchange(EXECUTE, REFUSED, attempt=2), exchange(EXECUTE, DONE)), "had been rejected, and was then answered"),
        (
            (exchange(COMPENSATE, Done()), exchange(EXECUTE, DONE)),
            "came after its Compensate, and was answered completed",
        ),
        ((exchange(COMPENSATE, Done()), exchange(EXECUTE, Accepted(1))), "was answered pending instead of rejected"),
        ((exchange(COMPENSATE, Done()), exchange(EXECUTE, BROKEN)), "with a failure (UNAVAILABLE: broken)"),
    ],
)
def test_what_a_participant_takes_back_is_found(exchanges: tuple[Exchange, ...], problem: str) -> None:
    [violation] = found(*exchanges)
    assert problem in violation


def test_a_saga_must_end_where_its_failures_send_it() -> None:
    assert ended(pb.Saga(state=SAGA_STATE_COMPLETED)) == []
    assert ended(pb.Saga(state=SAGA_STATE_COMPENSATED)) == ["it ended COMPENSATED and not COMPLETED"]
    either = Path((), (), frozenset({SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED}))
    assert ended(pb.Saga(state=SAGA_STATE_COMPENSATED), either) == []


def test_it_may_end_otherwise_where_a_participant_refused_or_a_failure_was_not_reached() -> None:
    refused = pb.Saga(state=SAGA_STATE_COMPENSATED, failure=Failure(kind=FAILURE_KIND_REJECTED, reason="OUT_OF_STOCK"))
    assert ended(refused) == []
    assert ended(pb.Saga(state=SAGA_STATE_COMPENSATED), all_reached=False) == []


def test_it_must_end_whatever_happened() -> None:
    waits = [pb.Wait(step=pb.StepWait(step="a")), pb.Wait(timer=pb.TimerWait())]
    stuck = pb.Saga(state=SAGA_STATE_COMPENSATING, waits=waits)
    assert ended(stuck, all_reached=False) == ["it is stuck in COMPENSATING, waiting for `a`"]


def test_failed_is_an_end_that_somebody_is_called_for() -> None:
    late = Failure(kind=FAILURE_KIND_REJECTED, step="a", reason="TOO_LATE")
    step = pb.Step(state=STEP_STATE_COMPENSATION_FAILED, compensate=pb.OperationProgress(last_failure=late))
    saga = pb.Saga(state=SAGA_STATE_FAILED, failure=Failure(kind=FAILURE_KIND_CANCELLED), steps=[step])
    assert ended(saga) == ["it stands FAILED, and needs an operator: TOO_LATE at `a`"]
    assert ended(pb.Saga(state=SAGA_STATE_FAILED, failure=late)) == [
        "it stands FAILED, and needs an operator: TOO_LATE at `a`"
    ]


@pytest.mark.parametrize(
    ("failure", "own"),
    [
        (Failure(), False),
        (Failure(kind=FAILURE_KIND_CANCELLED), False),
        (Failure(kind=FAILURE_KIND_LOST), False),
        (Failure(kind=FAILURE_KIND_REJECTED, reason=REHEARSED), False),
        (Failure(kind=FAILURE_KIND_REJECTED, reason="OUT_OF_STOCK"), True),
        (Failure(kind=FAILURE_KIND_UNAVAILABLE), True),
    ],
)
def test_what_the_rehearsal_made_is_told_from_what_a_participant_did(failure: Failure, own: bool) -> None:
    assert (checks.own_refusal(pb.Saga(failure=failure)) is not None) is own


def test_protocol_violations_are_read_from_the_journal() -> None:
    violation = Failure(kind=FAILURE_KIND_PROTOCOL_VIOLATION, message="no outcome")
    failed = AttemptFailed(step="a", operation=EXECUTE, attempt=2, failure=violation)
    busy = AttemptFailed(step="a", operation=EXECUTE, attempt=1, failure=BUSY.failure)
    events = [SagaEvent(), SagaEvent(attempt_failed=busy), SagaEvent(attempt_failed=failed)]
    assert list(checks.protocol_violations(events)) == [f"{Attempt('a', EXECUTE, 2)}: a protocol violation: no outcome"]
