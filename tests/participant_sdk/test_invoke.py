import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Rejected, Step
from participant_sdk.call import Call
from participant_sdk.errors import CallError
from participant_sdk.invoke import invoke
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE
from tests.participant_sdk.support import Scripted, struct


@pytest.fixture
def call(action: Scripted) -> Call:
    return Call(action, OPERATION_EXECUTE, StepContext(), AnyMessage(), struct())


async def run(call: Call, seconds: float | None = None, output: AnyMessage | None = None) -> Any:
    cut_off = None if seconds is None else asyncio.get_running_loop().time() + seconds
    bounded = replace(call, cut_off=cut_off)
    return await invoke(bounded, Step(bounded), output)


async def test_a_handler_that_overruns_is_cancelled(call: Call, action: Scripted) -> None:
    cancelled = False

    async def waits(_step: Step[Any]) -> StringValue:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise
        raise AssertionError

    action.on_execute = waits
    with pytest.raises(CallError) as cut:
        await run(call, 0.01)
    assert (cut.value.code, cancelled) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)


async def test_a_handler_that_swallows_its_cancellation_has_overrun_all_the_same(call: Call, action: Scripted) -> None:
    async def goes_on(_step: Step[Any]) -> StringValue:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return StringValue(value="too late")
        raise AssertionError

    action.on_execute = goes_on
    with pytest.raises(CallError) as cut:
        await run(call, 0.01)
    assert cut.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_handlers_own_timeout_is_its_own_failure(call: Call, action: Scripted) -> None:
    async def times_out(_step: Step[Any]) -> StringValue:
        raise TimeoutError("gateway")

    action.on_execute = times_out
    with pytest.raises(TimeoutError, match="gateway"):
        await run(call, 60)


async def test_a_rejection_is_a_reply(call: Call, action: Scripted) -> None:
    async def refuses(_step: Step[Any]) -> StringValue:
        raise Rejected("SOLD_OUT")

    action.on_execute = refuses
    assert (await run(call)).rejected.reason == "SOLD_OUT"


async def test_the_stored_output_is_decoded_for_the_handler(call: Call, action: Scripted) -> None:
    compensate = replace(call, operation=OPERATION_COMPENSATE)
    output = AnyMessage()
    output.Pack(StringValue(value="x"))
    await run(compensate, output=output)
    await run(compensate)
    assert action.calls == ["compensate(x)", "compensate(None)"]
    output.Pack(struct())
    with pytest.raises(TypeError, match="stored output"):
        await run(compensate, output=output)
