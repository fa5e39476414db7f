import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from participant_sdk import Step
from participant_sdk.call import Call, Key
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import OPERATION_COMPENSATE, Failure
from tests.participant_sdk.support import Scripted, struct

CONTEXT = StepContext(
    saga_id="order-7",
    saga_uid="0190",
    definition="order_fulfillment",
    definition_version=3,
    step="reserve",
    action="Scripted",
    idempotency_key="0190/reserve/compensate",
    attempt=2,
    labels={"order": "7"},
)
CALL = Call(
    Scripted(),
    OPERATION_COMPENSATE,
    CONTEXT,
    AnyMessage(),
    struct(),
    cause=Failure(reason="CARD_DECLINED"),
    metadata={"traceparent": "00-1-2-01"},
)


async def test_says_what_the_call_says() -> None:
    step: Step = Step(CALL, pending=True)
    assert (step.saga_id, step.saga_uid, step.name, step.action) == ("order-7", "0190", "reserve", "Scripted")
    assert (step.definition, step.definition_version) == ("order_fulfillment", 3)
    assert (step.key, step.attempt, step.operation) == ("0190/reserve/compensate", 2, OPERATION_COMPENSATE)
    assert (step.pending, step.cause) == (True, Failure(reason="CARD_DECLINED"))
    assert (dict(step.labels), dict(step.metadata)) == ({"order": "7"}, {"traceparent": "00-1-2-01"})
    assert (step.deadline, step.remaining) == (None, None)


async def test_deadline_is_the_steps_and_remaining_the_calls() -> None:
    context = StepContext()
    context.CopyFrom(CONTEXT)
    context.deadline.FromDatetime(datetime(2030, 1, 1, tzinfo=UTC))
    cut_off = asyncio.get_running_loop().time() + 60
    step: Step = Step(replace(CALL, context=context, cut_off=cut_off))
    assert step.deadline == datetime(2030, 1, 1, tzinfo=UTC)
    assert step.remaining is not None
    assert timedelta(seconds=55) < step.remaining <= timedelta(seconds=60)
    late: Step = Step(replace(CALL, cut_off=cut_off - 120))
    assert late.remaining == timedelta(0)


async def test_without_a_transaction_it_says_why() -> None:
    step: Step = Step(CALL)
    with pytest.raises(RuntimeError, match=r"step\.record"):
        _ = step.transaction
    with pytest.raises(RuntimeError, match=r"step\.transaction"):
        step.record(lambda _transaction: None)


def test_a_call_names_its_row_and_itself() -> None:
    assert CALL.key == Key("0190", "reserve")
    assert str(CALL) == "COMPENSATE Scripted, saga order-7 (0190), step reserve, attempt 2"
