"""Services that a library implements (health, channelz), held to the rules that `rpc` sets for our own.

Left alone, gRPC answers a request that does not decode, or whatever such a service raises, with UNKNOWN and the
exception's text, and writes a traceback into the log for everybody who sends garbage. This module must not know what
the services do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from coordinator.api.rpc import Context, abort, parser
from coordinator.engine.errors import ShuttingDown


def guarded(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """Serve a servicer of `grpc.aio` whose methods, unary or with a stream of answers, are named as the descriptor's.

    A streaming method writes its answers to the context.
    """
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(method: MethodDescriptor, serve: Callable[[Message, Any], Any]) -> grpc.RpcMethodHandler[bytes, Any]:
    handle: Any = _handle(method, serve)  # the stubs know only streaming handlers that yield
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialized)
    return grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialized)


def _handle(
    method: MethodDescriptor, serve: Callable[[Message, Any], Awaitable[Any]]
) -> Callable[[bytes, Context], Awaitable[Any]]:
    parse = parser(method)

    async def handle(raw: bytes, context: Context) -> Any:
        try:
            return await serve(parse(raw), context)
        except grpc.aio.AbortError:
            raise  # what the service answered with
        except asyncio.CancelledError:
            await abort(context, ShuttingDown())
        except Exception as error:
            await abort(context, error)

    return handle


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
