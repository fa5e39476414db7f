"""Runs an action's handler, within the call's own time, and turns its answer into a reply.

It must not decide whether a handler runs, nor what becomes of what it wrote: that is the barrier's.
"""

import asyncio
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from participant_sdk import replies
from participant_sdk.call import Call
from participant_sdk.errors import CallError
from participant_sdk.outcome import Rejected
from participant_sdk.replies import Reply
from participant_sdk.step import Step
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE


async def invoke(call: Call, step: Step[Any], output: AnyMessage | None) -> Reply:
    """Run the handler that the call asks for and return its reply, a rejection included.

    A handler that overruns the call's time is cancelled. Errors: `CallError` DEADLINE_EXCEEDED; whatever the handler
    raises.
    """
    try:
        async with asyncio.timeout_at(call.cut_off) as limit:
            reply = await _answer(call, step, output)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _overran() from None
    if limit.expired():  # the handler swallowed its cancellation; the caller has already given up
        raise _overran()
    return reply


async def _answer(call: Call, step: Step[Any], output: AnyMessage | None) -> Reply:
    action = call.action
    try:
        if call.operation == OPERATION_EXECUTE:
            run = action.poll if step.pending else action.execute
            return replies.executed(action, await run(call.request, step))
        decoded = _decoded(action.output_type, output)
        if call.operation == OPERATION_COMPENSATE:
            return replies.compensated(action, await action.compensate(call.request, decoded, step))
        return replies.confirmed(action, await action.confirm(call.request, decoded, step))
    except Rejected as refusal:
        return replies.rejected(call.operation, refusal)


def _decoded(output_type: type[Message], output: AnyMessage | None) -> Message | None:
    if output is None:
        return None
    message = output_type()
    if not output.Unpack(message):
        raise TypeError(f"the stored output is {output.TypeName()}, not {message.DESCRIPTOR.full_name}")
    return message


def _overran() -> CallError:
    return CallError(
        grpc.StatusCode.DEADLINE_EXCEEDED, "HANDLER_OVERRAN", "the handler did not finish within the call's time"
    )
