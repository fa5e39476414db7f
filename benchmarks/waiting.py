"""What a saga costs that only waits: memory of the coordinator for each of many delayed starts.

Memory is the growth of the resident set over the second half of them. The first half fills what is bounded and would be
counted otherwise: SQLite's page caches, and what the allocator keeps. This module must not compare.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.meter import rss_bytes

NAME = "waiting"
DELAY_S = 3600
CONCURRENCY = 64


async def waiting(bench: Bench) -> None:
    """Start sagas that begin in an hour, half of them, then the others."""
    sagas = bench.scale.waiting_sagas
    async with bench.stage() as on:
        coordinator = await on.coordinator(await on.participants(), unfinished_sagas_max=2 * sagas)
        driver = await on.saga_driver(coordinator, "--until", "started", "--delay", str(DELAY_S))
        resident: list[int] = [rss_bytes(coordinator.pid)]
        for _ in range(2):
            values = await bench.measure(on, driver, Load(on.load_id(), CONCURRENCY, sagas=sagas // 2))
            resident.append(rss_bytes(coordinator.pid))
        empty, half, full = resident
        values |= {
            "bytes_saga": (full - half) / (sagas // 2),
            "bytes_saga_first_half": (half - empty) / (sagas // 2),
        }
        bench.add(NAME, {"sagas": sagas}, values)
