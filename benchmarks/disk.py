"""What a saga of three steps takes on the disk, once it has ended.

The whole file over the number of sagas, after a shutdown has brought the log into it: tables, indexes and free room
within pages. This module must not compare.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.meter import journal_bytes
from benchmarks.systems import recorded

NAME = "disk"
CONCURRENCY = 64


async def disk(bench: Bench) -> None:
    """Run sagas that complete, and look at the file."""
    sagas = bench.scale.disk_sagas
    completed, _ = await recorded(bench)
    async with bench.stage() as on:
        coordinator = await on.coordinator(await on.participants())
        driver = await on.saga_driver(coordinator)
        values = await bench.measure(on, driver, Load(on.load_id(), CONCURRENCY, sagas=sagas))
        await on.stop(coordinator)
        values["bytes_saga"] = journal_bytes(on.journal) / sagas
        values["events_saga"] = completed.events
        values["commits_saga"] = len(completed.appends)
        bench.add(NAME, {"sagas": sagas}, values)
