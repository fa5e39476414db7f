"""The barrier's rules: what a row says, and what follows for a call that meets it. Pure: no store, no clock, no I/O.

A row is one step of one saga, as this participant knows it. Between calls it stands in one of these states:

    (no row)      nothing is known of the step
    STARTED       an external Execute began; whether it had its effect is not known
    PENDING       Execute was accepted and is not finished
    COMPLETED     Execute took effect
    REJECTED      Execute was refused, with a promise that covers attempts up to the stored one
    COMPENSATING  Compensate began, and was pending, refused or cut off
    COMPENSATED   Compensate took effect
    BARRED        Compensate came and found nothing
    CONFIRMING    Confirm began, and was pending, refused or cut off
    CONFIRMED     Confirm took effect

`_RULES` below is the whole table; a combination that is not in it does not exist. From COMPENSATING on an Execute is
barred for good (G8): whatever still travels can no longer take effect.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from participant_sdk import replies
from participant_sdk.call import Call
from participant_sdk.errors import CallError
from participant_sdk.outcome import Rejected
from participant_sdk.replies import Reply
from saga.v1.participant_pb2 import CompensateResponse, ExecuteResponse
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Compensated,
    Completed,
    Operation,
)


class State(StrEnum):
    """Where a row stands."""

    STARTED = "STARTED"
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    BARRED = "BARRED"
    CONFIRMING = "CONFIRMING"
    CONFIRMED = "CONFIRMED"


UNFINISHED: Final = (State.STARTED, State.PENDING, State.COMPENSATING, State.CONFIRMING)
"""States in which a participant still owes something; rows in them are never pruned."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The last reply of one operation, and which attempt it answered."""

    reply: bytes
    attempt: int


@dataclass(frozen=True, slots=True)
class Row:
    """What the barrier remembers of one step of one saga."""

    saga_uid: str
    step: str
    saga_id: str
    action: str
    input_type: str
    input: bytes
    state: State
    execute: Stored | None = None
    compensate: Stored | None = None
    confirm: Stored | None = None
    handler: str = ""
    """Of an external action: which handler runs for this row; empty where none does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer is known: no handler runs. `row` is to be stored first, where it is set."""

    reply: bytes
    row: Row | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The handler runs. `row` is the step's row from here on, until the handler has answered."""

    row: Row
    output: AnyMessage | None = None
    """What Execute returned, for the handler of Compensate or Confirm; None where that is not known."""
    pending: bool = False
    """An earlier call of the same operation answered `Pending`."""


Verdict: TypeAlias = Answer | Run


def decide(row: Row | None, call: Call) -> Verdict:
    """Return what follows for a call that meets a row. Errors: `CallError` FAILED_PRECONDITION, KEY_REUSED."""
    if row is None:
        return _RULES_WITHOUT_ROW[call.operation](call)
    if not _same_request(row, call):
        raise CallError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "KEY_REUSED",
            "this step of this saga was called before with another action, input type or input",
        )
    return _RULES[call.operation, row.state](row, call)


def answered(run: Run, call: Call, reply: Reply) -> Row:
    """Return the row once the handler has given its reply."""
    stored = Stored(replies.serialized(reply), call.context.attempt)
    state = _STATE_AFTER[call.operation, replies.outcome_of(reply)]
    return _with_reply(replace(run.row, state=state, handler=""), call.operation, stored)


def keeps_writes(run: Run, reply: Reply) -> bool:
    """Whether what the handler wrote commits: all but a rejection's; out of Pending, a rejection's is its clean-up."""
    return run.pending or replies.outcome_of(reply) != "rejected"


# Rules for a row that exists.


def _resume(row: Row, call: Call) -> Verdict:
    """Give the stored reply if it is final for this attempt, else run the handler, on what is known."""
    stored = _reply_of(row, call.operation)
    outcome = replies.outcome_of(replies.parsed(call.operation, stored.reply)) if stored else ""
    covered = outcome == "rejected" and stored is not None and call.context.attempt <= stored.attempt
    if stored is not None and (covered or outcome in _DONE):
        return Answer(stored.reply)
    pending = outcome == "pending"
    state = row.state if pending else _STATE_DURING[call.operation]
    return Run(replace(row, state=state), output=_output_of(row), pending=pending)


def _bar(row: Row, call: Call) -> Verdict:
    stored = Stored(_NOOP, call.context.attempt)
    return Answer(_NOOP, replace(row, state=State.BARRED, compensate=stored))


def _refuse_barred(_row: Row, call: Call) -> Verdict:
    return _refusal(call, "BARRED", "the step has been compensated")


def _refuse_confirmed(_row: Row, call: Call) -> Verdict:
    return _refusal(call, "CONFIRMED", "the hold has been made final")


def _refuse_unexecuted(_row: Row, call: Call) -> Verdict:
    return _refusal(call, "NOT_EXECUTED", "there is no hold of this step")


def _confirm_as_reported(row: Row, call: Call) -> Verdict:
    """Confirm a step whose completion was reported to the coordinator and not to this row, with that output."""
    if call.output is None:
        return _refuse_unexecuted(row, call)
    completed = replies.serialized(ExecuteResponse(completed=Completed(output=call.output)))
    return _resume(replace(row, execute=Stored(completed, call.context.attempt)), call)


# Rules where there is no row.


def _run_first(call: Call) -> Verdict:
    return Run(_new_row(call, State.STARTED))


