"""Starting is idempotent (G10), and whoever waits learns from the exit code how it ended."""

import json
import os
import pty
import sys
import time
import uuid
from pathlib import Path
from subprocess import Popen
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.cli import connection
from coordinator.cli.errors import ExitCode
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import event_pb2 as events
from saga.v1 import types_pb2 as types
from saga.v1.types_pb2 import SagaState
from tests.coordinator.cli.fake import FakeCoordinator, at, event, order, saga, status

GONE = status(grpc.StatusCode.UNAVAILABLE, "the coordinator is shutting down", types.ERROR_REASON_SHUTTING_DOWN)
START = ("start", "order_fulfillment", "--input", "{}")
ENDS = [
    (types.SAGA_STATE_COMPLETED, ExitCode.OK),
    (types.SAGA_STATE_COMPENSATED, ExitCode.COMPENSATED),
    (types.SAGA_STATE_FAILED, ExitCode.FAILED),
]
HAPPENED: dict[SagaState.ValueType, dict[str, Any]] = {
    types.SAGA_STATE_COMPLETED: {"saga_completed": events.SagaCompleted()},
    types.SAGA_STATE_COMPENSATED: {"saga_compensated": events.SagaCompensated()},
    types.SAGA_STATE_FAILED: {"saga_failed": events.SagaFailed()},
}


def ended(state: SagaState.ValueType = types.SAGA_STATE_COMPLETED, sequence: int = 3) -> pb.Saga:
    return saga(state, start_time=at(0), last_sequence=sequence, output=order(express=True))


@pytest.fixture
def starting(fake: FakeCoordinator) -> FakeCoordinator:
    """A coordinator on which a saga starts; without an id of its own, one is echoed."""
    fake.answers["StartSaga"] = lambda request: pb.StartSagaResponse(
        saga=saga(saga_id=request.saga_id, last_sequence=1, input=request.input), created=True
    )
    return fake


def test_start_sends_what_it_is_told_and_prints_the_id(starting: FakeCoordinator) -> None:
    result = starting.run(
        *("start", "order_fulfillment", "--input", '{"orderId": "42", "amount": 7}', "--version", "3"),
        *("--id", "order-42", "--label", "region=eu", "--timeout", "5m", "--start-time", "2026-12-01T00:00:00Z"),
    )
    assert (result.exit_code, result.stdout) == (0, "order-42\n")
    assert starting.asked("StartSaga") == pb.StartSagaRequest(
        saga_id="order-42",
        definition="order_fulfillment",
        version=3,
        input=order(order_id="42", amount=7),
        labels={"region": "eu"},
        timeout=Duration(seconds=300),
        start_time=Timestamp(seconds=1_796_083_200),
    )


def test_the_version_is_sent_as_it_was_given(starting: FakeCoordinator) -> None:
    starting.run(*START)
    request = starting.asked("StartSaga")
    assert request.version == 0
    assert request.input == order()
    assert not request.HasField("timeout")
    assert not request.HasField("start_time")


def test_without_an_id_a_repeated_call_carries_the_same_new_one(starting: FakeCoordinator) -> None:
    answer = starting.answers["StartSaga"]
    starting.answers["StartSaga"] = [GONE, answer]
    result = starting.run(*START)
    first, second = starting.requests["StartSaga"]
    assert first == second
    assert result.stdout == f"{uuid.UUID(first.saga_id)}\n"


def test_the_input_may_come_from_a_file_or_the_standard_input(starting: FakeCoordinator, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"orderId": "42"}')
    starting.run("start", "order_fulfillment", "--input", f"@{tmp_path / 'order.json'}")
    starting.run("start", "order_fulfillment", "-i", "-", stdin='{"orderId": "43"}')
    assert [request.input for request in starting.requests["StartSaga"]] == [order(order_id="42"), order(order_id="43")]


def test_a_forgotten_input_starts_nothing_and_the_fields_are_shown(starting: FakeCoordinator) -> None:
    result = starting.run("start", "order_fulfillment")
    assert result.exit_code == ExitCode.REFUSED
    first, *fields, way_out = result.stderr.splitlines()
    assert first == "error: no input is given: order_fulfillment takes a `shop.v1.Order`"
    assert {
        "  orderId: string",
        "  amount: int64",
        "  lines: repeated shop.v1.Line",
        "  stock: map<string, int32>",
        "  placed: google.protobuf.Timestamp",
        "  priority: shop.v1.Priority",
    } <= set(fields)
    assert "--input '{}'" in way_out
    assert "StartSaga" not in starting.requests


