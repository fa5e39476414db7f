"""`Participant`: a set of actions behind one gRPC server, from its start to its drained end.

Beside the contract it serves health (NOT_SERVING while it drains) and reflection, with the actions' own types. It
must not know what a barrier does; it only opens it before the first call and closes it after the last.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from participant_sdk import describe, exchange
from participant_sdk.action import Action
from participant_sdk.barrier.base import Barrier
from participant_sdk.guard import guarded
from participant_sdk.limits import CLEAN_UP_MAX, DRAIN_DEFAULT, MESSAGE_BYTES_MAX, PING_INTERVAL_MIN_MS
from participant_sdk.servicer import SERVICE, ParticipantServicer
from saga.v1 import participant_pb2

_LOG: Final = logging.getLogger(__name__)

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error and not a lottery
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MIN_MS),
)
# Any: these stubs are of the implementation's own classes.
_HEALTH: Final[Any] = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION: Final[Any] = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Participant:
    """A participant of sagas: its name for people, its actions, and the barrier that makes their effects happen once.

    `key_retention` promises how long barrier rows are kept (None: not said); it must be longer than the coordinator
    remembers ended sagas, and `barrier.prune` must keep it. `NoBarrier()` has to be said explicitly. `fast_lane` offers
    Exchange, over which a coordinator sends many calls in a message; without it there are only unary calls.

    Errors: `ValueError` where the actions do not fit together.
    """

    def __init__(
        self,
        name: str,
        actions: Sequence[Action[Any, Any, Any]],
        barrier: Barrier,
        *,
        version: str = "",
        key_retention: timedelta | None = None,
        fast_lane: bool = True,
    ) -> None:
        self.name = name
        self.barrier = barrier
        self.actions = describe.actions_by_name(actions)
        self.description = describe.describe(
            name,
            version,
            self.actions.values(),
            barriered=barrier.keeps_rules,
            key_retention=key_retention,
            exchange=exchange.offered() if fast_lane else None,
        )
        self._running: _Running | None = None

    async def serve(
        self,
        address: str,
        *,
        grace: timedelta = DRAIN_DEFAULT,
        credentials: grpc.ServerCredentials | None = None,
        on_ready: Callable[[str], object] | None = None,
    ) -> None:
        """Serve until SIGTERM, SIGINT or cancellation, then drain: calls under way have `grace` to finish.

        `on_ready` is called once with the address that is served. Errors: as `start`.
        """
        stop = asyncio.Event()
        with _stop_signals(stop):
            async with self.running(address, grace=grace, credentials=credentials) as served:
                if on_ready is not None:
                    on_ready(served)
                await stop.wait()

    @asynccontextmanager
    async def running(
        self,
        address: str,
        *,
        grace: timedelta = DRAIN_DEFAULT,
        credentials: grpc.ServerCredentials | None = None,
    ) -> AsyncIterator[str]:
        """Serve inside `async with`, which yields the address that is served. Errors: as `start`."""
        served = await self.start(address, credentials=credentials)
        try:
            yield served
        finally:
            await self.stop(grace)

    async def start(self, address: str, *, credentials: grpc.ServerCredentials | None = None) -> str:
        """Open the barrier, serve, and return the address with the port that was bound (port 0: any free one).

        Errors: `RuntimeError` where it runs already or the address cannot be bound; the barrier's.
        """
        if self._running is not None:
            raise RuntimeError(f"participant {self.name} is running already")
        await self.barrier.open()
        servicer = ParticipantServicer(self.actions, self.barrier, self.description)
        self._running = _Running(servicer)
        try:
            served = await self._running.start(address, self.description, credentials)
        except BaseException:
            await self.stop(timedelta(0))
            raise
        _LOG.info("participant %s serves %s on %s", self.name, ", ".join(self.actions), served)
        return served

    async def stop(self, grace: timedelta = DRAIN_DEFAULT) -> None:
        """Take no further call, give those under way `grace` to finish, cancel the rest, close the barrier."""
        running, self._running = self._running, None
        if running is not None:
            try:
                await running.stop(grace)
            finally:
                await self.barrier.close()
            _LOG.info("participant %s has stopped", self.name)


class _Running:
    """One gRPC server, from its start to its end."""

    def __init__(self, servicer: ParticipantServicer) -> None:
        self._servicer = servicer
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_OPTIONS)

    async def start(
        self,
        address: str,
        description: participant_pb2.DescribeResponse,
        credentials: grpc.ServerCredentials | None,
    ) -> str:
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        types = reflection.aio.ReflectionServicer(names, pool=_pool(description))
        self._server.add_generic_rpc_handlers(
            (self._servicer.rpc_handlers(), guarded(_HEALTH, self._health), guarded(_REFLECTION, types))
        )
        for name in (health.OVERALL_HEALTH, SERVICE.full_name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        served = self._bind(address, credentials)
        await self._server.start()
        return served

    async def stop(self, grace: timedelta) -> None:
        await self._health.enter_graceful_shutdown()
        self._servicer.drain()
        await self._server.stop(grace.total_seconds())
        try:
            async with asyncio.timeout(CLEAN_UP_MAX.total_seconds()):
                await self._servicer.idle()
        except TimeoutError:
            _LOG.error("a handler does not end although it was cancelled")

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> str:
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        host, colon, _ = address.rpartition(":")
        return address if address.startswith("unix") else f"{host}{colon}{port}"


def _pool(description: participant_pb2.DescribeResponse) -> Any:
    """Return the types that reflection shows: the actions' as they describe themselves, and the services'."""
    own = (participant_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    files = describe.file_descriptor_set(own)
    names = {file.name for file in files.file}
    files.file.extend(file for file in description.descriptors.file if file.name not in names)
    return describe.descriptor_pool(files)


@contextmanager
def _stop_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set the event on SIGTERM and SIGINT, where this thread and platform can receive them."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in _STOP_SIGNALS:
        try:
            loop.add_signal_handler(number, stop.set)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # Windows, or not the main thread: whoever embeds this cancels it
        handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