def _bar_first(call: Call) -> Verdict:
    return _bar(_new_row(call, State.BARRED), call)


def _refuse_first(call: Call) -> Verdict:
    return _refusal(call, "NOT_EXECUTED", "there is no hold of this step")


_RULES_WITHOUT_ROW: Final[Mapping[Operation.ValueType, Callable[[Call], Verdict]]] = {
    OPERATION_EXECUTE: _run_first,
    OPERATION_COMPENSATE: _bar_first,
    OPERATION_CONFIRM: _refuse_first,
}

_RULES: Final[Mapping[tuple[Operation.ValueType, State], Callable[[Row, Call], Verdict]]] = {
    (OPERATION_EXECUTE, State.STARTED): _resume,
    (OPERATION_EXECUTE, State.PENDING): _resume,
    (OPERATION_EXECUTE, State.COMPLETED): _resume,
    (OPERATION_EXECUTE, State.REJECTED): _resume,
    (OPERATION_EXECUTE, State.COMPENSATING): _refuse_barred,
    (OPERATION_EXECUTE, State.COMPENSATED): _refuse_barred,
    (OPERATION_EXECUTE, State.BARRED): _refuse_barred,
    (OPERATION_EXECUTE, State.CONFIRMING): _resume,
    (OPERATION_EXECUTE, State.CONFIRMED): _resume,
    (OPERATION_COMPENSATE, State.STARTED): _resume,
    (OPERATION_COMPENSATE, State.PENDING): _resume,
    (OPERATION_COMPENSATE, State.COMPLETED): _resume,
    (OPERATION_COMPENSATE, State.REJECTED): _bar,
    (OPERATION_COMPENSATE, State.COMPENSATING): _resume,
    (OPERATION_COMPENSATE, State.COMPENSATED): _resume,
    (OPERATION_COMPENSATE, State.BARRED): _resume,
    (OPERATION_COMPENSATE, State.CONFIRMING): _refuse_confirmed,
    (OPERATION_COMPENSATE, State.CONFIRMED): _refuse_confirmed,
    (OPERATION_CONFIRM, State.STARTED): _confirm_as_reported,
    (OPERATION_CONFIRM, State.PENDING): _confirm_as_reported,
    (OPERATION_CONFIRM, State.COMPLETED): _resume,
    (OPERATION_CONFIRM, State.REJECTED): _refuse_unexecuted,
    (OPERATION_CONFIRM, State.COMPENSATING): _refuse_barred,
    (OPERATION_CONFIRM, State.COMPENSATED): _refuse_barred,
    (OPERATION_CONFIRM, State.BARRED): _refuse_barred,
    (OPERATION_CONFIRM, State.CONFIRMING): _resume,
    (OPERATION_CONFIRM, State.CONFIRMED): _resume,
}

_STATE_DURING: Final[Mapping[Operation.ValueType, State]] = {
    OPERATION_EXECUTE: State.STARTED,
    OPERATION_COMPENSATE: State.COMPENSATING,
    OPERATION_CONFIRM: State.CONFIRMING,
}

_STATE_AFTER: Final[Mapping[tuple[Operation.ValueType, str], State]] = {
    (OPERATION_EXECUTE, "completed"): State.COMPLETED,
    (OPERATION_EXECUTE, "pending"): State.PENDING,
    (OPERATION_EXECUTE, "rejected"): State.REJECTED,
    (OPERATION_COMPENSATE, "compensated"): State.COMPENSATED,
    (OPERATION_COMPENSATE, "pending"): State.COMPENSATING,
    (OPERATION_COMPENSATE, "rejected"): State.COMPENSATING,
    (OPERATION_CONFIRM, "confirmed"): State.CONFIRMED,
    (OPERATION_CONFIRM, "pending"): State.CONFIRMING,
    (OPERATION_CONFIRM, "rejected"): State.CONFIRMING,
}

_DONE: Final = frozenset({"completed", "compensated", "confirmed"})
_NOOP: Final = replies.serialized(CompensateResponse(compensated=Compensated(noop=True)))


def _same_request(row: Row, call: Call) -> bool:
    if (row.action, row.input_type) != (call.context.action, call.input.TypeName()):
        return False
    return row.input == call.input.value or type(call.request).FromString(row.input) == call.request


def _new_row(call: Call, state: State) -> Row:
    return Row(
        saga_uid=call.context.saga_uid,
        step=call.context.step,
        saga_id=call.context.saga_id,
        action=call.context.action,
        input_type=call.input.TypeName(),
        input=call.input.value,
        state=state,
    )


def _reply_of(row: Row, operation: Operation.ValueType) -> Stored | None:
    return {OPERATION_EXECUTE: row.execute, OPERATION_COMPENSATE: row.compensate, OPERATION_CONFIRM: row.confirm}[
        operation
    ]


def _with_reply(row: Row, operation: Operation.ValueType, stored: Stored) -> Row:
    if operation == OPERATION_EXECUTE:
        return replace(row, execute=stored)
    if operation == OPERATION_COMPENSATE:
        return replace(row, compensate=stored)
    return replace(row, confirm=stored)


def _output_of(row: Row) -> AnyMessage | None:
    if row.execute is None:
        return None
    reply = ExecuteResponse.FromString(row.execute.reply)
    return reply.completed.output if reply.HasField("completed") else None


def _refusal(call: Call, reason: str, message: str) -> Answer:
    return Answer(replies.serialized(replies.rejected(call.operation, Rejected(reason, message))))
