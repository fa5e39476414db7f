"""Load from one process: sagas started in a closed loop or at a fixed rate, and what came of them.

A driver is a process that knows how to run one saga to its end on one system. It reads a `Load` a line from its
standard input and answers each with an `Outcome`, both as JSON, so that the process that measures is another one. This
module runs in the environments of the peers too: it must import nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias

OUTSTANDING_MAX: Final = 20_000  # sagas of a fixed rate that nobody has answered
SAGA_MAX_S: Final = 180.0
FIRST_WORDS: Final = "ready"

RunSaga: TypeAlias = Callable[[str, bool], Awaitable[bool]]
"""Runs a saga to its end: its id and whether its third step is to be refused; whether it completed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a driver is to do.

    `prefix` makes the ids unique. `concurrency` sagas are under way at a time, for `seconds` or until there were
    `sagas` (0: no limit). With a `rate` above 0 so many are started a second instead, whatever becomes of them.
    """

    prefix: str
    concurrency: int = 1
    seconds: float = 0.0
    sagas: int = 0
    refuse: bool = False
    rate: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What came of it. Latencies are milliseconds, of the sagas that ended; `wall_s` is until the last of them did.

    `turned_away` counts answers that the system takes no more just now, `unsent` starts of a fixed rate for which too
    many others had no answer yet, `failures` everything else that went wrong; the first of those is in `first_failure`.
    """

    ended: int = 0
    turned_away: int = 0
    unsent: int = 0
    failures: int = 0
    first_failure: str = ""
    wall_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


class TurnedAway(Exception):
    """The system takes no more just now; it may be asked again after so many seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


def percentile(ordered: list[float], share: float) -> float:
    """The value that this share of the others does not exceed; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


async def run(load: Load, run_saga: RunSaga) -> Outcome:
    """Put the load on the system; returns when every saga that was started has been answered."""
    running = _Running(load, run_saga)
    begin_s = time.perf_counter()
    await (running.at_rate() if load.rate else running.closed())
    return running.outcome(begin_s)


@dataclass(slots=True)
class _Running:
    load: Load
    run_saga: RunSaga
    counted: Outcome = field(default_factory=Outcome)
    latencies_s: list[float] = field(default_factory=list)
    last_end_s: float = 0.0

    async def closed(self) -> None:
        """As many loops as sagas may be under way, each of which starts the next when one has ended."""
        ids = self._ids()
        await asyncio.gather(*(self._loop(ids) for _ in range(self.load.concurrency)))

    async def at_rate(self) -> None:
        """Starts at even distances, none of them later because an earlier one has no answer."""
        tasks: set[asyncio.Task[float | None]] = set()
        begin_s = time.perf_counter()
        for number, saga_id in enumerate(self._ids()):
            due_s = begin_s + number / self.load.rate
            if (early_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            if len(tasks) >= OUTSTANDING_MAX:
                self.counted.unsent += 1
                continue
            task = asyncio.create_task(self._once(saga_id))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if number % 64 == 0:
                await asyncio.sleep(0)  # also where it is late, answers must be read
        await asyncio.gather(*tasks)

    def outcome(self, begin_s: float) -> Outcome:
        """What was counted."""
        ordered = sorted(self.latencies_s)
        self.counted.ended = len(ordered)
        self.counted.wall_s = (self.last_end_s or time.perf_counter()) - begin_s
        self.counted.p50_ms = percentile(ordered, 0.5) * 1e3
        self.counted.p99_ms = percentile(ordered, 0.99) * 1e3
        return self.counted

    def _ids(self) -> Iterator[str]:
        """Ids, until the time is over or there were enough."""
        until_s = time.perf_counter() + self.load.seconds if self.load.seconds else float("inf")
        number = 0
        while time.perf_counter() < until_s and not 0 < self.load.sagas <= number:
            yield f"{self.load.prefix}-{number:07}"
            number += 1

    async def _loop(self, ids: Iterator[str]) -> None:
        for saga_id in ids:
            begin_s = time.perf_counter()
            while await self._once(saga_id, begin_s) is not None:
                pass

    async def _once(self, saga_id: str, begin_s: float | None = None) -> float | None:
        """Run a saga; how long the system asks to be left alone, once that time is over, where it took none."""
        begin_s = time.perf_counter() if begin_s is None else begin_s
        try:
            async with asyncio.timeout(SAGA_MAX_S):
                completed = await self.run_saga(saga_id, self.load.refuse)
        except TurnedAway as away:
            self.counted.turned_away += 1
            if not self.load.rate:
                await asyncio.sleep(away.retry_after_s)
            return away.retry_after_s
        except Exception as error:  # whatever it is, it is counted and shown
            self._failed(f"{type(error).__name__}: {error}")
            return None
        if completed is self.load.refuse:
            self._failed(f"saga {saga_id} ended otherwise than its third step says")
            return None
        self.last_end_s = time.perf_counter()
        self.latencies_s.append(self.last_end_s - begin_s)
        return None

    def _failed(self, what: str) -> None:
        self.counted.failures += 1
        self.counted.first_failure = self.counted.first_failure or what[:500]


async def serve(run_saga: RunSaga) -> None:
    """Say that the driver is ready, then answer each load of the standard input, until that ends."""
    _say(FIRST_WORDS)
    while line := await asyncio.to_thread(sys.stdin.readline):
        outcome = await run(Load(**json.loads(line)), run_saga)
        _say(json.dumps(asdict(outcome)))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run_fast(main: Coroutine[Any, Any, None]) -> None:
    """Run a program on the faster event loop where it is installed, as `saga serve` does."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
