"""What can go wrong, as a person reads it and as a script sees it: one line and its details, and an exit code.

The exit codes are part of the contract: scripts depend on them. An expected error never shows a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any as PythonAny
from typing import Final, cast

import grpc
import typer
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from typer.core import TyperGroup

from coordinator.cli.output import visible
from coordinator.core.definition import Problem
from coordinator.dataflow import durations
from saga.v1.types_pb2 import (
    ERROR_REASON_DEFINITION_INVALID,
    ERROR_REASON_INVALID_REQUEST,
    ERROR_REASON_PARTICIPANT_UNAVAILABLE,
    ERROR_REASON_UNSPECIFIED,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    ErrorReason,
    SagaState,
)


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    COMPENSATED = 4
    FAILED = 5
    STILL_RUNNING = 6
    INCOMPLETE = 7
    INTERRUPTED = 130


EXIT_CODES_HELP: Final = "\n\n".join(
    (
        "Exit codes:",
        "0  done; of --wait and --follow: the saga is COMPLETED",
        "1  refused: the request is invalid, not found, or not allowed as things stand",
        "2  wrong usage or configuration",
        "3  the coordinator cannot be reached, is unavailable, or did not answer in time",
        "4  the saga ended COMPENSATED (--wait, --follow)",
        "5  the saga stands FAILED (--wait, --follow)",
        "6  the saga was still running when --wait-timeout was over",
        "7  explored in part only: --max-states was reached (explore)",
        "130  interrupted; the saga goes on",
    )
)

_BY_STATE: Final = {
    SAGA_STATE_COMPLETED: ExitCode.OK,
    SAGA_STATE_COMPENSATED: ExitCode.COMPENSATED,
    SAGA_STATE_FAILED: ExitCode.FAILED,
}
_NOT_ANSWERED: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
_REASON_PREFIX: Final = "ERROR_REASON_"
_VIOLATION: Final = re.compile(r"(?:(\d+):(\d+): )?(.*)", re.DOTALL)


class CommandError(Exception):
    """A command cannot do what it was asked to: a message in one line, details in a line each."""

    def __init__(
        self,
        message: str,
        code: ExitCode = ExitCode.REFUSED,
        details: Sequence[str] = (),
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = tuple(details)
        self.problems = tuple(problems)  # what the coordinator finds wrong with a definition

    def lines(self) -> Iterator[str]:
        """What is shown."""
        yield f"error: {visible(str(self))}"
        yield from (f"  {visible(detail)}" for detail in self.details)


class Commands(TyperGroup):
    """The root of all commands: a CommandError ends the process with its lines and its code."""

    def invoke(self, ctx: PythonAny) -> PythonAny:
        """Runs a command. `ctx` is typer's, of a class that typer does not export."""
        try:
            return super().invoke(ctx)
        except CommandError as error:
            for line in error.lines():
                typer.echo(line, err=True)
            raise typer.Exit(error.code) from None


def code_of_state(state: SagaState.ValueType) -> ExitCode:
    """How --wait and --follow exit, by where the saga stands."""
    return _BY_STATE.get(state, ExitCode.STILL_RUNNING)


def has_stopped(state: SagaState.ValueType) -> bool:
    """Whether the saga has ended, or stands FAILED."""
    return state in _BY_STATE


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed in a moment: the coordinator, not a participant, could not be used."""
    return (
        error.code() == grpc.StatusCode.UNAVAILABLE and _reason(_status(error)) != ERROR_REASON_PARTICIPANT_UNAVAILABLE
    )


def refusal(error: grpc.RpcError, server: str) -> CommandError:
    """What a failed call means to the person who made it. Everything that the coordinator says is shown."""
    status = _status(error)
    if not status.details and error.code() in _NOT_ANSWERED:
        hint = "start one with `saga serve`, or name another with --server"
        return CommandError(
            f"no coordinator answers at {server} ({error.code().name}: {error.details()})", ExitCode.UNAVAILABLE, [hint]
        )
    reason = _reason(status)
    unavailable = error.code() in _NOT_ANSWERED and reason != ERROR_REASON_PARTICIPANT_UNAVAILABLE
    problems = tuple(_problems(status))
    return CommandError(
        f"{_message(error, reason, problems)} ({_called(error, reason)})",
        ExitCode.UNAVAILABLE if unavailable else ExitCode.REFUSED,
        tuple(_details(status)),
        problems if reason == ERROR_REASON_DEFINITION_INVALID else (),
    )


def _status(error: grpc.RpcError) -> Status:
    """The google.rpc.Status of a failed call; an empty one where there is none that can be read."""
    try:
        return rpc_status.from_call(cast("grpc.Call", error)) or Status()
    except ValueError:  # its code or message contradict the call's
        return Status()


def _reason(status: Status) -> ErrorReason.ValueType:
    """The ErrorReason; unspecified where the status has none or one that is newer than this program."""
    for detail in status.details:
        info = ErrorInfo()
        if detail.Unpack(info) and info.reason in ErrorReason.keys():  # noqa: SIM118  # an enum is no mapping
            return ErrorReason.Value(info.reason)
    return ERROR_REASON_UNSPECIFIED


def _called(error: grpc.RpcError, reason: ErrorReason.ValueType) -> str:
    return ErrorReason.Name(reason).removeprefix(_REASON_PREFIX) if reason else error.code().name


def _message(error: grpc.RpcError, reason: ErrorReason.ValueType, problems: Sequence[Problem]) -> str:
    """The coordinator's words, unless they only repeat the problems, which follow in a line each."""
    if problems and reason in (ERROR_REASON_INVALID_REQUEST, ERROR_REASON_DEFINITION_INVALID):
        return "the definition is invalid" if reason == ERROR_REASON_DEFINITION_INVALID else "the request is invalid"
    return error.details() or "the coordinator gives no reason"


def _problems(status: Status) -> Iterator[Problem]:
    """The violations of a BadRequest, as problems: `line:column: ` in front of one is its place in an expression."""
    for detail in status.details:
        bad = BadRequest()
        if detail.Unpack(bad):
            for violation in bad.field_violations:
                found = _VIOLATION.fullmatch(violation.description)
                line, column, text = found.groups() if found else (None, None, violation.description)
                yield Problem(violation.field.removeprefix("definition."), text, "", int(line or 0), int(column or 0))


def _details(status: Status) -> Iterator[str]:
    """Every detail of a status in a line of its own."""
    shown, counted = 0, 0
    for detail in status.details:
        info, bad, precondition, retry = ErrorInfo(), BadRequest(), PreconditionFailure(), RetryInfo()
        if detail.Unpack(bad):
            shown += len(bad.field_violations)
            yield from (f"{one.field}: {one.description}" for one in bad.field_violations)
        elif detail.Unpack(precondition):
            yield from (_beyond(status.message, one.description) for one in precondition.violations)
        elif detail.Unpack(retry):
            yield f"try again in {durations.write(retry.retry_delay)}"
        elif detail.Unpack(info) and info.metadata["problems"].isdecimal():
            counted = int(info.metadata["problems"])
    if counted > shown:
        yield f"… and {counted - shown} more"


def _beyond(message: str, description: str) -> str:
    """What a description adds to the message that it may begin with."""
    return description.removeprefix(f"{message}; ")
