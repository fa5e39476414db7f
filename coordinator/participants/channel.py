"""One participant's connection: options, deadlines, the bound on calls in flight, and whether it is up.

Nothing is retried here: the journal owns attempts, and a hidden second one would break their count. This module must
not read what an answer means.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias, TypeVar

import grpc

from coordinator.core import limits
from coordinator.participants.call import DESCRIBE, EXCHANGE, METHODS
from coordinator.participants.places import Places

# A participant that has stopped without closing its connection is noticed within about 15 s. `keepalive_timeout_ms`
# alone took over a minute: `ping_timeout_ms` is what ends the connection. Only while calls are in flight: most servers
# take pings on an idle connection for an attack and end it (GOAWAY, too_many_pings).
_KEEPALIVE_MS: Final = 10_000
_PING_TIMEOUT_MS: Final = 5_000
_RECONNECT_INITIAL_MS: Final = 100
_CLOSE_WAIT_S: Final = 0.05
_RECONNECT_MAX_MS: Final = limits.CONNECT_BACKOFF_MAX_NS // limits.MILLISECOND_NS

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", _RECONNECT_INITIAL_MS),
    ("grpc.min_reconnect_backoff_ms", _RECONNECT_MAX_MS),
    ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.use_local_subchannel_pool", 1),  # two names for one target do not share a connection's fate
)

T = TypeVar("T")

Connect: TypeAlias = Callable[[str], grpc.aio.Channel]
"""From a target to a channel with OPTIONS; where credentials come in."""


def insecure(target: str) -> grpc.aio.Channel:
    """A channel without encryption."""
    return grpc.aio.insecure_channel(target, options=OPTIONS)


class CallEndedError(Exception):
    """The call was ended on this side; `code` is the status that comes nearest."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ParticipantChannel:
    """A channel to one participant; belongs to the event loop it was made in."""

    def __init__(self, channel: grpc.aio.Channel, calls_max: int = limits.CALLS_PER_PARTICIPANT_MAX) -> None:
        self._channel = channel
        self._rpcs: Mapping[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {
            method: channel.unary_unary(method) for method in METHODS
        }
        self._exchange: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(EXCHANGE)
        self.places = Places(calls_max)
        self._connections = 0
        self._is_up = False
        self._came_up = asyncio.Event()
        self._watch = asyncio.create_task(self._watch_connectivity())

    async def in_place(self, timeout_ns: int, make: Callable[[float], Awaitable[T]]) -> T:
        """Has `make` make a call as soon as a place is free, on whichever lane; its answer.

        `timeout_ns` bounds waiting and call together: `make` gets the deadline, in the event loop's time.

        Raises:
            CallEndedError: DEADLINE_EXCEEDED where the time was over while it waited for a place, and nothing was sent.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_ns / limits.SECOND_NS
        await self._take_place(deadline_s)
        try:
            _require_time(deadline_s)
            return await make(deadline_s)
        finally:
            self.places.release()

    async def call(
        self, method: str, request: bytes, *, deadline_s: float, metadata: tuple[tuple[str, str], ...]
    ) -> bytes:
        """Sends one request by a unary call; the answer's body as it came.

        Raises:
            grpc.aio.AioRpcError: the call ended with a status other than OK.
            CallEndedError: DEADLINE_EXCEEDED where the time was over before it was sent; CANCELLED where the channel is
                closed, or was before the answer came; INTERNAL where gRPC refuses it.
        """
        return await self._send(method, request, _require_time(deadline_s), metadata)

    def exchange(self) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        """Begins a stream of the fast lane. Only while the channel is not closed."""
        return self._exchange(wait_for_ready=False)

    async def describe(self) -> bytes:
        """Sends Describe, whatever else is in flight; raises as `call` does."""
        return await self._send(DESCRIBE, b"", limits.DESCRIBE_TIMEOUT_NS / limits.SECOND_NS, ())

    def observe(self) -> int:
        """How often the connection has come up so far, this moment included; starts connecting where it is down."""
        self._note(self._channel.get_state(try_to_connect=True))
        return self._connections

    def is_up(self) -> bool:
        """Whether the connection is up now."""
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def came_up(self, after: int) -> int:
        """Waits until the connection has come up more often than `after` times; answers how often it has."""
        while self._connections <= after:
            self._came_up.clear()
            await self._came_up.wait()
        return self._connections

    async def close(self) -> None:
        """Ends the calls in flight and the connection."""
        await self._channel.close()
        # As a rule gRPC tells the watch of the closing at once, and has nothing left to tell this event loop. A call
        # that was cancelled can keep the channel alive a little longer: that is not worth waiting for.
        await asyncio.wait([self._watch], timeout=_CLOSE_WAIT_S)
        await end(self._watch)

    async def _take_place(self, deadline_s: float) -> None:
        if not self.places.locked():
            await self.places.acquire()  # at once, and without the cost of a timeout
            return
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.places.acquire()
        except TimeoutError:
            raise _no_place() from None

    async def _send(
        self, method: str, request: bytes, timeout_s: float, metadata: tuple[tuple[str, str], ...]
    ) -> bytes:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        try:
            body: bytes | None = await self._rpcs[method](
                request, timeout=timeout_s, metadata=metadata, wait_for_ready=False
            )
            if body is None and loop.time() >= deadline_s:  # so grpc.aio says that answer and deadline came together
                raise CallEndedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the answer came when the time was over")
            return body or b""  # None: it ended OK without a message, which says as little as an empty one
        except grpc.aio.UsageError:
            raise _closed() from None
        except grpc.aio.InternalError as error:  # for instance metadata that cannot be sent
            raise CallEndedError(grpc.StatusCode.INTERNAL, str(error)) from None
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise _closed() from None  # gRPC also raises this for the calls of a channel that is closed

    async def _watch_connectivity(self) -> None:
        """Keeps the connection up and counts how often it came up.

        The only one who waits for gRPC's state: a wait that is cancelled leaves its watcher behind in gRPC until the
        state changes, so this one goes on as long as the channel.
        """
        while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.SHUTDOWN:
            self._note(state)
            await self._channel.wait_for_state_change(state)
            self._is_up = False  # even if it is up again by now: that is another connection

    def _note(self, state: grpc.ChannelConnectivity) -> None:
        if state is not grpc.ChannelConnectivity.READY:
            self._is_up = False
        elif not self._is_up:
            self._is_up = True
            self._connections += 1
            self._came_up.set()


def is_cancelled() -> bool:
    """Whether somebody cancels the task that asks; a CancelledError that gRPC raises is none of it otherwise."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def end(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits for its end; raises what had broken it before."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _no_place() -> CallEndedError:
    return CallEndedError(grpc.StatusCode.DEADLINE_EXCEEDED, "too many calls are in flight: no place was free in time")


def _require_time(deadline_s: float) -> float:
    """How many seconds are left; `CallEndedError` where none is."""
    left_s = deadline_s - asyncio.get_running_loop().time()
    if left_s <= 0:
        raise too_late()
    return left_s


def too_late() -> CallEndedError:
    """How a call ends that was not sent in its time."""
    return CallEndedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the time was over before the call could be sent")


def _closed() -> CallEndedError:
    return CallEndedError(grpc.StatusCode.CANCELLED, "the connection was closed by the coordinator")
