"""What an operator tells a saga reaches the coordinator as meant, and a dry run says that it changed nothing."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.cli.errors import ExitCode
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import types_pb2 as types
from saga.v1.types_pb2 import Compensated, Completed, Confirmed, Rejected
from tests.coordinator.cli.fake import FakeCoordinator, at, order, saga, status

TYPE = "type.googleapis.com/shop.v1.Order"
NAMED = f'{{"@type": "{TYPE}", "orderId": "42"}}'
RESOLVE = ("resolve", "order-42", "charge", "--reason", "asked the bank", "--actor", "ann")
COMPLETE = ("complete", "order-42", "charge", "--key", "key-1")
STEERING: dict[str, tuple[Any, Any]] = {
    "cancel": (pb.CancelSagaRequest, pb.CancelSagaResponse),
    "pause": (pb.PauseSagaRequest, pb.PauseSagaResponse),
    "resume": (pb.ResumeSagaRequest, pb.ResumeSagaResponse),
    "retry": (pb.RetrySagaRequest, pb.RetrySagaResponse),
}


@pytest.fixture
def operated(fake: FakeCoordinator) -> FakeCoordinator:
    """A coordinator whose saga has a step `charge` without and a step `reserve` with an output."""
    steps = [pb.Step(name="charge"), pb.Step(name="reserve", output=order(order_id="41"))]
    fake.answers["GetSaga"] = pb.GetSagaResponse(saga=saga(steps=steps))
    for command, (_, response) in STEERING.items():
        fake.answers[f"{command.capitalize()}Saga"] = response(saga=saga())
    fake.answers["ResolveStep"] = pb.ResolveStepResponse(saga=saga(steps=steps))
    fake.answers["CompleteStep"] = pb.CompleteStepResponse(saga=saga(steps=steps))
    return fake


@pytest.mark.parametrize("command", STEERING)
def test_steering(operated: FakeCoordinator, command: str) -> None:
    result = operated.run(command, "order-42", "--reason", "why", "--actor", "ann", "--expected-sequence", "7")
    assert (result.exit_code, result.stdout) == (0, "order-42  RUNNING\n")
    request, _ = STEERING[command]
    assert operated.asked(f"{command.capitalize()}Saga") == request(
        saga_id="order-42", reason="why", actor="ann", expected_sequence=7
    )
    assert json.loads(operated.run(command, "order-42", "-o", "json").stdout)["state"] == "SAGA_STATE_RUNNING"


def test_the_answer_says_what_else_holds_of_the_saga(operated: FakeCoordinator) -> None:
    operated.answers["PauseSaga"] = pb.PauseSagaResponse(saga=saga(paused=True))
    assert operated.run("pause", "order-42").stdout == "order-42  RUNNING  paused\n"


@pytest.mark.parametrize("command", [*STEERING, "resolve"])
def test_who_runs_the_command_is_named(
    operated: FakeCoordinator, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("LOGNAME", "bob")
    if command == "resolve":
        operated.run("resolve", "order-42", "charge", "--no-effect", "--reason", "why")
        assert operated.asked("ResolveStep").actor == "bob"
    else:
        operated.run(command, "order-42")
        assert operated.asked(f"{command.capitalize()}Saga").actor == "bob"


def test_where_the_system_does_not_know_who_runs_it_nobody_is_named(
    operated: FakeCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert operated.run("cancel", "order-42").exit_code == 0
    assert operated.asked("CancelSaga").actor == ""


def test_a_refusal_is_shown_with_what_would_be_possible(operated: FakeCoordinator) -> None:
    operated.answers["ResumeSaga"] = status(
        grpc.StatusCode.FAILED_PRECONDITION, "the saga is not paused", types.ERROR_REASON_STATE_FORBIDS
    )
    result = operated.run("resume", "order-42")
    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "")
    assert result.stderr == "error: the saga is not paused (STATE_FORBIDS)\n"


@pytest.mark.parametrize(
    ("option", "stated"),
    [
        ("--no-effect", {"no_effect": pb.NoEffect()}),
        ("--compensated", {"compensated": Compensated()}),
        ("--confirmed", {"confirmed": Confirmed()}),
    ],
)
def test_resolve(operated: FakeCoordinator, option: str, stated: dict[str, Any]) -> None:
    result = operated.run(*RESOLVE, option, "--expected-sequence", "7")
    assert (result.exit_code, result.stdout) == (0, "order-42  RUNNING\n")
    assert operated.asked("ResolveStep") == pb.ResolveStepRequest(
        saga_id="order-42", step="charge", reason="asked the bank", actor="ann", expected_sequence=7, **stated
    )


@pytest.mark.parametrize(("command", "rpc"), [(RESOLVE, "ResolveStep"), (COMPLETE, "CompleteStep")])
def test_an_output_may_name_its_type(operated: FakeCoordinator, command: tuple[str, ...], rpc: str) -> None:
    result = operated.run(*command, "--completed", NAMED, "--hold-until", "2026-09-21T14:14:20Z")
    assert result.exit_code == 0
    assert operated.asked(rpc).completed == Completed(output=order(order_id="42"), hold_until=at(60))
    definition = operated.asked("GetDefinition")
    assert (definition.name, definition.version) == ("order_fulfillment", 3)  # the saga's own version (G11)


def test_an_output_comes_from_a_file_or_the_standard_input(operated: FakeCoordinator, tmp_path: Path) -> None:
    file = tmp_path / "output.json"
    file.write_text(NAMED, "utf-8")
    operated.run(*RESOLVE, "--completed", f"@{file}")
    operated.run(*RESOLVE, "--completed", "-", stdin=NAMED)
    assert [each.completed.output for each in operated.requests["ResolveStep"]] == [order(order_id="42")] * 2
    missing = operated.run(*RESOLVE, "--completed", f"@{tmp_path}/missing.json")
    assert missing.exit_code == ExitCode.USAGE
    assert "the output cannot be read" in missing.stderr


@pytest.mark.parametrize(("command", "rpc"), [(RESOLVE, "ResolveStep"), (COMPLETE, "CompleteStep")])
def test_an_output_that_cannot_be_read_is_not_sent(
    operated: FakeCoordinator, command: tuple[str, ...], rpc: str
) -> None:
    result = operated.run(*command, "--completed", '{"@type": "type.googleapis.com/other.v1.Thing"}')
    assert result.exit_code == ExitCode.REFUSED
    assert "other.v1.Thing" in result.stderr
    assert rpc not in operated.requests


def test_a_dry_run_shows_the_saga_as_it_would_be_and_says_that_nothing_was_changed(operated: FakeCoordinator) -> None:
    after = saga(types.SAGA_STATE_COMPENSATING, steps=[pb.Step(name="charge", state=types.STEP_STATE_WAITING)])
    operated.answers["ResolveStep"] = pb.ResolveStepResponse(saga=after)
    result = operated.run(*RESOLVE, "--no-effect", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "dry run, nothing was changed; the saga would stand so:\n\norder_fulfillment@3  COMPENSATING  order-42\n"
    )
    assert "charge  WAITING" in result.stdout
    assert operated.asked("ResolveStep").dry_run


def test_a_dry_run_as_json_is_the_saga(operated: FakeCoordinator) -> None:
    shown = operated.run(*RESOLVE, "--no-effect", "--dry-run", "-o", "json")
    assert json.loads(shown.stdout)["sagaId"] == "order-42"


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        (["--rejected", "NO_STREET", "--message", "m"], {"rejected": Rejected(reason="NO_STREET", message="m")}),
        (["--rejected", "NO_STREET"], {"rejected": Rejected(reason="NO_STREET")}),
        (["--compensated"], {"compensated": Compensated()}),
        (["--confirmed"], {"confirmed": Confirmed()}),
        (["--failed", "the press jammed"], {"failed": pb.Failed(message="the press jammed")}),
        (["--failed", ""], {"failed": pb.Failed()}),
    ],
)
def test_complete(operated: FakeCoordinator, options: list[str], outcome: dict[str, Any]) -> None:
    result = operated.run(*COMPLETE, *options)
    assert (result.exit_code, result.stdout) == (0, "order-42  RUNNING\n")
    assert operated.asked("CompleteStep") == pb.CompleteStepRequest(
        saga_id="order-42", step="charge", idempotency_key="key-1", **outcome
    )


@pytest.mark.parametrize(
    "arguments",
    [
        RESOLVE,
        (*RESOLVE, "--no-effect", "--compensated"),
        (*RESOLVE, "--completed", "{}", "--no-effect"),
        (*RESOLVE, "--no-effect", "--hold-until", "1h"),
        ("resolve", "order-42", "charge", "--no-effect"),
        COMPLETE,
        (*COMPLETE, "--compensated", "--confirmed"),
        (*COMPLETE, "--failed", "a", "--rejected", "B"),
        (*COMPLETE, "--failed", "a", "--message", "b"),
        (*COMPLETE, "--compensated", "--hold-until", "1h"),
        ("complete", "order-42", "charge", "--compensated"),
    ],
)
def test_wrong_usage_makes_no_call(operated: FakeCoordinator, arguments: tuple[str, ...]) -> None:
    assert operated.run(*arguments).exit_code == ExitCode.USAGE
    assert operated.requests == {}
