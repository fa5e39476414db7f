"""Exit codes and messages are a contract with scripts and with people (G13: every problem is named)."""

import socket

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, PreconditionFailure, RetryInfo
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.cli.errors import ExitCode, code_of_state, has_stopped
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import types_pb2 as types
from tests.coordinator.cli.fake import FakeCoordinator, saga, status


def test_the_exit_codes_are_what_the_help_says() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    for code in ExitCode:
        assert f"\n {code.value}  " in shown
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 7, 130]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (types.SAGA_STATE_COMPLETED, ExitCode.OK),
        (types.SAGA_STATE_COMPENSATED, ExitCode.COMPENSATED),
        (types.SAGA_STATE_FAILED, ExitCode.FAILED),
        (types.SAGA_STATE_RUNNING, ExitCode.STILL_RUNNING),
        (types.SAGA_STATE_COMPENSATING, ExitCode.STILL_RUNNING),
        (types.SAGA_STATE_PENDING, ExitCode.STILL_RUNNING),
    ],
)
def test_a_state_is_an_exit_code(state: types.SagaState.ValueType, code: ExitCode) -> None:
    assert code_of_state(state) == code
    assert has_stopped(state) == (code != ExitCode.STILL_RUNNING)


def test_every_violation_is_shown_and_how_many_more_there_are(fake: FakeCoordinator) -> None:
    bad = BadRequest()
    bad.field_violations.add(field="saga_id", description="`a b` is not a saga id (expected: 1–128 of …)")
    bad.field_violations.add(field="labels", description="65 labels")
    fake.answers["GetSaga"] = status(
        grpc.StatusCode.INVALID_ARGUMENT,
        "saga_id: …; labels: …",
        types.ERROR_REASON_INVALID_REQUEST,
        bad,
        problems="12",
    )
    result = fake.run("get", "a b")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr.splitlines() == [
        "error: the request is invalid (INVALID_REQUEST)",
        "  saga_id: `a b` is not a saga id (expected: 1–128 of …)",
        "  labels: 65 labels",
        "  … and 10 more",
    ]
    assert result.stdout == ""


def test_a_precondition_is_explained(fake: FakeCoordinator) -> None:
    failure = PreconditionFailure()
    failure.violations.add(type="STATE", subject="saga", description="it cannot go back; wait for the pivot")
    fake.answers["CancelSaga"] = status(
        grpc.StatusCode.FAILED_PRECONDITION, "it cannot go back", types.ERROR_REASON_STATE_FORBIDS, failure
    )
    result = fake.run("cancel", "order-42")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == "error: it cannot go back (STATE_FORBIDS)\n  wait for the pivot\n"


def test_a_limit_says_when_to_come_back(fake: FakeCoordinator) -> None:
    again = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    fake.answers["ListSagas"] = status(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls", types.ERROR_REASON_OVER_LIMIT, again
    )
    result = fake.run("list")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == "error: too many calls (OVER_LIMIT)\n  try again in 1.5s\n"
    assert len(fake.requests["ListSagas"]) == 1


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, and nobody listens
        result = CliRunner().invoke(app, ["list"], env={"SAGA_SERVER": f"127.0.0.1:{free.getsockname()[1]}"})
        assert result.exit_code == ExitCode.UNAVAILABLE
        assert f"error: no coordinator answers at 127.0.0.1:{free.getsockname()[1]} (UNAVAILABLE: " in result.stderr
        assert "Connection refused" in result.stderr  # and not how the attempts to connect were timed
        assert "  start one with `saga serve`, or name another with --server\n" in result.stderr


def test_a_journal_that_cannot_be_used_is_unavailable(fake: FakeCoordinator) -> None:
    fake.answers["GetSaga"] = status(
        grpc.StatusCode.UNAVAILABLE, "the journal cannot be written", types.ERROR_REASON_JOURNAL_UNAVAILABLE
    )
    result = fake.run("get", "order-42")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr == "error: the journal cannot be written (JOURNAL_UNAVAILABLE)\n"


def test_a_participant_that_is_down_is_the_coordinators_answer_not_its_absence(fake: FakeCoordinator) -> None:
    fake.answers["RefreshParticipant"] = status(
        grpc.StatusCode.UNAVAILABLE, "inventory did not answer", types.ERROR_REASON_PARTICIPANT_UNAVAILABLE
    )
    result = fake.run("participants", "refresh", "inventory")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == "error: inventory did not answer (PARTICIPANT_UNAVAILABLE)\n"
    assert len(fake.requests["RefreshParticipant"]) == 1


def test_what_another_server_says_is_shown_too(fake: FakeCoordinator) -> None:
    def unimplemented(_request: pb.GetSagaRequest) -> None:
        raise NotImplementedError("nothing here")

    fake.answers["GetSaga"] = unimplemented
    result = fake.run("get", "order-42")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr.startswith("error: ")
    assert "(UNKNOWN)" in result.stderr


def test_messages_cannot_steer_the_terminal(fake: FakeCoordinator) -> None:
    fake.answers["GetSaga"] = status(grpc.StatusCode.NOT_FOUND, "no\x1b[2Jsaga\n", types.ERROR_REASON_SAGA_NOT_FOUND)
    assert fake.run("get", "x").stderr == "error: no\\x1b[2Jsaga\\n (SAGA_NOT_FOUND)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["get"],
        ["nothing"],
        ["list", "--state", "done"],
        ["list", "--label", "colour"],
        ["list", "--label", "a=1", "--label", "a=2"],
        ["list", "--since", "yesterday"],
        ["start", "order_fulfillment", "--timeout", "5 minutes"],
        ["start", "order_fulfillment", "--timeout", "-5m"],
        ["start", "order_fulfillment", "--input", "@no/such/file"],
        ["definition", "apply", "no/such/file"],
        ["--call-timeout", "soon", "list"],
        ["--server", "http://127.0.0.1:7400", "list"],
        ["list", "-o", "yaml"],
    ],
)
def test_wrong_usage_makes_no_call(fake: FakeCoordinator, arguments: list[str]) -> None:
    result = fake.run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr
    assert fake.requests == {}


def test_interrupted_quietly(fake: FakeCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    fake.answers["GetSaga"] = pb.GetSagaResponse(saga=saga())
    monkeypatch.setattr("coordinator.cli.connection.Connection.watch", interrupted)
    result = fake.run("watch", "order-42")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert result.output == ""
