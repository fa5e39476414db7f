"""A TCP connection's bad luck: forwards bytes as they are, until it is told to do worse.

One relay stands on one link. It must not know what the bytes mean; what it forwards at all, it forwards exactly and in
order.
"""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Self

from tests.chaos.plan import LinkFault

DELAY_S: Final = 0.4
THROTTLED_BYTES_PER_S: Final = 4_000
_CHUNK_BYTES: Final = 1 << 16
_THROTTLED_CHUNK_BYTES: Final = 256
_RESETTING: Final = frozenset({LinkFault.CUT, LinkFault.REFUSE})
_LASTING: Final = frozenset(LinkFault) - {LinkFault.CUT, LinkFault.TEAR}


class TcpRelay(AbstractAsyncContextManager["TcpRelay"]):
    """Listens on a free port of the loopback, and connects each connection to the target, HOST:PORT."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.counts = Counter[str]()
        """What befell connections, by the fault's name; `made` counts them."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._fault: LinkFault | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._pairs: set[_Pair] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._server is not None
        self._server.close()
        self._reset(self._pairs, "")
        while self._pairs:
            await asyncio.wait([pair.done for pair in self._pairs])
        await self._server.wait_closed()

    def suffer(self, fault: LinkFault) -> None:
        """Let a fault begin."""
        if fault in _RESETTING:
            self._reset(self._pairs, fault)
        if fault is LinkFault.TEAR:
            for pair in self._pairs:
                pair.is_to_tear = True
        if fault is LinkFault.SWALLOW:
            for pair in self._pairs:
                pair.swallows = True
            self.counts[fault] += len(self._pairs)
        if fault is LinkFault.FREEZE:
            self._flows.clear()
            self.counts[fault] += len(self._pairs)
        self._fault = fault if fault in _LASTING else None

    def recover(self) -> None:
        """Let it end. What was swallowed is gone, so those connections cannot go on: they are reset."""
        self._fault = None
        self._flows.set()
        for pair in self._pairs:
            pair.is_to_tear = False
        self._reset({pair for pair in self._pairs if pair.swallows}, "")

    def _reset(self, pairs: set["_Pair"], why: str) -> None:
        for pair in tuple(pairs):
            pair.reset()
            if why:
                self.counts[why] += 1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault is LinkFault.REFUSE:
            self.counts[LinkFault.REFUSE] += 1
            writer.transport.abort()
            return
        self.counts["made"] += 1
        pair = _Pair(writer, swallows=self._fault is LinkFault.SWALLOW)
        self._pairs.add(pair)
        try:
            with suppress(OSError):
                await self._carry(pair, reader)
        finally:
            pair.reset()
            self._pairs.discard(pair)
            pair.done.set_result(None)

    async def _carry(self, pair: "_Pair", reader: asyncio.StreamReader) -> None:
        """Carry both ways until either end, or a fault, ends it."""
        host, _, port = self._target.rpartition(":")
        target_reader, target_writer = await asyncio.open_connection(host, int(port))
        pair.ends.append(target_writer)
        ways = (
            self._pump(pair, reader, target_writer, LinkFault.DELAY_REQUESTS),
            self._pump(pair, target_reader, pair.ends[0], LinkFault.DELAY_REPLIES),
        )
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, pair: "_Pair", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delaying: LinkFault
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if pair.swallows:
                continue
            await self._flows.wait()
            if pair.is_to_tear:
                self.counts[LinkFault.TEAR] += 1
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            if self._fault is delaying:
                self.counts[delaying] += 1
                await asyncio.sleep(DELAY_S)
            await self._write(writer, chunk)

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        while self._fault is LinkFault.THROTTLE and chunk:
            self.counts[LinkFault.THROTTLE] += 1
            piece, chunk = chunk[:_THROTTLED_CHUNK_BYTES], chunk[_THROTTLED_CHUNK_BYTES:]
            writer.write(piece)
            await asyncio.sleep(len(piece) / THROTTLED_BYTES_PER_S)
        writer.write(chunk)
        await writer.drain()


class _Pair:
    """A connection from a client and the one to the target that it became."""

    def __init__(self, client: asyncio.StreamWriter, *, swallows: bool) -> None:
        self.ends = [client]
        self.swallows = swallows
        self.is_to_tear = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def reset(self) -> None:
        for end in self.ends:
            end.transport.abort()
