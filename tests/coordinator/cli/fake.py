"""A coordinator with canned answers, on a real socket, and the command line run against it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any as AnyPayload
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.dataflow.types import Types, encode
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import definition_pb2 as definitions
from saga.v1 import event_pb2 as events
from saga.v1.types_pb2 import SAGA_STATE_RUNNING, ErrorReason, SagaState
from tests.coordinator.dataflow.shop import FILES, compile_protos

START_S = 1_790_000_000  # 2026-09-21T14:13:20Z
ORDER = Types(compile_protos(FILES, "shop/v1/order.proto"))


def order(**fields: Any) -> AnyPayload:
    """A payload of a type that only the definition's descriptors describe."""
    return encode(ORDER.message_class("shop.v1.Order")(**fields))


def at(seconds: float) -> Timestamp:
    """So long after the saga's creation."""
    return Timestamp(seconds=START_S + int(seconds), nanos=round(seconds % 1 * 1e9))


def saga(state: SagaState.ValueType = SAGA_STATE_RUNNING, **fields: Any) -> pb.Saga:
    known: dict[str, Any] = {
        "saga_id": "order-42",
        "definition": "order_fulfillment",
        "version": 3,
        "create_time": at(0),
    }
    return pb.Saga(state=state, **(known | fields))


def event(sequence: int, **fact: Any) -> events.SagaEvent:
    return events.SagaEvent(saga_id="order-42", sequence=sequence, time=at(sequence), **fact)


def status(
    code: grpc.StatusCode, message: str, reason: ErrorReason.ValueType, *details: Message, **info: str
) -> Status:
    """A refusal as the coordinator's API makes them."""
    result = Status(code=code.value[0], message=message)
    for detail in (ErrorInfo(reason=ErrorReason.Name(reason), domain="saga.v1", metadata=info), *details):
        result.details.add().Pack(detail)
    return result


class FakeCoordinator:
    """Answers each RPC with what `answers` has for it.

    A message is the answer, a Status a refusal, a function is asked, and of a list each call takes the next (and the
    last one again and again). An answer of WatchSaga is a list: the messages of one stream, then maybe a Status.
    `requests` has what was asked, by RPC.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "GetDefinition": definitions.GetDefinitionResponse(
                definition=definitions.SagaDefinition(name="order_fulfillment", version=3, input_type="shop.v1.Order"),
                descriptors=ORDER.descriptors,
            )
        }
        self.requests: dict[str, list[Any]] = {}
        self.address = ""

    def run(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Result:
        """What `saga` makes of the arguments."""
        return CliRunner().invoke(app, ["--server", self.address, *arguments], input=stdin, env=env)

    def asked(self, rpc: str) -> Any:
        """The only request of an RPC."""
        (request,) = self.requests[rpc]
        return request

    def handler(self, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
        """All of a service's RPCs."""
        handlers = {method.name: self._method(method) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _method(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            return _message(self._answer(method.name, request), context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            for answer in self._answer(method.name, request):
                yield _message(answer, context)

        parse = message_factory.GetMessageClass(method.input_type).FromString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, parse, _serialize)
        return grpc.unary_unary_rpc_method_handler(unary, parse, _serialize)

    def _answer(self, rpc: str, request: Any) -> Any:
        self.requests.setdefault(rpc, []).append(request)
        answer = self.answers[rpc]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer(request) if callable(answer) else answer


def _message(answer: Any, context: grpc.ServicerContext) -> Any:
    if isinstance(answer, Status):
        context.abort_with_status(rpc_status.to_status(answer))
    return answer


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


@contextmanager
def serving() -> Iterator[FakeCoordinator]:
    fake = FakeCoordinator()
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    for file in (pb.DESCRIPTOR, definitions.DESCRIPTOR):
        handlers = [fake.handler(service) for service in file.services_by_name.values()]
        server.add_generic_rpc_handlers(handlers)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(grace=None).wait()
