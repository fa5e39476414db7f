"""Throughput, latency and what a saga costs, by concurrency: of our coordinator, the floor and the peers, in turn.

Every round starts every system afresh, every second one in reverse order, so that no system is measured on a quieter
machine than another. This module must not compare.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.stage import BenchmarkFailed
from benchmarks.systems import ALL, FEW, NotThereError, System

NAME = "throughput"


async def throughput(bench: Bench) -> None:
    """Take the samples of one round."""
    systems = ALL if bench.scale.everything else FEW
    for system in systems if bench.round % 2 == 0 else systems[::-1]:
        if system.is_peer and bench.peers is None:
            continue
        try:
            await _measure(bench, system)
        except NotThereError as absent:
            bench.note(str(absent))
        except BenchmarkFailed as broken:  # the others are measured all the same
            bench.note(f"{system.name} ({system.lane}) could not be measured: {broken}")


async def _measure(bench: Bench, system: System) -> None:
    async with bench.stage() as on:
        driver = await system.up(bench, on)
        await bench.warm_up(on, driver)
        for refuse in (False, True):
            for concurrency in bench.scale.concurrencies:
                if system.is_peer and concurrency > bench.scale.peer_concurrency_max:
                    continue
                load = Load(on.load_id(), concurrency, bench.scale.seconds, refuse=refuse)
                values = await bench.measure(on, driver, load)
                bench.add(NAME, {**system.subject, "refused": refuse, "concurrency": concurrency}, values)
