"""Participants on loopback sockets that do what a test says, and a wire that can be cut."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from coordinator.core import limits
from coordinator.participants.call import Call
from saga.v1.participant_pb2 import (
    Action,
    CompensateRequest,
    CompensateResponse,
    ConfirmRequest,
    ConfirmResponse,
    DescribeRequest,
    DescribeResponse,
    ExchangeAnswer,
    ExchangeCall,
    ExchangeLimits,
    ExchangeRequest,
    ExchangeResponse,
    ExecuteRequest,
    ExecuteResponse,
    StepContext,
)
from saga.v1.participant_pb2_grpc import ParticipantServiceServicer, add_ParticipantServiceServicer_to_server
from saga.v1.types_pb2 import OPERATION_EXECUTE, Compensated, Completed, Confirmed, Operation
from tests.coordinator.core.protos import files, proto

RESERVE = "shop.ReserveRequest"
RESERVED = "shop.Reservation"
SHOP = proto("shop.proto", "shop", {"ReserveRequest": ["sku"], "Reservation": ["hold"]})
OUTPUT = Any(type_url=f"type.googleapis.com/{RESERVED}", value=b"\n\x01h")

Context: TypeAlias = grpc.aio.ServicerContext[ExecuteRequest, ExecuteResponse]
Execute: TypeAlias = Callable[[ExecuteRequest, Context], Awaitable[ExecuteResponse]]


class FarEnd:
    """The participant's end of a stream of the fast lane; a test reads and writes it by hand."""

    def __init__(
        self,
        requests: AsyncIterator[ExchangeRequest],
        context: grpc.aio.ServicerContext[ExchangeRequest, ExchangeResponse],
    ) -> None:
        self.context = context
        self._requests = requests

    async def read(self) -> ExchangeRequest | None:
        """The next message; None at the end."""
        return await anext(aiter(self._requests), None)

    async def calls(self) -> list[ExchangeCall]:
        """The calls of the next message."""
        message = await self.read()
        assert message is not None
        return list(message.calls)

    async def write(self, *answers: ExchangeAnswer, drain: bool = False) -> None:
        await self.context.write(ExchangeResponse(answers=answers, drain=drain))

    async def greet(self) -> None:
        """Takes the greeting, and answers it."""
        assert await self.read() == ExchangeRequest()
        await self.write()


OnExchange: TypeAlias = Callable[[FarEnd], Awaitable[None]]


def description(
    *names: str,
    descriptors: FileDescriptorSet | None = None,
    barriered: bool = False,
    version: str = "",
    exchange: ExchangeLimits | None = None,
) -> DescribeResponse:
    """Of a participant whose actions are `names`, `Reserve` where there are none."""
    return DescribeResponse(
        participant="fake",
        version=version,
        actions=[Action(name=name, input_type=RESERVE, output_type=RESERVED) for name in names or ("Reserve",)],
        descriptors=files(SHOP) if descriptors is None else descriptors,
        barriered=barriered,
        exchange=exchange,
    )


def call(
    operation: Operation.ValueType = OPERATION_EXECUTE,
    *,
    participant: str = "fake",
    timeout_ns: int = 10 * limits.SECOND_NS,
    check_output: Callable[[Any], str | None] = lambda _: None,
    metadata: tuple[tuple[str, str], ...] = (),
    saga_id: str = "s",
) -> Call:
    return Call(
        participant=participant,
        operation=operation,
        context=StepContext(
            saga_id=saga_id, step="reserve", action="Reserve", idempotency_key="u/reserve/execute", attempt=1
        ),
        input=Any(type_url=f"type.googleapis.com/{RESERVE}", value=b"\n\x01a"),
        timeout_ns=timeout_ns,
        expected_output_type=RESERVED,
        check_output=check_output,
        output=OUTPUT,
        metadata=metadata,
    )


def completed(asked: ExchangeCall) -> ExchangeAnswer:
    """The answer that `succeed` gives, in the fast lane."""
    return ExchangeAnswer(id=asked.id, execute=ExecuteResponse(completed=Completed(output=OUTPUT)))


