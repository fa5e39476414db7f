"""`python -m benchmarks`: everything that is measured, in rounds, and the table of the figures to reach.

    python -m benchmarks [--quick] [--rounds N] [--seconds S] [--only NAME]... [--no-peers] [--peers DIR] [--out DIR]

In each round each system is started and measured in turn. Journals lie on the disk that TMPDIR names.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks import history, long_sagas, overload, recovery, report, throughput, waiting
from benchmarks.bench import QUICK, Bench, Scale
from benchmarks.environment import environment
from benchmarks.meter import in_memory
from benchmarks.plots import draw
from benchmarks.stage import ROOT

Benchmark: TypeAlias = Callable[[Bench], Awaitable[None]]

IN_EVERY_ROUND: Final[Mapping[str, Benchmark]] = {
    "throughput": throughput.throughput,
    "history": history.history,
    "overload": overload.overload,
    "long-sagas": long_sagas.long_sagas,
}
ONCE: Final[Mapping[str, Benchmark]] = {
    "waiting": waiting.waiting,
    "recovery": recovery.recovery,
}
_KEPT: Final = ROOT / ".bench"


async def measure(bench: Bench, names: Sequence[str]) -> None:
    """Run benchmarks, by their names."""
    for number in range(bench.scale.rounds):
        bench.round = number
        due = {**IN_EVERY_ROUND, **(ONCE if number == 0 else {})}
        for name, benchmark in due.items():
            if name in names:
                await benchmark(bench)


def run(asked: argparse.Namespace) -> Bench:
    """Measure, print and write what the command line asks for."""
    asked.out.joinpath("performance").mkdir(parents=True, exist_ok=True)
    asked.kept.mkdir(parents=True, exist_ok=True)
    if in_memory(Path(tempfile.gettempdir())):
        message = "journals would lie in memory, where syncing costs nothing: name a folder on a disk in TMPDIR"
        if not asked.quick:
            raise SystemExit(message)
        print(f"note: {message}", file=sys.stderr)
    scale = QUICK if asked.quick else Scale()
    scale = replace(scale, rounds=asked.rounds or scale.rounds, seconds=asked.seconds or scale.seconds)
    bench = Bench(scale, asked.kept, None if asked.quick or asked.no_peers else asked.peers)
    if asked.quick:
        bench.note("this run is small: its figures say nothing but that they can be measured")
    asyncio.run(measure(bench, asked.only or [*IN_EVERY_ROUND, *ONCE]))
    taken_with = environment(_said(asked, scale), bench.peers)
    draw(bench.samples, asked.out / "performance")
    report.write(bench, taken_with, asked.out / "performance.md", asked.out / "performance" / "results.json")
    print(f"\n{report.figures(bench.samples)}\n\n{report.throughputs(bench.samples)}\n\n{report.others(bench.samples)}")
    return bench


def _said(asked: argparse.Namespace, scale: Scale) -> str:
    """The command line as a reader can repeat it: without the folders of this machine."""
    flags = [f"--{name.replace('_', '-')}" for name in ("quick", "no_peers") if getattr(asked, name)]
    return " ".join(
        [*flags, f"--rounds {scale.rounds}", f"--seconds {scale.seconds:g}", *(f"--only {name}" for name in asked.only)]
    )


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="little of everything, without peers: does it run?")
    parser.add_argument("--rounds", type=int, help=f"default {Scale().rounds}")
    parser.add_argument("--seconds", type=float, help=f"how long each load lasts; default {Scale().seconds:g}")
    parser.add_argument("--only", action="append", choices=[*IN_EVERY_ROUND, *ONCE], default=[], help="may be repeated")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peers", type=Path, default=_KEPT / "peers", help="where they are installed")
    parser.add_argument("--kept", type=Path, default=_KEPT, help="for the journal of a million sagas")
    parser.add_argument("--out", type=Path, help="gets performance.md and performance/; default docs, or .bench/quick")
    asked = parser.parse_args(given)
    asked.out = asked.out or (_KEPT / "quick" if asked.quick or asked.only else ROOT / "docs")
    return asked


if __name__ == "__main__":
    run(arguments())
