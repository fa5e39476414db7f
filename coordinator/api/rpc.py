"""Between gRPC and the services: bytes to messages, exceptions to statuses, and limits on how much is under way.

A service is a plain object whose methods are named as the RPCs of its descriptor. A unary method takes the request
and a `Caller` and returns the response; a streaming one yields responses, and where the client streams too it takes
an iterator of requests. It raises what it likes: what reaches the wire is decided by `status`. RPCs that the object
does not have answer UNIMPLEMENTED.

gRPC's own ways are kept out for reasons: a request that does not decode would become UNKNOWN, an exception would leak
its text, an escaping CancelledError would leave a client without a deadline waiting for ever, and
`maximum_concurrent_rpcs` would turn health checks away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
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
from saga.v1.coordinator_pb2 import StartSagaRequest

Context = grpc.aio.ServicerContext[Any, Any]


class Caller:
    """What a method may know of its call."""

    def __init__(self, time_remaining: Callable[[], float | None]) -> None:
        self._time_remaining = time_remaining

    @property
    def remaining_s(self) -> float | None:
        """How long the caller waits from now on; None: for ever."""
        return self._time_remaining()


class Gate:
    """Bounds how many calls of one class are under way (G14)."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._inside = 0

    @property
    def full(self) -> bool:
        """Whether no more are let in now."""
        return self._inside >= self._most

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be counted; OverLimit where there is no room."""
        if self.full:
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
        self.long = Gate("waits, watches and streams", limits.STREAMS_MAX)

    def of_start(self, request: StartSagaRequest) -> Gate:
        """The one for a start, which may wait for what becomes of its saga.

        Where no more can wait it does not: what is asked for is a saga, and that begins all the same.
        """
        if request.HasField("wait") and self.long.full:
            request.ClearField("wait")
        return self.long if request.HasField("wait") else self.short

    def of(self, method: str, request: Any) -> Gate:
        """The one for a call; `request` is the iterator of them where the client streams."""
        if method in _LONG_CALLS:
            return self.long
        return self.of_start(request) if isinstance(request, StartSagaRequest) else self.short


_LONG_CALLS: Final = frozenset(("WaitSaga", "WatchSaga", "StartSagas"))


def handler_of(service: ServiceDescriptor, implementation: object, gates: Gates) -> grpc.GenericRpcHandler:
    """Serve the implementation under the descriptor's name."""
    handlers = {
        method.name: _handler(method, getattr(implementation, method.name, None), gates) for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor, implementation: Callable[..., Any] | None, gates: Gates
) -> grpc.RpcMethodHandler[bytes, bytes]:
    if implementation is None:
        return _unsupported(method)
    parse = parser(method)
    handle: Any  # the stubs know only streaming handlers that yield
    if method.client_streaming:
        handle = _streaming(method.name, lambda raws: _parsed(raws, parse), implementation, gates)
        return grpc.stream_stream_rpc_method_handler(handle)
    if method.server_streaming:
        handle = _streaming(method.name, parse, implementation, gates)
        return grpc.unary_stream_rpc_method_handler(handle)
    return grpc.unary_unary_rpc_method_handler(_unary(method.name, parse, implementation, gates))


def _unary(
    name: str,
    parse: Callable[[bytes], Message],
    implementation: Callable[[Message, Caller], Awaitable[Message]],
    gates: Gates,
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def handle(raw: bytes, context: Context) -> bytes:
        try:
            request = parse(raw)
            with gates.of(name, request).enter():
                response = await implementation(request, Caller(context.time_remaining))
                return _serialized(response)
        except asyncio.CancelledError:
            await abort(context, ShuttingDown())
        except Exception as error:
            await abort(context, error)
        raise AssertionError("abort raises")

    return handle


def _streaming(
    name: str,
    parse: Callable[[Any], Any],
    implementation: Callable[[Any, Caller], AsyncGenerator[Message, None]],
    gates: Gates,
) -> Callable[[Any, Context], Awaitable[None]]:
    # It writes by itself: gRPC leaves a generator that it does not need any more to the garbage collector.
    async def handle(raw: Any, context: Context) -> None:
        try:
            request = parse(raw)
            with gates.of(name, request).enter():
                async with aclosing(implementation(request, Caller(context.time_remaining))) as responses:
                    async for response in responses:
                        await context.write(_serialized(response))
        except asyncio.CancelledError:
            await abort(context, ShuttingDown())
        except Exception as error:
            await abort(context, error)

    return handle


async def _parsed(raws: AsyncIterator[bytes], parse: Callable[[bytes], Message]) -> AsyncIterator[Message]:
    async for raw in raws:
        yield parse(raw)


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
