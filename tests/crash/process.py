"""A coordinator's process, which may die at any moment, also before it serves.

`sample_services.demo.processes` takes a server that ends by itself for a failure; here it is what is waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from coordinator import failpoints

_LISTENING: Final = re.compile(r"listening on (\S+)")
_STOP_MAX_S: Final = 30.0
_LINES_KEPT: Final = 40


class Coordinator:
    """One process of `saga serve`, from `start` to its end."""

    def __init__(self, process: asyncio.subprocess.Process, *, fast_lane: bool) -> None:
        self.address = ""
        """Where it serves; empty where it died before it did."""
        self.reached: Counter[str] = Counter()
        """Which failpoints acted, as they were armed, and how often."""
        self.fast_lane = fast_lane
        """Whether it calls the participant over Exchange."""
        self._process = process
        self._tail: deque[str] = deque(maxlen=_LINES_KEPT)
        self._acted = asyncio.Event()
        self._log = asyncio.create_task(self._read_log())

    @classmethod
    async def start(cls, journal: Path, participant: str, armed: str, *, fast_lane: bool = True) -> Coordinator:
        """Start one with these failpoints, and return when it serves or has died."""
        command = ("serve", "--listen=127.0.0.1:0", f"--journal={journal}", "--log-format=json")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coordinator.cli", *command, f"--participant=effects={participant}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                failpoints.VARIABLE: armed,
                "SAGA_DRAIN_SECONDS": "0.2",
                "SAGA_FAST_LANE": str(fast_lane),
            },
            start_new_session=True,
        )
        coordinator = cls(process, fast_lane=fast_lane)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_STOP_MAX_S):
                line = (await process.stdout.readline()).decode()
        except BaseException:
            await coordinator.kill()
            raise
        if found := _LISTENING.search(line):
            coordinator.address = found[1]
        return coordinator

    @property
    def last_words(self) -> str:
        return "".join(self._tail)

    async def died(self) -> None:
        """Return when it is gone."""
        await self._process.wait()
        await self._log

    async def acted(self, failpoint: str) -> None:
        """Return when a failpoint has acted."""
        while not self.reached[failpoint]:
            self._acted.clear()
            await self._acted.wait()

    def ask_to_stop(self) -> None:
        self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        """`kill -9`, and return when it is gone."""
        self._signal(signal.SIGKILL)
        await self.died()

    def _signal(self, number: signal.Signals) -> None:
        # Not by the methods of asyncio's process: where it is dying they take its exit code away from who waits for it.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace")
            self._tail.append(text)
            if '"failpoint reached"' in text:
                self.reached[json.loads(text)["failpoint"]] += 1
                self._acted.set()