def test_an_input_without_fields_need_not_be_given(starting: FakeCoordinator) -> None:
    found = starting.answers["GetDefinition"]
    found.definition.input_type = "google.protobuf.Empty"
    Empty.DESCRIPTOR.file.CopyToProto(found.descriptors.file.add())
    assert starting.run("start", "order_fulfillment").exit_code == 0
    assert starting.asked("StartSaga").input.TypeName() == "google.protobuf.Empty"


def test_an_input_type_that_nobody_describes_starts_nothing(starting: FakeCoordinator) -> None:
    starting.answers["GetDefinition"].definition.input_type = "other.v1.Thing"
    result = starting.run("start", "order_fulfillment")
    assert result.exit_code == ExitCode.REFUSED
    assert "message type `other.v1.Thing` is not described" in result.stderr
    assert "StartSaga" not in starting.requests


def test_an_input_that_does_not_fit_starts_nothing(starting: FakeCoordinator) -> None:
    result = starting.run("start", "order_fulfillment", "--input", '{"orderNumber": 1}')
    assert result.exit_code == ExitCode.REFUSED
    assert "orderNumber" in result.stderr
    assert "expected a `shop.v1.Order`" in result.stderr
    assert "StartSaga" not in starting.requests


def test_start_as_json(starting: FakeCoordinator) -> None:
    result = starting.run("start", "order_fulfillment", "--id", "a", "--input", '{"orderId": "42"}', "-o", "json")
    shown = json.loads(result.stdout)
    assert (shown["sagaId"], shown["input"]["orderId"]) == ("a", "42")


@pytest.mark.parametrize(("state", "code"), ENDS)
def test_wait_shows_the_end_and_exits_by_it(
    starting: FakeCoordinator, state: SagaState.ValueType, code: ExitCode
) -> None:
    starting.answers["WaitSaga"] = [
        pb.WaitSagaResponse(saga=saga()),
        GONE,
        pb.WaitSagaResponse(saga=ended(state), ended=True),
    ]
    result = starting.run(*START, "--id", "order-42", "--wait")
    assert result.exit_code == code
    name = SagaState.Name(state).removeprefix("SAGA_STATE_")
    assert result.stdout.startswith(f"order-42\norder_fulfillment@3  {name}  order-42\n")
    first = starting.requests["WaitSaga"][0]
    assert first == pb.WaitSagaRequest(saga_id="order-42", timeout=Duration(seconds=30), payloads=pb.PAYLOAD_VIEW_NONE)


def test_wait_as_json_is_one_document(starting: FakeCoordinator) -> None:
    starting.answers["WaitSaga"] = pb.WaitSagaResponse(saga=ended(), ended=True)
    result = starting.run(*START, "--wait", "-o", "json")
    assert json.loads(result.stdout)["output"]["express"] is True
    assert starting.asked("WaitSaga").payloads == pb.PAYLOAD_VIEW_FULL


def test_a_saga_that_had_ended_is_not_waited_for(starting: FakeCoordinator) -> None:
    starting.answers["StartSaga"] = pb.StartSagaResponse(saga=ended(types.SAGA_STATE_FAILED))
    assert starting.run(*START, "--wait").exit_code == ExitCode.FAILED


def test_the_wait_has_an_end_of_its_own(starting: FakeCoordinator) -> None:
    def still_running(request: pb.WaitSagaRequest) -> pb.WaitSagaResponse:
        time.sleep(request.timeout.ToTimedelta().total_seconds())  # what the coordinator does
        return pb.WaitSagaResponse(saga=saga())

    starting.answers["WaitSaga"] = still_running
    result = starting.run(*START, "--wait", "--wait-timeout", "1s")
    assert result.exit_code == ExitCode.STILL_RUNNING
    assert "RUNNING" in result.stdout
    assert starting.requests["WaitSaga"][0].timeout.ToNanoseconds() <= 1_000_000_000


def stream(state: SagaState.ValueType) -> list[pb.WatchSagaResponse]:
    return [
        pb.WatchSagaResponse(event=event(1, saga_created=events.SagaCreated(definition="d", version=3))),
        pb.WatchSagaResponse(event=event(2, saga_started=events.SagaStarted())),
        pb.WatchSagaResponse(event=event(3, **HAPPENED[state]), state=state),
        pb.WatchSagaResponse(event=event(4, saga_overdue=events.SagaOverdue())),  # follows only if it is not stopped
    ]


@pytest.mark.parametrize(("state", "code"), ENDS)
def test_follow_shows_a_line_per_event_until_the_saga_stops(
    starting: FakeCoordinator, state: SagaState.ValueType, code: ExitCode
) -> None:
    starting.answers["WatchSaga"] = [stream(state)]
    starting.answers["GetSaga"] = [
        pb.GetSagaResponse(saga=saga(last_sequence=2)),
        pb.GetSagaResponse(saga=ended(state)),
    ]
    result = starting.run(*START, "--id", "order-42", "--follow")
    assert result.exit_code == code
    first, *lines = result.stdout.splitlines()
    assert first == "order-42"
    happened = next(iter(HAPPENED[state].values())).DESCRIPTOR.name
    assert [line.split()[2] for line in lines] == ["SagaCreated", "SagaStarted", happened]


