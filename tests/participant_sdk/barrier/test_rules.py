"""The rules alone: the table is complete, and no order of calls and outcomes breaks what it promises."""

from dataclasses import replace

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from hypothesis import strategies as st

from participant_sdk import Rejected, replies
from participant_sdk.barrier.rules import Answer, Row, Run, State, answered, decide, keeps_writes
from participant_sdk.call import Call
from participant_sdk.errors import CallError
from participant_sdk.outcome import Pending
from participant_sdk.replies import Reply
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation
from tests.participant_sdk.support import Scripted, struct

OPERATIONS = (OPERATION_EXECUTE, OPERATION_COMPENSATE, OPERATION_CONFIRM)
ACTION = Scripted()


def packed(value: str) -> AnyMessage:
    payload = AnyMessage()
    payload.Pack(StringValue(value=value))
    return payload


def call(operation: Operation.ValueType, attempt: int = 1, output: AnyMessage | None = None, **fields: str) -> Call:
    request = struct(**(fields or {"sku": "book"}))
    payload = AnyMessage()
    payload.Pack(request)
    context = StepContext(saga_id="s", saga_uid="u", step="reserve", action="Scripted", attempt=attempt)
    return Call(ACTION, operation, context, payload, request, output)


def reply(operation: Operation.ValueType, outcome: str) -> Reply:
    if outcome == "rejected":
        return replies.rejected(operation, Rejected("NO"))
    answer = Pending() if outcome == "pending" else None
    if operation == OPERATION_EXECUTE:
        return replies.executed(ACTION, answer or StringValue(value="done"))
    make = replies.compensated if operation == OPERATION_COMPENSATE else replies.confirmed
    return make(ACTION, answer)


def test_every_operation_has_a_rule_for_every_state() -> None:
    begun = decide(None, call(OPERATION_EXECUTE))
    assert isinstance(begun, Run)
    for state in State:
        for operation in OPERATIONS:
            assert isinstance(decide(replace(begun.row, state=state), call(operation)), Answer | Run)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_input_is_key_reused(operation: Operation.ValueType) -> None:
    begun = decide(None, call(OPERATION_EXECUTE))
    assert isinstance(begun, Run)
    with pytest.raises(CallError) as refused:
        decide(begun.row, call(operation, sku="pen"))
    assert refused.value.reason == "KEY_REUSED"


def test_a_step_whose_completion_was_reported_is_confirmed_with_that_output() -> None:
    """CompleteStep tells the coordinator and not the row: Confirm finds it PENDING and brings the output along."""
    first = call(OPERATION_EXECUTE)
    begun = decide(None, first)
    assert isinstance(begun, Run)
    row = answered(begun, first, reply(OPERATION_EXECUTE, "pending"))
    assert isinstance(decide(row, call(OPERATION_CONFIRM)), Answer)

    confirm = call(OPERATION_CONFIRM, output=packed("reported"))
    verdict = decide(row, confirm)
    assert isinstance(verdict, Run)
    assert verdict.output == packed("reported")
    row = answered(verdict, confirm, reply(OPERATION_CONFIRM, "confirmed"))
    replay = decide(row, call(OPERATION_EXECUTE))
    assert isinstance(replay, Answer)
    assert replies.parsed(OPERATION_EXECUTE, replay.reply).completed.output == packed("reported")  # type: ignore[union-attr]  # an ExecuteResponse


def test_a_rejection_keeps_writes_only_out_of_pending() -> None:
    begun = decide(None, call(OPERATION_EXECUTE))
    assert isinstance(begun, Run)
    assert not keeps_writes(begun, reply(OPERATION_EXECUTE, "rejected"))
    assert keeps_writes(begun, reply(OPERATION_EXECUTE, "pending"))
    assert keeps_writes(replace(begun, pending=True), reply(OPERATION_EXECUTE, "rejected"))


class Participant:
    """A step's row, driven by any order of calls, with what its handlers did."""

    def __init__(self, *, external: bool) -> None:
        self.external = external
        self.row: Row | None = None
        self.ran: list[tuple[str, str]] = []
        self.final: dict[Operation.ValueType, bytes] = {}
        self.barred = False
        self.rejected_up_to = 0

    def receive(self, operation: Operation.ValueType, attempt: int, outcome: str) -> None:
        asked = call(operation, attempt)
        verdict = decide(self.row, asked)
        if isinstance(verdict, Answer):
            self._answer(operation, verdict)
            return
        self._check_may_run(operation, attempt, verdict)
        name = Operation.Name(operation).removeprefix("OPERATION_").lower()
        self.ran.append((name, outcome))
        if outcome == "crash":
            self.row = verdict.row if self.external else self.row
        else:
            done = {"execute": "completed", "compensate": "compensated", "confirm": "confirmed"}[name]
            given_reply = reply(operation, done if outcome == "done" else outcome)
            self.row = answered(verdict, asked, given_reply)
            if outcome == "done":
                self.final[operation] = replies.serialized(given_reply)
            if operation == OPERATION_EXECUTE:
                self.rejected_up_to = attempt if outcome == "rejected" else 0
        if operation == OPERATION_COMPENSATE and (self.external or outcome != "crash"):
            self.barred = True

    def _answer(self, operation: Operation.ValueType, verdict: Answer) -> None:
        self.row = verdict.row or self.row
        given_reply = replies.parsed(operation, verdict.reply)
        if replies.outcome_of(given_reply) == "compensated":
            self.barred = True
        if self.barred and operation == OPERATION_EXECUTE:
            assert given_reply.rejected.reason == "BARRED"
        elif operation in self.final and replies.outcome_of(given_reply) != "rejected":
            assert verdict.reply == self.final[operation], "a stored reply is replayed byte for byte"

    def _check_may_run(self, operation: Operation.ValueType, attempt: int, verdict: Run) -> None:
        assert operation not in self.final, "a handler ran again after it was done"
        if operation == OPERATION_EXECUTE:
            assert not self.barred, "G8: a late Execute ran"
            assert attempt > self.rejected_up_to, "an attempt ran although a rejection covers it"
        if operation == OPERATION_COMPENSATE:
            assert ("confirm", "done") not in self.ran, "a final hold was compensated"
            executed = OPERATION_EXECUTE in self.final
            assert (verdict.output is not None) == executed, "the output is known exactly where Execute completed"


@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(OPERATIONS),
            st.integers(min_value=1, max_value=4),
            st.sampled_from(["done", "pending", "rejected", "crash"]),
        ),
        max_size=12,
    ),
)
def test_g2_g8_no_order_of_calls_and_outcomes_breaks_the_promises(
    external: bool, calls: list[tuple[Operation.ValueType, int, str]]
) -> None:
    participant = Participant(external=external)
    for operation, attempt, outcome in calls:
        participant.receive(operation, attempt, outcome)
