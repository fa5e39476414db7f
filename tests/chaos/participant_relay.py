"""A participant's bad network, call by call: some are lost, late, answered in vain, or delivered twice, also later.

It stands between the coordinator and a participant and speaks gRPC to both, with the bodies as they are. It must not
know what the calls mean to the participant.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple, Self, TypeAlias

import grpc

from tests.chaos.deliveries import SERVICE, Deliveries, is_operation

_METHODS: Final = ("Execute", "Compensate", "Confirm", "Describe")
_CHANNEL_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)
_COPY_TIMEOUT_S: Final = 5.0
_LATE_S: Final = (0.0, 4.0)
"""How long after a call its late copy is sent: up to several times what an attempt may take."""

_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Weather:
    """How often what befalls a call, from 0 to 1."""

    doubled: float = 0
    """A copy is sent with it, side by side."""
    repeated: float = 0
    """A copy is sent later, often after its deadline and whatever has happened since."""
    delayed: float = 0
    """It, or its answer, is held back, sometimes beyond its deadline."""
    request_lost: float = 0
    reply_lost: float = 0


CALM: Final = Weather()
ROUGH: Final = Weather(doubled=0.12, repeated=0.12, delayed=0.06, request_lost=0.03, reply_lost=0.05)


class _Call(NamedTuple):
    method: str
    body: bytes
    metadata: tuple[tuple[str, str | bytes], ...]


class ParticipantRelay(AbstractAsyncContextManager["ParticipantRelay"]):
    """Serves on a free port of the loopback what the participant at the target, HOST:PORT, serves."""

    def __init__(self, target: str, chance: Random) -> None:
        self.address = ""
        self.weather = CALM
        self.counts = Counter[str]()
        """How many calls came, and what befell them."""
        self.deliveries = Deliveries()
        self._target = target
        self._chance = chance
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._channel: grpc.aio.Channel | None = None
        self._copies: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, _CHANNEL_OPTIONS)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self._behavior(name)) for name in _METHODS
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for copy in self._copies:
            copy.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)
        await self._server.stop(None)
        if self._channel is not None:
            await self._channel.close()

    async def is_quiet(self) -> None:
        """Return when every late copy has been delivered."""
        while self._copies:
            await asyncio.wait(tuple(self._copies))

    def _behavior(self, name: str) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        method = f"/{SERVICE}/{name}"

        async def behavior(body: bytes, context: _Context) -> bytes:
            metadata: Any = context.invocation_metadata() or ()
            sent = tuple((key, value) for key, value in metadata if not key.startswith(("grpc-", "user-agent")))
            try:
                return await self._pass_on(_Call(method, body, sent), context)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            except asyncio.CancelledError:
                # Let out, it would leave a caller without a deadline waiting for ever.
                await context.abort(grpc.StatusCode.CANCELLED, "the call was cancelled")

        return behavior

    async def _pass_on(self, call: _Call, context: _Context) -> bytes:
        if not is_operation(call.method):
            return await self._send(call, context.time_remaining())
        self.counts["made"] += 1
        if self._happens(self.weather.repeated, "repeated later"):
            self._send_copy(call, self._chance.uniform(*_LATE_S))
        if self._happens(self.weather.request_lost, "request lost"):
            await _until_its_deadline()
        if self._happens(self.weather.delayed, "request delayed"):
            await self._hold_back(context)
        if self._happens(self.weather.doubled, "doubled"):
            self._send_copy(call, 0)
        reply = await self._deliver(call, context.time_remaining(), "coordinator")
        if self._happens(self.weather.delayed, "reply delayed"):
            await self._hold_back(context)
        if self._happens(self.weather.reply_lost, "reply lost"):
            if self._chance.random() < 0.5:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            await _until_its_deadline()
        return reply

    def _happens(self, share: float, what: str) -> bool:
        happens = self._chance.random() < share
        self.counts[what] += happens
        return happens

    async def _hold_back(self, context: _Context) -> None:
        await asyncio.sleep(self._chance.uniform(0, 1.5) * (context.time_remaining() or 0))

    def _send_copy(self, call: _Call, after_s: float) -> None:
        copy = asyncio.create_task(self._deliver_copy(call, after_s))
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)

    async def _deliver_copy(self, call: _Call, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            await self._deliver(call, _COPY_TIMEOUT_S, "relay")
        except grpc.aio.AioRpcError as error:
            self.counts[f"copy unanswered, {error.code().name}"] += 1

    async def _deliver(self, call: _Call, timeout_s: float | None, deliverer: str) -> bytes:
        reply = await self._send(call, timeout_s)
        self.deliveries.answered(call.method, call.body, reply, deliverer)
        return reply

    async def _send(self, call: _Call, timeout_s: float | None) -> bytes:
        assert self._channel is not None
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(call.method)
        return await rpc(call.body, timeout=timeout_s, metadata=call.metadata)


async def _until_its_deadline() -> None:
    """Never answer: the caller's deadline cancels this."""
    await asyncio.Event().wait()
