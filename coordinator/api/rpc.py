"""Between gRPC and the services: bytes to messages, exceptions to statuses, and limits on how much is under way.

A service is a plain object whose methods are named as the RPCs of its descriptor. A unary method takes the request
and a `Caller` and returns the response; a streaming one yields responses. It raises what it likes: what reaches the
wire is decided by `status`. RPCs that the object does not have answer UNIMPLEMENTED.

gRPC's own ways are kept out for reasons: a request that does not decode would become UNKNOWN, an exception would leak
its text, an escaping CancelledError would leave a client without a deadline waiting for ever, and
`maximum_concurrent_rpcs` would turn health checks away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from coordinator.api.errors import Malformed, TooLarge, Unsupported
from coordinator.api.status import to_status
from coordinator.core import limits
from coordinator.engine.errors import OverLimit, ShuttingDown

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """What a method may know of its call."""

    remaining_s: float | None
    """How long the caller waits; None: for ever."""


class Gate:
    """Bounds how many calls of one class are under way (G14)."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._inside = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be counted; OverLimit where there is no room."""
        if self._inside >= self._most:
            message = f"{self._most} {self._name} are under way, and no more are taken"
            raise OverLimit(message, limits.ADMISSION_RETRY_AFTER_NS)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


class Gates:
    """Short calls and long ones are bounded apart, so that waiting clients cannot keep others out."""

    def __init__(self) -> None:
        self.short = Gate("calls", limits.CALLS_MAX)
        self.long = Gate("waits and watches", limits.STREAMS_MAX)


LONG_CALLS: Final = frozenset(("WaitSaga", "WatchSaga"))


def handler_of(service: ServiceDescriptor, implementation: object, gates: Gates) -> grpc.GenericRpcHandler:
    """Serve the implementation under the descriptor's name."""
    handlers = {}
    for method in service.methods:
        gate = gates.long if method.name in LONG_CALLS else gates.short
        handlers[method.name] = _handler(method, getattr(implementation, method.name, None), gate)
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor, implementation: Callable[..., Any] | None, gate: Gate
) -> grpc.RpcMethodHandler[bytes, bytes]:
    if implementation is None:
        return _unsupported(method)
    parse = parser(method)
    if method.server_streaming:
        handle: Any = _streaming(parse, implementation, gate)  # the stubs know only handlers that yield
        return grpc.unary_stream_rpc_method_handler(handle)
    return grpc.unary_unary_rpc_method_handler(_unary(parse, implementation, gate))


def _unary(
    parse: Callable[[bytes], Message], implementation: Callable[[Message, Caller], Awaitable[Message]], gate: Gate
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def handle(raw: bytes, context: Context) -> bytes:
        try:
            with gate.enter():
                response = await implementation(parse(raw), Caller(context.time_remaining()))
                return _serialized(response)
        except asyncio.CancelledError:
            await abort(context, ShuttingDown())
        except Exception as error:
            await abort(context, error)
        raise AssertionError("abort raises")

    return handle


def _streaming(
    parse: Callable[[bytes], Message],
    implementation: Callable[[Message, Caller], AsyncGenerator[Message, None]],
    gate: Gate,
) -> Callable[[bytes, Context], Awaitable[None]]:
    # It writes by itself: gRPC leaves a generator that it does not need any more to the garbage collector.
    async def handle(raw: bytes, context: Context) -> None:
        try:
            with gate.enter():
                async with aclosing(implementation(parse(raw), Caller(context.time_remaining()))) as responses:
                    async for response in responses:
                        await context.write(_serialized(response))
        except asyncio.CancelledError:
            await abort(context, ShuttingDown())
        except Exception as error:
            await abort(context, error)

    return handle


def _unsupported(method: MethodDescriptor) -> grpc.RpcMethodHandler[bytes, bytes]:
    error = Unsupported(method.name)

    async def unary(_request: object, context: Context) -> bytes:
        await abort(context, error)
        raise AssertionError("abort raises")

    async def streaming(_request: object, context: Context) -> AsyncIterator[bytes]:
        await abort(context, error)
        yield b""

    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(streaming)
    return grpc.unary_unary_rpc_method_handler(unary)


def parser(method: MethodDescriptor) -> Callable[[bytes], Message]:
    """What reads the method's requests; it raises `Malformed`."""
    message = GetMessageClass(method.input_type)

    def parse(raw: bytes) -> Message:
        try:
            return message.FromString(raw)
        except DecodeError as error:
            raise Malformed(f"the request is no {method.input_type.full_name}: its bytes do not decode") from error

    return parse


def _serialized(response: Message) -> bytes:
    data = response.SerializeToString()
    if len(data) > limits.MESSAGE_BYTES_MAX:
        raise TooLarge(len(data))
    return data


async def abort(context: Context, error: Exception) -> None:
    """End the call with what its caller is told of the error."""
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
