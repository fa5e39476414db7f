"""Restart under load: many sagas in flight, `kill -9`, and a start on the journal that is left.

While nobody runs, the sagas are read and folded by the coordinator's own code, in this process and with nothing else.
Then the participants hold their calls back until the coordinator that was started again has taken all sagas up: it has
recorded of each which attempts were lost, and made the next ones. Then they answer, and it is measured how long the
sagas take to end, and how many calls were under way at most. The sagas are started with a delay that all starts fit
into: a coordinator whose participant does not answer takes no more. This module must not compare.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.stage import BenchmarkFailed, begun, unfinished
from benchmarks.workload import DEFINITION
from coordinator.core import limits
from coordinator.engine.clock import SystemClock
from coordinator.engine.definitions import Definitions
from coordinator.engine.loading import Loading
from coordinator.journal.sqlite import SqliteJournal

NAME = "recovery"
CONCURRENCY = 64
_END_MAX_S = 600.0
_BEGIN_MAX_S = 600.0
_STARTS_A_SECOND_MIN = 200
_LOOK_S = 0.05


async def recovery(bench: Bench) -> None:
    """Kill a coordinator and measure how it comes back."""
    sagas = bench.scale.sagas_in_flight
    async with bench.stage() as on:
        participants = await on.participants()
        coordinator = await on.coordinator(participants, unfinished_sagas_max=2 * sagas)
        delay_s = 1.0 + sagas / _STARTS_A_SECOND_MIN
        driver = await on.saga_driver(coordinator, "--until", "started", "--delay", str(delay_s))
        os.kill(participants.pid, signal.SIGUSR1)
        outcome = await driver.drive(Load(on.load_id(), CONCURRENCY, sagas=sagas))
        if outcome.ended != sagas:
            raise BenchmarkFailed(f"{outcome.ended} of {sagas} sagas were started: {outcome.first_failure}")
        await _until(partial(begun, coordinator.address), _BEGIN_MAX_S, "sagas whose time has come do not begin")
        await coordinator.kill()
        folded_s = await _fold_all(on.journal, sagas)
        begin_s = time.perf_counter()
        await on.start_again(coordinator)
        ready_s = time.perf_counter()
        await on.taken_up()
        taken_up_s = time.perf_counter()
        os.kill(participants.pid, signal.SIGUSR2)
        await _until(partial(_ended, coordinator.address), _END_MAX_S, "sagas that were taken up do not end")
        ended_s = time.perf_counter()
        await on.stop(participants)
        values = {
            "folded_sagas_s": sagas / folded_s,
            "start_s": ready_s - begin_s,
            "sagas_s": sagas / (taken_up_s - ready_s),
            "ended_s": ended_s - taken_up_s,
            "ended_sagas_s": sagas / (ended_s - taken_up_s),
            "calls_at_most": float(on.calls_at_most(participants)),
        }
        bench.add(NAME, {"sagas": sagas}, values)


async def _fold_all(path: Path, sagas: int) -> float:
    """For how many seconds all unfinished sagas of a journal are read and folded, in batches as at a start."""
    journal = await SqliteJournal.open(path)
    try:
        loading, folded, place = Loading(journal, Definitions(journal, dict, SystemClock())), 0, None
        begin_s = time.perf_counter()
        while True:
            page = await journal.unfinished(place, limits.TAKE_UP_BATCH)
            folded += len(await loading.many([index.saga_id for index in page.items]))
            if (place := page.next) is None:
                break
        seconds = time.perf_counter() - begin_s
    finally:
        await journal.close()
    if folded != sagas:
        raise BenchmarkFailed(f"{folded} of {sagas} unfinished sagas could be read")
    return seconds


async def _ended(address: str) -> bool:
    return not await unfinished(address, DEFINITION)


async def _until(look: Callable[[], Awaitable[bool]], at_most_s: float, otherwise: str) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            while not await look():  # noqa: ASYNC110  # another process brings it about
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise BenchmarkFailed(otherwise) from None
