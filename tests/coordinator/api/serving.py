"""The API on a loopback socket: a real server and a real client, over an engine on a bench."""

from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2_grpc import HealthStub

from coordinator.api.definitions import DefinitionService
from coordinator.api.directory import DirectoryService
from coordinator.api.participant import ParticipantService
from coordinator.api.reflection import SHARED_FILES
from coordinator.api.rpc import Gates
from coordinator.api.sagas import SagaService
from coordinator.api.server import Server
from coordinator.engine.compatibility import Compatibility
from coordinator.participants.directory import Directory
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub, ParticipantDirectoryServiceStub
from saga.v1.definition_pb2_grpc import DefinitionServiceStub
from tests.coordinator.engine.bench import Bench

DetailT = TypeVar("DetailT", bound=Message)


@dataclass
class Api:
    """A coordinator that is served, and a client's stubs for it."""

    bench: Bench
    server: Server
    address: str
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.sagas: Any = CoordinatorServiceStub(self.channel)  # Any: the stubs are those of the synchronous API too
        self.definitions: Any = DefinitionServiceStub(self.channel)
        self.directory: Any = ParticipantDirectoryServiceStub(self.channel)
        self.health: Any = HealthStub(self.channel)

    def raw(self, method: str, *, stream: bool = False) -> Any:
        """A call that sends and gets bytes."""
        return self.channel.unary_stream(method) if stream else self.channel.unary_unary(method)


@asynccontextmanager
async def serving(
    bench: Bench | None = None, *, targets: dict[str, str] | None = None, gates: Gates | None = None
) -> AsyncGenerator[Api, None]:
    """Serve until the context is left."""
    bench, gates = bench or Bench(), gates or Gates()
    await bench.engine.open()
    async with Directory(targets or {}, shared=SHARED_FILES) as directory:
        server = Server(
            SagaService(bench.engine, bench.journal, bench.clock, gates),
            DefinitionService(bench.definitions, bench.journal),
            DirectoryService(
                directory, Compatibility(bench.journal, directory.descriptions).problems, bench.definitions
            ),
            ParticipantService(bench.engine.children, bench.definitions),
            directory,
            gates,
        )
        address = await server.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                yield Api(bench, server, address, channel)
        finally:
            await server.stop(0)
            await bench.engine.close()


async def failure(call: Awaitable[object]) -> Status:
    """The google.rpc.Status that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return status_of(failed.value)


def status_of(error: grpc.aio.AioRpcError) -> Status:
    pairs = list(error.trailing_metadata() or ())  # a Metadata is no Mapping, though it looks like one
    details = dict(pairs).get("grpc-status-details-bin", b"")
    assert isinstance(details, bytes)
    status = Status.FromString(details)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return status


async def outcome(call: Awaitable[object]) -> tuple[str, str]:
    """The code and the reason that a call fails with."""
    return code_and_reason(await failure(call))


def code_and_reason(status: Status) -> tuple[str, str]:
    info = detail(status, ErrorInfo)
    assert info.domain == "saga.v1"
    return code_name(status), info.reason.removeprefix("ERROR_REASON_")


def code_name(status: Status) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == status.code)


def detail(status: Status, kind: type[DetailT]) -> DetailT:
    """The one detail of that kind."""
    (found,) = details(status, kind)
    return found


def details(status: Status, kind: type[DetailT]) -> list[DetailT]:
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


def fields(status: Status) -> Sequence[str]:
    """The fields that BadRequest names."""
    return [violation.field for violation in detail(status, BadRequest).field_violations]


def kinds(status: Status) -> Iterable[str]:
    """Which details a status has, besides the ErrorInfo."""
    names = {packed.TypeName().rpartition(".")[2] for packed in status.details}
    assert names <= {kind.DESCRIPTOR.name for kind in (ErrorInfo, BadRequest, PreconditionFailure, RetryInfo)}
    return names - {"ErrorInfo"}