def test_follow_passes_a_failure_that_was_overcome(starting: FakeCoordinator) -> None:
    failed, completed = HAPPENED[types.SAGA_STATE_FAILED], HAPPENED[types.SAGA_STATE_COMPLETED]
    starting.answers["StartSaga"] = pb.StartSagaResponse(saga=ended(sequence=4))
    starting.answers["WatchSaga"] = [
        [
            pb.WatchSagaResponse(event=event(3, **failed), state=types.SAGA_STATE_FAILED),
            pb.WatchSagaResponse(event=event(4, **completed), state=types.SAGA_STATE_COMPLETED),
        ]
    ]
    result = starting.run(*START, "--follow")
    assert result.exit_code == ExitCode.OK
    assert "GetSaga" not in starting.requests  # all of it is known from the start


def test_follow_as_json_is_one_event_a_line(starting: FakeCoordinator) -> None:
    starting.answers["WatchSaga"] = [stream(types.SAGA_STATE_COMPLETED)]
    starting.answers["GetSaga"] = pb.GetSagaResponse(saga=ended())
    result = starting.run(*START, "--follow", "-o", "json")
    assert [json.loads(line)["sequence"] for line in result.stdout.splitlines()] == ["1", "2", "3"]
    assert starting.asked("WatchSaga").payloads == pb.PAYLOAD_VIEW_FULL


def test_a_stream_that_ends_early_is_not_taken_for_the_end(starting: FakeCoordinator) -> None:
    starting.answers["WatchSaga"] = [[]]
    starting.answers["WaitSaga"] = pb.WaitSagaResponse(saga=ended(), ended=True)
    assert starting.run(*START, "--follow").exit_code == ExitCode.OK


def test_on_a_terminal_the_saga_is_drawn_in_colours_as_it_changes(starting: FakeCoordinator) -> None:
    starting.answers["WatchSaga"] = [stream(types.SAGA_STATE_COMPLETED)]
    starting.answers["GetSaga"] = [pb.GetSagaResponse(saga=saga(last_sequence=2)), pb.GetSagaResponse(saga=ended())]
    shown, code = on_terminal(starting, *START, "--id", "order-42", "--follow")
    assert code == ExitCode.OK
    assert "\x1b[32mCOMPLETED" in shown
    assert "SagaCreated" not in shown


def test_no_color_is_honoured_on_a_terminal(starting: FakeCoordinator) -> None:
    starting.answers["GetSaga"] = pb.GetSagaResponse(saga=saga(types.SAGA_STATE_FAILED))
    coloured, _ = on_terminal(starting, "get", "order-42")
    plain, _ = on_terminal(starting, "get", "order-42", NO_COLOR="1")
    assert "\x1b[1;31mFAILED" in coloured
    assert "31m" not in plain


def on_terminal(fake: FakeCoordinator, *arguments: str, **environment: str) -> tuple[str, int]:
    """What `saga` writes to a terminal, and its exit code."""
    master, slave = pty.openpty()
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = Popen(
        [sys.executable, "-m", "coordinator.cli", "--server", fake.address, *arguments],
        stdin=slave,
        stdout=slave,
        env=variables | {"TERM": "xterm-256color"} | environment,
    )
    os.close(slave)
    written = bytearray()
    try:
        while chunk := os.read(master, 65536):
            written += chunk
    except OSError:
        pass  # Linux says EIO when the other side is closed
    finally:
        os.close(master)
    return written.decode(), process.wait(timeout=30)


@pytest.mark.parametrize(
    ("rpc", "hint"),
    [
        ("StartSaga", "the saga may have been started all the same; look with `saga get order-42`"),
        ("WatchSaga", "the saga was started, and goes on without this command; look with `saga get order-42`"),
    ],
)
def test_who_loses_the_coordinator_learns_how_to_look_for_the_saga(
    starting: FakeCoordinator, monkeypatch: pytest.MonkeyPatch, rpc: str, hint: str
) -> None:
    monkeypatch.setattr(connection, "_PATIENT_S", (0.01,) * 2)
    starting.answers[rpc] = [GONE] if rpc == "StartSaga" else [[GONE]]
    result = starting.run(*START, "--id", "order-42", "--follow")
    assert result.exit_code == ExitCode.UNAVAILABLE
    outage, *_error, last = result.stderr.splitlines()
    assert outage == f"the coordinator at {starting.address} does not answer; looking for it"
    assert last == f"  {hint}"
