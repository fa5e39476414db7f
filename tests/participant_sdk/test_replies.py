from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Action, Held, Noop, Pending, Rejected, Step, replies
from participant_sdk.limits import OUTPUT_BYTES_MAX
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE
from tests.participant_sdk.support import Scripted, struct

ACTION = Scripted()


class Plain(Action[Struct, Struct]):
    async def execute(self, request: Struct, step: Step) -> Struct:
        return Struct()


def test_output() -> None:
    reply = replies.executed(ACTION, StringValue(value="x"))
    output = StringValue()
    assert reply.completed.output.Unpack(output)
    assert output.value == "x"
    assert not reply.completed.HasField("hold_until")


def test_held() -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    reply = replies.executed(ACTION, Held(StringValue(), until=until))
    assert reply.completed.hold_until.ToDatetime(tzinfo=UTC) == until
    with pytest.raises(TypeError, match="not RESERVABLE"):
        replies.executed(Plain(), Held(Struct(), until=until))


@pytest.mark.parametrize("make", [replies.executed, replies.compensated, replies.confirmed])
def test_pending(make: Any) -> None:
    reply = make(ACTION, Pending(poll_after=timedelta(seconds=90), message="m"))
    assert (reply.pending.poll_after.ToTimedelta(), reply.pending.message) == (timedelta(seconds=90), "m")
    assert not make(ACTION, Pending()).pending.HasField("poll_after")
    assert replies.outcome_of(reply) == "pending"


@pytest.mark.parametrize("make", [replies.executed, replies.compensated, replies.confirmed])
def test_g3_pending_can_ask_for_an_operator(make: Any) -> None:
    assert make(ACTION, Pending(needs_attention=True)).pending.needs_attention
    assert not make(ACTION, Pending()).pending.needs_attention


@pytest.mark.parametrize("answer", [None, "text", Struct(), Noop()])
def test_execute_must_answer_its_output_type(answer: object) -> None:
    with pytest.raises(TypeError, match=r"not google\.protobuf\.StringValue"):
        replies.executed(ACTION, answer)


def test_an_output_is_bounded_before_anything_commits() -> None:
    with pytest.raises(ValueError, match="more than"):
        replies.executed(ACTION, StringValue(value="x" * OUTPUT_BYTES_MAX))


def test_texts_are_cut_off_before_they_make_a_reply_too_large_to_send() -> None:
    long = "x" * 5_000_000
    assert len(replies.rejected(OPERATION_EXECUTE, Rejected("NO", long)).rejected.message) == 1024
    assert len(replies.executed(ACTION, Pending(message=long)).pending.message) == 1024


def test_compensate_answers_none_or_noop() -> None:
    assert not replies.compensated(ACTION, None).compensated.noop
    assert replies.compensated(ACTION, Noop()).compensated.noop
    with pytest.raises(TypeError):
        replies.compensated(ACTION, StringValue())


def test_confirm_answers_none() -> None:
    assert replies.outcome_of(replies.confirmed(ACTION, None)) == "confirmed"
    with pytest.raises(TypeError):
        replies.confirmed(ACTION, Noop())


def test_the_same_message_is_always_the_same_bytes() -> None:
    names = [f"field {number}" for number in range(50)]
    forward, backward = (
        replies.serialized(replies.executed(Plain(), struct(**dict.fromkeys(order, 1))))
        for order in (names, names[::-1])
    )
    assert forward == backward


@pytest.mark.parametrize("operation", [OPERATION_EXECUTE, OPERATION_COMPENSATE, OPERATION_CONFIRM])
def test_rejected_and_parsed(operation: Any) -> None:
    reply = replies.rejected(operation, Rejected("NO", "text", key="value"))
    assert replies.outcome_of(reply) == "rejected"
    assert (reply.rejected.reason, reply.rejected.message) == ("NO", "text")
    assert dict(reply.rejected.metadata) == {"key": "value"}
    assert replies.parsed(operation, replies.serialized(reply)) == reply
