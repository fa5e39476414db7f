"""Health, channelz, reflection and the port."""

import contextlib
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordinator.api.definitions import DefinitionService
from coordinator.api.directory import DirectoryService
from coordinator.api.participant import ParticipantService
from coordinator.api.rpc import Gates
from coordinator.api.sagas import SagaService
from coordinator.api.server import Server
from coordinator.engine.compatibility import Compatibility
from coordinator.participants.directory import Directory
from tests.coordinator.api.serving import Api, serving
from tests.coordinator.engine.bench import Bench

SERVICES = ("saga.v1.CoordinatorService", "saga.v1.DefinitionService", "saga.v1.ParticipantDirectoryService")


async def _health(api: Api, service: str = "") -> str:
    response = await api.health.Check(HealthCheckRequest(service=service))
    return HealthCheckResponse.ServingStatus.Name(response.status)


async def test_health_is_that_of_the_server_and_of_each_service() -> None:
    async with serving() as api:
        for serving_now, answer in ((True, "SERVING"), (False, "NOT_SERVING"), (True, "SERVING")):
            await api.server.say_serving(serving_now)
            assert {await _health(api, service) for service in ("", *SERVICES)} == {answer}


async def test_who_watches_the_health_is_told_of_changes() -> None:
    async with serving() as api:
        await api.server.say_serving(True)
        watch = aiter(api.health.Watch(HealthCheckRequest()))
        assert (await anext(watch)).status == HealthCheckResponse.SERVING
        await api.server.say_serving(False)
        assert (await anext(watch)).status == HealthCheckResponse.NOT_SERVING


async def test_channelz_is_served() -> None:
    async with serving() as api:
        channel: Any = api.channel  # the stubs are annotated for the synchronous API
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        response = await stub.GetServers(channelz_pb2.GetServersRequest())
        assert response.server


async def test_reflection_lists_every_service() -> None:
    async with serving() as api:
        channel: Any = api.channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (response,) = [answer async for answer in stub.ServerReflectionInfo(iter([asked]))]
        names = {service.name for service in response.list_services_response.service}
        assert names >= {*SERVICES, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"}


async def test_a_port_is_served_by_one_server_only() -> None:
    async with serving() as api:
        reasons = {api.address: "in use", "no-such-host.invalid:1": "not known|resolution", "127.0.0.1:-1": "ervname"}
        for taken, reason in reasons.items():
            second = _server(api.bench)
            with pytest.raises(OSError, match=reason):
                await second.start(taken)
            await second.stop(0)


async def test_the_address_has_the_port_that_was_picked() -> None:
    bench = Bench()
    for asked in ("127.0.0.1:0", "localhost:0", "[::1]:0"):
        server = _server(bench)
        with contextlib.suppress(OSError):  # a machine may have no IPv6
            address = await server.start(asked)
            host, _, port = address.rpartition(":")
            assert host == asked.rpartition(":")[0]
            assert int(port) > 0
            async with grpc.aio.insecure_channel(address) as channel:
                await channel.channel_ready()
        await server.stop(0)


def _server(bench: Bench) -> Server:
    gates = Gates()
    sagas = SagaService(bench.engine, bench.journal, bench.clock, gates)
    directory = Directory({})
    problems = Compatibility(bench.journal, directory.descriptions).problems
    participants = DirectoryService(directory, problems, bench.definitions)
    children = ParticipantService(bench.engine.children, bench.definitions)
    definitions = DefinitionService(bench.definitions, bench.journal)
    return Server(sagas, definitions, participants, children, directory, gates)
