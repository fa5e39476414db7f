"""`saga.v1.ParticipantService` over a barrier: from a request to the reply's bytes, and from errors to statuses.

gRPC hands requests and replies on as bytes: a malformed one is then answered INVALID_ARGUMENT and not UNKNOWN, and a
stored reply goes out byte for byte. What a handler raises is logged here, with its traceback, and never travels.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from participant_sdk.barrier.base import Barrier
from participant_sdk.call import Call
from participant_sdk.errors import CallError, Violation, invalid
from participant_sdk.exchange import Exchanges
from participant_sdk.guard import abort
from participant_sdk.limits import CALLS_MAX
from participant_sdk.requests import Actions, Request, parse, read_call
from saga.v1.participant_pb2 import (
    DESCRIPTOR,
    CompensateRequest,
    ConfirmRequest,
    DescribeRequest,
    DescribeResponse,
    ExecuteRequest,
)

_LOG: Final = logging.getLogger(__name__)

SERVICE: Final = DESCRIPTOR.services_by_name["ParticipantService"]

_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


class ParticipantServicer:
    """Answers Execute, Compensate, Confirm and Describe, and Exchange where the description offers it."""

    def __init__(self, actions: Actions, barrier: Barrier, description: DescribeResponse) -> None:
        self._actions = actions
        self._barrier = barrier
        self._description = description.SerializeToString(deterministic=True)
        self._exchanges = Exchanges(self.answer) if description.HasField("exchange") else None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def answer(self, request: Request, metadata: Mapping[str, str], timeout: float | None) -> bytes:
        """Answer one call, for whichever lane or transport; `timeout` is in seconds, None: no limit.

        Errors: `CallError`; `CancelledError` where the caller is cancelled.
        """
        if self._under_way >= CALLS_MAX:
            raise CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVER_LIMIT", f"{CALLS_MAX} calls are under way")
        if timeout is not None and timeout <= 0:
            raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "TOO_LATE", "the call's time was over before it began")
        cut_off = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._answer(read_call(request, self._actions, metadata, cut_off))
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def drain(self) -> None:
        """Ask for no further calls over Exchange. Unary ones are the server's to refuse."""
        if self._exchanges is not None:
            self._exchanges.drain()

    async def idle(self) -> None:
        """Return when no call is under way."""
        await self._idle.wait()

    def describe(self, request: bytes) -> bytes:
        """Answer Describe. Errors: `CallError` INVALID_ARGUMENT."""
        try:
            DescribeRequest.FromString(request)
        except DecodeError:
            raise invalid([Violation("", "the request does not decode")]) from None
        return self._description

    def rpc_handlers(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server is given."""
        behaviors: dict[str, Callable[[bytes, _Context], Awaitable[bytes]]] = {
            "Execute": self._rpc(ExecuteRequest),
            "Compensate": self._rpc(CompensateRequest),
            "Confirm": self._rpc(ConfirmRequest),
            "Describe": self._rpc_describe,
        }
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(behavior) for name, behavior in behaviors.items()
        }
        if self._exchanges is not None:
            serve: Any = self._exchanges.serve  # the stubs know only streaming handlers that yield
            handlers["Exchange"] = grpc.stream_stream_rpc_method_handler(serve)
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    async def _answer(self, call: Call) -> bytes:
        try:
            return await self._barrier.answer(call)
        except CallError:
            raise
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise _failed(call) from None  # the handler awaited something that somebody else cancelled
        except Exception:
            raise _failed(call) from None

    def _rpc(self, request_type: type[Request]) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def behavior(data: bytes, context: _Context) -> bytes:
            try:
                request = parse(request_type, data)
                return await self.answer(request, _text_metadata(context), context.time_remaining())
            except CallError as error:
                return await abort(context, error)
            except asyncio.CancelledError:
                # Let out, it would leave a client without a deadline waiting for ever.
                await context.abort(grpc.StatusCode.CANCELLED, "the call was cancelled")

        return behavior

    async def _rpc_describe(self, request: bytes, context: _Context) -> bytes:
        try:
            return self.describe(request)
        except CallError as error:
            return await abort(context, error)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(call: Call) -> CallError:
    """Log the exception that is being handled, and return what may be said of it."""
    _LOG.exception("failed: %s", call)
    return CallError(grpc.StatusCode.INTERNAL, "HANDLER_FAILED", "the action failed; the participant's log says why")


def _text_metadata(context: _Context) -> Mapping[str, str]:
    metadata: Any = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}
