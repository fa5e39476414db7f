"""What a step costs in a long saga, against one in a short saga.

As many steps in all, with as many sagas under way at a time. The figure is the coordinator's CPU time a step; the time
that a step takes is beside it. This module must not compare.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.stage import register

NAME = "long sagas"
CONCURRENCY = 8


async def long_sagas(bench: Bench) -> None:
    """Measure sagas of each length."""
    async with bench.stage() as on:
        coordinator = await on.coordinator(await on.participants())
        for steps in bench.scale.steps:
            definition = f"benchmark_steps_{steps}"
            await register(coordinator.address, definition, steps)
            driver = await on.saga_driver(coordinator, "--definition", definition)
            await driver.drive(Load(on.load_id(), sagas=1))
            sagas = max(CONCURRENCY, bench.scale.steps_at_least // steps)
            values = await bench.measure(on, driver, Load(on.load_id(), CONCURRENCY, sagas=sagas))
            values["cpu_ms_step"] = values["cpu_ms_coordinator"] / steps
            values["ms_step"] = 1e3 / (values["sagas_s"] * steps)
            bench.add(NAME, {"steps": steps}, values)
