"""Carries the plan out: on each target one fault after the other, on all targets at once. Writes down what it did.

When it is done, every fault is over. Broken off, it leaves no process stopped and no link in trouble; one may be dead.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Final

from sample_services.demo.processes import Server, ServerFailed
from tests.chaos.plan import Act, LinkFault, ProcessFault
from tests.chaos.tcp_relay import TcpRelay

_SECOND_KILL_AFTER_S: Final = (0.05, 1.5)


class Nemesis:
    """What befalls the processes and the links, by name. `log` is told each act in a line."""

    def __init__(
        self, servers: Mapping[str, Server], links: Mapping[str, TcpRelay], chance: Random, log: Callable[[str], object]
    ) -> None:
        self.kills = Counter[str]()
        """By process."""
        self.stops = Counter[str]()
        """By process."""
        self.faults = Counter[str]()
        """Of links, by what befell them."""
        self._servers = servers
        self._links = links
        self._chance = chance
        self._log = log
        self._begin = 0.0

    async def play(self, lines: Sequence[Sequence[Act]]) -> None:
        """Let all lines of faults take their course."""
        self._begin = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for line in lines:
                group.create_task(self._play_line(line))

    async def _play_line(self, line: Sequence[Act]) -> None:
        for act in line:
            await self._until(act.at_s)
            self._log(f"{self._now():8.3f} s  {act.target}: {act.fault}, {act.for_s:.3f} s")
            if isinstance(act.fault, LinkFault):
                await self._afflict(self._links[act.target], act.fault, act.until_s)
            elif act.fault is ProcessFault.STOP:
                await self._stop(self._servers[act.target], act.until_s)
            else:
                await self._kill_and_start(self._servers[act.target], act)
            self._log(f"{self._now():8.3f} s  {act.target}: well again")

    async def _afflict(self, link: TcpRelay, fault: LinkFault, until_s: float) -> None:
        self.faults[fault] += 1
        link.suffer(fault)
        try:
            await self._until(until_s)
        finally:
            link.recover()

    async def _stop(self, server: Server, until_s: float) -> None:
        self.stops[server.name] += 1
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await self._until(until_s)
        finally:
            os.kill(server.pid, signal.SIGCONT)

    async def _kill_and_start(self, server: Server, act: Act) -> None:
        await self._kill(server)
        await self._until(act.until_s)
        if act.fault is ProcessFault.KILL_TWICE:
            await self._kill_as_it_starts(server)
        await server.start()

    async def _kill_as_it_starts(self, server: Server) -> None:
        starting = asyncio.create_task(server.start())
        try:
            await asyncio.wait([starting], timeout=self._chance.uniform(*_SECOND_KILL_AFTER_S))
        finally:
            await self._kill(server)
            with suppress(ServerFailed):  # it ended before it was ready, as it had to
                await starting

    async def _kill(self, server: Server) -> None:
        self.kills[server.name] += 1
        await server.kill()

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(at_s - self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._begin
