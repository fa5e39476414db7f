"""The gRPC server: every service under its name, health, channelz and reflection.

This module must not know what the services do.
"""

from __future__ import annotations

import socket
from socket import SOCK_STREAM
from typing import Any, Final

import grpc
import grpc.aio
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health, health_pb2

from coordinator.api.definitions import DefinitionService
from coordinator.api.directory import DirectoryService
from coordinator.api.guard import guarded
from coordinator.api.participant import ParticipantService
from coordinator.api.reflection import Reflection
from coordinator.api.rpc import Gates, handler_of
from coordinator.api.sagas import SagaService
from coordinator.core import limits
from coordinator.participants.directory import Directory
from saga.v1 import coordinator_pb2, definition_pb2, participant_pb2

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),  # what clients' keepalive needs
    ("grpc.keepalive_permit_without_calls", 1),
)

_COORDINATOR: Final = coordinator_pb2.DESCRIPTOR.services_by_name["CoordinatorService"]
_DIRECTORY: Final = coordinator_pb2.DESCRIPTOR.services_by_name["ParticipantDirectoryService"]
_DEFINITIONS: Final = definition_pb2.DESCRIPTOR.services_by_name["DefinitionService"]
_PARTICIPANT: Final = participant_pb2.DESCRIPTOR.services_by_name["ParticipantService"]
# Any: these stubs are of the implementation's own classes.
_HEALTH: Final[Any] = health_pb2.DESCRIPTOR.services_by_name["Health"]
_CHANNELZ: Final[Any] = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"]
_SERVED: Final = tuple(each.full_name for each in (_COORDINATOR, _DIRECTORY, _DEFINITIONS, _PARTICIPANT))


class Server:
    """Serves one coordinator."""

    def __init__(
        self,
        sagas: SagaService,
        definitions: DefinitionService,
        participants: DirectoryService,
        children: ParticipantService,
        directory: Directory,
        gates: Gates,
    ) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers(
            [
                handler_of(_COORDINATOR, sagas, gates),
                handler_of(_DIRECTORY, participants, gates),
                handler_of(_DEFINITIONS, definitions, gates),
                handler_of(_PARTICIPANT, children, gates),
                guarded(_HEALTH, self._health),
                guarded(_CHANNELZ, channelz.aio.ChannelzServicer()),
            ]
        )
        Reflection(directory, (*_SERVED, _HEALTH.full_name, _CHANNELZ.full_name)).add_to(self._server)

    async def start(self, address: str) -> str:
        """Serve; returns HOST:PORT. OSError where the address cannot be had."""
        _probe(address)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        return f"{address.rpartition(':')[0]}:{port}"

    async def say_serving(self, serving: bool) -> None:
        """Answer health checks with it, for the server and for each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *_SERVED):
            await self._health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """End all calls; those under way have that long."""
        await self._server.stop(grace_s)


def _probe(address: str) -> None:
    """OSError with the reason where the address cannot be had: gRPC says only that it cannot, on lines of its own."""
    host, _, port = address.rpartition(":")
    for family, kind, protocol, _name, place in socket.getaddrinfo(host.strip("[]"), int(port), type=SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