async def answer_all(far: FarEnd) -> None:
    """A fast lane that does its work: every call is completed at once, until the coordinator drains."""
    await far.greet()
    while (message := await far.read()) is not None:
        await far.write(*map(completed, message.calls), drain=message.drain)


async def succeed(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
    return ExecuteResponse(completed=Completed(output=OUTPUT))


class FakeParticipant(ParticipantServiceServicer):
    """Answers Describe with `description` and Execute as `on_execute` says; remembers what came.

    `on_exchange` serves each stream of the fast lane; without it there is none.
    """

    def __init__(self, described: DescribeResponse | None = None, on_execute: Execute = succeed) -> None:
        self.description = description() if described is None else described
        self.refuses_describe = False
        self.on_execute = on_execute
        self.on_exchange: OnExchange | None = None
        self.exchanges = 0
        self.executes: list[ExecuteRequest] = []
        self.compensates: list[CompensateRequest] = []
        self.confirms: list[ConfirmRequest] = []
        self.headers: dict[str, str | bytes] = {}
        self.describes = 0
        self._described = asyncio.Condition()

    async def Execute(self, request: ExecuteRequest, context: Context) -> ExecuteResponse:  # noqa: N802  gRPC's name
        self.executes.append(request)
        self.headers = dict(context.invocation_metadata() or ())
        return await self.on_execute(request, context)

    async def Compensate(  # noqa: N802  gRPC's name
        self,
        request: CompensateRequest,
        context: grpc.aio.ServicerContext[CompensateRequest, CompensateResponse],
    ) -> CompensateResponse:
        self.compensates.append(request)
        return CompensateResponse(compensated=Compensated(noop=True))

    async def Confirm(  # noqa: N802  gRPC's name
        self, request: ConfirmRequest, context: grpc.aio.ServicerContext[ConfirmRequest, ConfirmResponse]
    ) -> ConfirmResponse:
        self.confirms.append(request)
        return ConfirmResponse(confirmed=Confirmed())

    async def Describe(  # noqa: N802  gRPC's name
        self, request: DescribeRequest, context: grpc.aio.ServicerContext[DescribeRequest, DescribeResponse]
    ) -> DescribeResponse:
        async with self._described:
            self.describes += 1
            self._described.notify_all()
        if self.refuses_describe:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "starting up")
        return self.description

    async def Exchange(  # type: ignore[override]  # noqa: N802  the stubs know only handlers that yield; gRPC's name
        self,
        requests: AsyncIterator[ExchangeRequest],
        context: grpc.aio.ServicerContext[ExchangeRequest, ExchangeResponse],
    ) -> None:
        self.exchanges += 1
        if self.on_exchange is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no fast lane")
        await self.on_exchange(FarEnd(requests, context))

    async def described(self, times: int) -> None:
        """Waits until Describe has been asked that often."""
        async with self._described:
            await self._described.wait_for(lambda: self.describes >= times)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def start(fake: FakeParticipant, port: int = 0) -> tuple[grpc.aio.Server, int]:
    """A server for the fake. Its port is taken at once and for itself alone."""
    server = _server()
    add_ParticipantServiceServicer_to_server(fake, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, bound


@asynccontextmanager
async def serving(fake: FakeParticipant, port: int = 0) -> AsyncIterator[str]:
    """Serves the fake; yields its target."""
    server, bound = await start(fake, port)
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving_bytes(reply: bytes) -> AsyncIterator[str]:
    """A server that answers every Execute, and every Describe, with these bytes."""

    async def answer(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return reply

    server = _server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    handlers = {"Execute": handler, "Describe": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("saga.v1.ParticipantService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _server() -> grpc.aio.Server:
    return grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)])


class Wire:
    """Forwards TCP to a target until it is cut, as a network that breaks does: without a goodbye."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Drops all connections and takes no further one."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pumps.add(asyncio.create_task(_pump(source, sink)))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(65_536):
            sink.write(chunk)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()
