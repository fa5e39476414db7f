"""A relay forwards what it is given, and fails in each way that it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import pytest

from tests.chaos import tcp_relay
from tests.chaos.plan import LinkFault
from tests.chaos.tcp_relay import TcpRelay

BYTES = bytes(range(256)) * 1024
SOON_S = 0.1
PATIENCE_S = 60


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()


@pytest.fixture
async def relay() -> AsyncIterator[TcpRelay]:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with TcpRelay(f"{host}:{port}") as relaying:
            yield relaying


class Caller:
    """A connection through the relay."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echoes(self, sent: bytes = b"hello") -> bool:
        """Whether it is answered, exactly; False where it is reset."""
        try:
            self.writer.write(sent)
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.readexactly(len(sent)) == sent
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    async def is_silent(self) -> bool:
        """Whether what it sends is neither answered nor refused."""
        self.writer.write(b"hello")
        try:
            async with asyncio.timeout(SOON_S):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False


Call: TypeAlias = Callable[[TcpRelay], Awaitable[Caller]]


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    """Makes connections, and ends them with the test."""
    callers: list[Caller] = []

    async def connect(relay: TcpRelay) -> Caller:
        host, _, port = relay.address.rpartition(":")
        callers.append(Caller(*await asyncio.open_connection(host, int(port))))
        return callers[-1]

    yield connect
    for caller in callers:
        caller.writer.transport.abort()
        with suppress(ConnectionError):
            await caller.writer.wait_closed()


async def test_it_forwards_exactly(relay: TcpRelay, call: Call) -> None:
    assert await (await call(relay)).echoes(BYTES)
    assert relay.counts == {"made": 1}


async def test_a_cut_resets_what_is_there_and_nothing_else(relay: TcpRelay, call: Call) -> None:
    caller = await call(relay)
    assert await caller.echoes()
    relay.suffer(LinkFault.CUT)
    assert not await caller.echoes()
    assert await (await call(relay)).echoes()
    assert relay.counts[LinkFault.CUT] == 1


async def test_a_torn_connection_carries_half_of_what_came_next(relay: TcpRelay, call: Call) -> None:
    caller = await call(relay)
    assert await caller.echoes()
    relay.suffer(LinkFault.TEAR)
    assert not await caller.echoes()
    assert relay.counts[LinkFault.TEAR] == 1
    assert await (await call(relay)).echoes()


async def test_what_is_refused_is_reset_until_it_is_well_again(relay: TcpRelay, call: Call) -> None:
    caller = await call(relay)
    assert await caller.echoes()
    relay.suffer(LinkFault.REFUSE)
    assert not await caller.echoes()
    assert not await (await call(relay)).echoes()
    relay.recover()
    assert await (await call(relay)).echoes()


async def test_what_is_frozen_comes_through_later(relay: TcpRelay, call: Call) -> None:
    caller = await call(relay)
    assert await caller.echoes()
    relay.suffer(LinkFault.FREEZE)
    assert await caller.is_silent()
    relay.recover()
    assert await caller.reader.readexactly(5) == b"hello"


async def test_what_is_swallowed_is_gone_and_its_connection_with_it(relay: TcpRelay, call: Call) -> None:
    caller = await call(relay)
    assert await caller.echoes()
    relay.suffer(LinkFault.SWALLOW)
    assert await caller.is_silent()
    assert await (await call(relay)).is_silent()
    relay.recover()
    assert not await caller.echoes()
    assert await (await call(relay)).echoes()


@pytest.mark.parametrize("fault", [LinkFault.DELAY_REQUESTS, LinkFault.DELAY_REPLIES])
async def test_a_delay_is_one_way_and_loses_nothing(
    relay: TcpRelay, call: Call, fault: LinkFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_relay, "DELAY_S", SOON_S)
    relay.suffer(fault)
    begun = asyncio.get_running_loop().time()
    assert await (await call(relay)).echoes()
    assert asyncio.get_running_loop().time() - begun >= SOON_S
    assert relay.counts[fault] == 1


async def test_what_is_throttled_comes_through_in_pieces_and_exactly(relay: TcpRelay, call: Call) -> None:
    relay.suffer(LinkFault.THROTTLE)
    assert await (await call(relay)).echoes(BYTES[:600])
    assert relay.counts[LinkFault.THROTTLE] >= 3


async def test_a_target_that_is_gone_resets_the_connection(call: Call) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
    async with TcpRelay(f"{host}:{port}") as relay:
        assert not await (await call(relay)).echoes()
