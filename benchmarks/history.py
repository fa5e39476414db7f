"""Does a coordinator get slower with what it has behind it? Throughput on a journal of a million ended sagas.

The journal is made once, through the real one, and copied for each round. The empty journal that is measured beside it
tells what a saga takes on the disk: the file over the sagas in it, after a shutdown brought the log into it; tables,
indexes and free room within pages. This module must not compare.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.listing import build
from benchmarks.load import Load
from benchmarks.meter import journal_bytes
from benchmarks.population import Population
from benchmarks.systems import recorded
from coordinator.journal.sqlite_database import SCHEMA_VERSION

NAME = "history"
CONCURRENCY = 64


async def history(bench: Bench) -> None:
    """Measure on an empty journal and on the full one."""
    await _measure(bench, None)
    await _measure(bench, await _full(bench))


async def _measure(bench: Bench, source: Path | None) -> None:
    async with bench.stage() as on:
        if source is not None:
            await asyncio.to_thread(shutil.copyfile, source, on.journal)
            await asyncio.to_thread(os.sync)
        coordinator = await on.coordinator(await on.participants())
        driver = await on.saga_driver(coordinator)
        warmed_up = await driver.drive(Load(on.load_id(), CONCURRENCY, bench.scale.warm_up_s))
        values = await bench.measure(on, driver, Load(on.load_id(), CONCURRENCY, bench.scale.seconds))
        if source is None:
            await on.stop(coordinator)
            completed, _ = await recorded(bench)
            values["bytes_saga"] = journal_bytes(on.journal) / (warmed_up.ended + values["ended"])
            values["events_saga"] = completed.events
            values["appends_saga"] = len(completed.appends)
        bench.add(NAME, {"ended_before": 0 if source is None else bench.scale.ended_sagas}, values)


async def _full(bench: Bench) -> Path:
    """The journal that is kept from run to run."""
    sagas = bench.scale.ended_sagas
    file = bench.kept / f"ended-{sagas}-schema-{SCHEMA_VERSION}.db"
    if not file.exists():
        building = file.with_suffix(".building.db")
        for left_over in bench.kept.glob(f"{building.name}*"):  # a run was ended while it made one
            left_over.unlink()
        print(f"making a journal of {sagas} ended sagas", flush=True)
        await build(building, Population(sagas, all_ended=True))
        building.rename(file)
    return file
