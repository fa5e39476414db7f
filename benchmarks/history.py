"""Does a coordinator get slower with what it has behind it? Throughput on a journal of a million ended sagas.

The journal is made once, through the real one, and copied for each round. This module must not compare.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.listing import build
from benchmarks.load import Load
from benchmarks.population import Population
from coordinator.journal.sqlite_database import SCHEMA_VERSION

NAME = "history"
CONCURRENCY = 64


async def history(bench: Bench) -> None:
    """Measure on an empty journal and on the full one."""
    full = await _full(bench)
    for sagas, source in ((0, None), (bench.scale.ended_sagas, full)):
        async with bench.stage() as on:
            if source is not None:
                await asyncio.to_thread(shutil.copyfile, source, on.journal)
                await asyncio.to_thread(os.sync)
            driver = await on.saga_driver(await on.coordinator(await on.participants()))
            await bench.warm_up(on, driver)
            values = await bench.measure(on, driver, Load(on.load_id(), CONCURRENCY, bench.scale.seconds))
            bench.add(NAME, {"ended_before": sagas}, values)


async def _full(bench: Bench) -> Path:
    """The journal that is kept from run to run."""
    sagas = bench.scale.ended_sagas
    file = bench.kept / f"ended-{sagas}-schema-{SCHEMA_VERSION}.db"
    if not file.exists():
        building = file.with_suffix(".building.db")
        building.unlink(missing_ok=True)
        print(f"making a journal of {sagas} ended sagas", flush=True)
        await build(building, Population(sagas, all_ended=True))
        building.rename(file)
    return file
