"""What becomes of a coordinator that is asked for twice what it can do.

First its peak is found, then sagas are started at twice that rate, whatever becomes of the earlier ones. What is turned
away is counted apart; latencies are those of the sagas that were admitted. This module must not compare.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.systems import FAST, OURS, UNARY, NotThereError, System

NAME = "overload"
TIMES = 2


async def overload(bench: Bench) -> None:
    """Measure both lanes."""
    for lane in (UNARY, FAST) if bench.scale.everything else (UNARY,):
        try:
            await _measure(bench, System(OURS, lane))
        except NotThereError as absent:
            bench.note(str(absent))


async def _measure(bench: Bench, system: System) -> None:
    async with bench.stage() as on:
        driver = await system.up(bench, on)
        await bench.warm_up(on, driver)
        peaks = [
            await bench.measure(on, driver, Load(on.load_id(), concurrency, bench.scale.seconds))
            for concurrency in bench.scale.peak_concurrencies
        ]
        peak = max(peaks, key=lambda values: values["sagas_s"])
        bench.add(NAME, {"lane": system.lane, "times": 1}, peak)
        load = Load(on.load_id(), seconds=2 * bench.scale.seconds, rate=TIMES * peak["sagas_s"])
        bench.add(NAME, {"lane": system.lane, "times": TIMES}, await bench.measure(on, driver, load))
