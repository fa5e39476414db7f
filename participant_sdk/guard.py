"""Services that a library implements (health, reflection), held to the rules of the contract's own.

Left alone, gRPC answers a request that does not decode, or whatever such a service raises, with UNKNOWN and the
exception's text, and writes a traceback into the log for everybody who sends garbage. This module must not know what
the services do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Never, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from participant_sdk.errors import STATUS_DETAILS_KEY, CallError, Violation, invalid

_LOG: Final = logging.getLogger(__name__)

_Context: TypeAlias = grpc.aio.ServicerContext[bytes, Any]
_Parse: TypeAlias = Callable[[bytes], Message]


def guarded(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """Serve a servicer of `grpc.aio` whose methods are named as the descriptor's."""
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


async def abort(context: _Context, error: CallError) -> Never:
    """End the call with what its caller is told of the error."""
    details = ((STATUS_DETAILS_KEY, error.status().SerializeToString()),)
    await context.abort(error.code, error.message, details)


def _handler(method: MethodDescriptor, serve: Callable[..., Any]) -> grpc.RpcMethodHandler[bytes, Any]:
    parse = _parser(method)
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(_streams(parse, serve), response_serializer=_serialized)
    handle: Any = _answers(parse, serve)  # the stubs know only streaming handlers that yield
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialized)
    return grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialized)


def _answers(
    parse: _Parse, serve: Callable[[Message, _Context], Awaitable[Any]]
) -> Callable[[bytes, _Context], Awaitable[Any]]:
    """A method with one request; a streaming one writes its answers to the context."""

    async def handle(raw: bytes, context: _Context) -> Any:
        try:
            return await serve(parse(raw), context)
        except (Exception, asyncio.CancelledError) as error:
            await _end(context, error)

    return handle


def _streams(
    parse: _Parse, serve: Callable[[AsyncIterator[Message], _Context], AsyncIterator[Message]]
) -> Callable[[AsyncIterator[bytes], _Context], Awaitable[None]]:
    """A method with a stream of requests."""

    async def parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in requests:
            yield parse(raw)

    async def handle(requests: AsyncIterator[bytes], context: _Context) -> None:
        try:
            async for response in serve(parsed(requests), context):
                await context.write(response)
        except (Exception, asyncio.CancelledError) as error:
            await _end(context, error)

    return handle


async def _end(context: _Context, error: BaseException) -> Never:
    match error:
        case grpc.aio.AbortError():
            raise error  # what the service answered with
        case CallError():
            await abort(context, error)
        case asyncio.CancelledError():
            # Let out, it would leave a client without a deadline waiting for ever.
            await context.abort(grpc.StatusCode.CANCELLED, "the call was cancelled")
        case _:
            _LOG.error("a call failed in a way that nobody foresaw", exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, "the participant failed; its log has the details")


def _parser(method: MethodDescriptor) -> _Parse:
    message = GetMessageClass(method.input_type)

    def parse(raw: bytes) -> Message:
        try:
            return message.FromString(raw)
        except DecodeError:
            raise invalid([Violation("", "the request does not decode")]) from None

    return parse


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
