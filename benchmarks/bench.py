"""One run of the benchmarks: how much is done, and the samples that were taken.

A sample is what was measured once, of one subject, in one round. Figures come of samples later: this module must not
compare.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.load import Load
from benchmarks.meter import measured
from benchmarks.shape import Shape
from benchmarks.stage import Driver, Stage, stage

Subject: TypeAlias = Mapping[str, str | int | bool]
Values: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done. Loads take `seconds` each, where they are not counted in sagas."""

    rounds: int = 3
    seconds: float = 4.0
    warm_up_s: float = 1.0
    concurrencies: tuple[int, ...] = (1, 16, 64, 256, 1024)
    peak_concurrencies: tuple[int, ...] = (64, 256)  # the peak is looked for at these
    peer_concurrency_max: int = 256  # beyond it the slow ones only take longer to drain
    ended_sagas: int = 1_000_000
    waiting_sagas: int = 100_000
    sagas_in_flight: int = 10_000
    steps: tuple[int, int] = (10, 1000)
    steps_at_least: int = 8_000  # of the sagas of each length, all together
    everything: bool = True
    """Every system, and every lane; otherwise only as many as show whether the benchmarks run."""


QUICK: Final = Scale(
    rounds=1,
    seconds=0.1,
    warm_up_s=0.02,
    concurrencies=(1, 64),
    peak_concurrencies=(16,),
    ended_sagas=300,
    waiting_sagas=200,
    sagas_in_flight=100,
    steps=(10, 40),
    steps_at_least=80,
    everything=False,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured of a subject in a round."""

    benchmark: str
    round: int
    subject: Subject
    values: Values


@dataclass(slots=True)
class Bench:
    """One run. `kept` is a folder for what the next run can use again, `peers` where the peers are installed."""

    scale: Scale
    kept: Path
    peers: Path | None
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    round: int = 0
    shapes: tuple[Shape, Shape] | None = None
    """A completed and a compensated saga of our coordinator, once they were recorded."""

    def add(self, benchmark: str, subject: Subject, values: Values) -> None:
        """Take a sample, and say so."""
        self.samples.append(Sample(benchmark, self.round, subject, values))
        said = " ".join(f"{value}" for value in subject.values())
        numbers = " ".join(f"{name}={value:.4g}" for name, value in values.items())
        print(f"[{self.round + 1}/{self.scale.rounds}] {benchmark} {said}: {numbers}", flush=True)

    def note(self, text: str) -> None:
        """Say once what the reader of the figures has to know."""
        if text not in self.notes:
            self.notes.append(text)
            print(f"note: {text}", file=sys.stderr, flush=True)

    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        """An empty stage, thrown away afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="saga-bench-"))
        try:
            async with stage(folder) as opened:
                yield opened
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def warm_up(self, on: Stage, driver: Driver) -> None:
        """Have code paths compiled, connections opened and files begun."""
        for refuse in (False, True):
            await driver.drive(Load(on.load_id(), concurrency=16, seconds=self.scale.warm_up_s / 2, refuse=refuse))

    async def measure(self, on: Stage, driver: Driver, load: Load) -> dict[str, float]:
        """Put a load on a system; CPU time is milliseconds per saga that ended, memory that of all processes."""
        async with measured(on.processes) as usage:
            outcome = await driver.drive(load)
        if outcome.failures:
            self.note(f"{outcome.failures} sagas failed, the first with: {outcome.first_failure}")
        per_saga = 1e3 / max(outcome.ended, 1)
        values = {
            "ended": float(outcome.ended),
            "sagas_s": outcome.ended / outcome.wall_s,
            "p50_ms": outcome.p50_ms,
            "p99_ms": outcome.p99_ms,
            "turned_away": float(outcome.turned_away),
            "unsent": float(outcome.unsent),
            "failures": float(outcome.failures),
            "peak_mb": usage.peak_bytes / 2**20,
            "cpu_ms": sum(usage.cpu_s.values()) * per_saga,
        }
        return values | {f"cpu_ms_{name}": cpu_s * per_saga for name, cpu_s in usage.cpu_s.items()}
