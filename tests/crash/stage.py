"""Plays pieces of the crash matrix on several lines at once, beside one participant that all of them share.

This module must not know which pieces there are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from sample_services.demo.processes import Supervisor
from tests.crash.line import Counts, Line, Services

Piece: TypeAlias = Callable[[Line], Awaitable[None]]


async def play(
    directory: Path,
    pieces: Iterable[Piece],
    lines: int,
    progress: Callable[[Counts], None],
    *,
    fast_lane: bool = True,
) -> Counts:
    """Play all pieces, the next one on whichever line is free; returns what came of them.

    Without `fast_lane` the participant is called by unary calls alone.
    """
    counts = Counts()
    async with Supervisor(directory) as supervisor:
        command = (sys.executable, "-m", "tests.crash.participant", f"--database={directory / 'effects.db'}")
        participant = await supervisor.start("effects", command)
        services = Services(directory, participant.address)
        queue = iter(pieces)
        async with asyncio.TaskGroup() as group:
            for number in range(lines):
                line = Line(directory, f"journal{number}", services, counts, fast_lane=fast_lane)
                group.create_task(_play(line, queue, lambda: progress(counts)))
    counts.violations += [f"took effect more than once: {row}" for row in services.doubled()]
    counts.violations += [f"is not net zero: {row}" for row in services.not_net_zero()]
    return counts


async def _play(line: Line, queue: Iterator[Piece], progress: Callable[[], None]) -> None:
    async with line:
        with suppress(StopIteration):
            while True:
                await next(queue)(line)
                progress()
        await line.settle()
