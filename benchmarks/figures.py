"""The figures to reach: each from samples, beside its target.

A ratio is taken within a round, where both sides met the same machine, and the median over the rounds is the figure.
This module must not measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

from benchmarks import history, long_sagas, overload, recovery, throughput, waiting
from benchmarks.bench import Sample, Subject
from benchmarks.peers.install import DBOS, RESTATE, TEMPORAL
from benchmarks.systems import FAST, FLOOR, OURS, UNARY, System

Samples: TypeAlias = Sequence[Sample]
ByRound: TypeAlias = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """Something to reach. `by_round` is empty where it was not measured."""

    title: str
    target: float
    by_round: Callable[[Samples], ByRound]
    at_most: bool = False
    digits: int = 2

    def measured(self, samples: Samples) -> float | None:
        """The median over the rounds; None where it was not measured."""
        values = self.by_round(samples).values()
        return median(values) if values else None

    def met(self, value: float) -> bool:
        """Whether a value reaches the target."""
        return value <= self.target if self.at_most else value >= self.target


def by_round(samples: Samples, benchmark: str, value: str, subject: Subject) -> ByRound:
    """A value of one subject, by round."""
    return {
        sample.round: sample.values[value]
        for sample in samples
        if sample.benchmark == benchmark and sample.subject == subject
    }


def ratios(above: ByRound, below: ByRound) -> ByRound:
    """One value over the other, in the rounds that have both."""
    return {number: above[number] / below[number] for number in above if below.get(number)}


def of_throughput(system: System, concurrency: int, *, refused: bool = False) -> Subject:
    """A subject of the benchmark of that name."""
    return {**system.subject, "refused": refused, "concurrency": concurrency}


def _against(above: Subject, below: Subject, value: str = "sagas_s") -> Callable[[Samples], ByRound]:
    def measured(samples: Samples) -> ByRound:
        return ratios(
            by_round(samples, throughput.NAME, value, above), by_round(samples, throughput.NAME, value, below)
        )

    return measured


def _history(samples: Samples) -> ByRound:
    sizes = {int(sample.subject["ended_before"]) for sample in samples if sample.benchmark == history.NAME}
    full = max(sizes, default=0)
    return ratios(
        by_round(samples, history.NAME, "sagas_s", {"ended_before": full}),
        by_round(samples, history.NAME, "sagas_s", {"ended_before": 0}),
    )


def _overload(lane: str) -> Callable[[Samples], ByRound]:
    def measured(samples: Samples) -> ByRound:
        at, peak = (
            by_round(samples, overload.NAME, "sagas_s", {"lane": lane, "times": times}) for times in (overload.TIMES, 1)
        )
        return ratios(at, peak)

    return measured


def _long_sagas(samples: Samples) -> ByRound:
    lengths = sorted({int(sample.subject["steps"]) for sample in samples if sample.benchmark == long_sagas.NAME})
    if not lengths:
        return {}
    short, long = (
        by_round(samples, long_sagas.NAME, "cpu_ms_step", {"steps": steps}) for steps in (lengths[0], lengths[-1])
    )
    return ratios(long, short)


def _value(benchmark: str, value: str) -> Callable[[Samples], ByRound]:
    """Of a benchmark that measures it of one subject."""

    def measured(samples: Samples) -> ByRound:
        return {
            sample.round: sample.values[value]
            for sample in samples
            if sample.benchmark == benchmark and value in sample.values
        }

    return measured


_OURS: Final = System(OURS, UNARY)
_OURS_FAST: Final = System(OURS, FAST)

FIGURES: Final = (
    Figure(
        "unary lane, sagas/s against the floor, concurrency 64",
        0.75,
        _against(of_throughput(_OURS, 64), of_throughput(System(FLOOR), 64)),
    ),
    Figure(
        "unary lane, sagas/s against Restate, concurrency 64",
        1.4,
        _against(of_throughput(_OURS, 64), of_throughput(System(RESTATE.name), 64)),
    ),
    Figure(
        "fast lane both ways against Restate, concurrency 256",
        6,
        _against(of_throughput(_OURS_FAST, 256), of_throughput(System(RESTATE.name), 256)),
    ),
    Figure(
        "unary lane, sagas/s against DBOS on SQLite, concurrency 64",
        10,
        _against(of_throughput(_OURS, 64), of_throughput(System(DBOS.name), 64)),
    ),
    Figure(
        "unary lane, sagas/s against the Temporal dev server, concurrency 64",
        10,
        _against(of_throughput(_OURS, 64), of_throughput(System(TEMPORAL.name), 64)),
    ),
    Figure(
        "refused-third-step throughput against all-succeed, unary, concurrency 64",
        0.6,
        _against(of_throughput(_OURS, 64, refused=True), of_throughput(_OURS, 64)),
    ),
    Figure(
        "latency p50 at concurrency 1 against the floor, unary",
        1.4,
        _against(of_throughput(_OURS, 1), of_throughput(System(FLOOR), 1), "p50_ms"),
        at_most=True,
    ),
    Figure("throughput with 1,000,000 ended sagas in the journal against an empty one", 0.9, _history),
    Figure("throughput at twice the capacity against the peak, unary", 0.9, _overload(UNARY)),
    Figure("throughput at twice the capacity against the peak, fast lane", 0.9, _overload(FAST)),
    Figure("1,000-step saga: CPU per step against a 10-step one", 1.3, _long_sagas, at_most=True),
    Figure("memory per waiting saga, bytes", 1024, _value(waiting.NAME, "bytes_saga"), at_most=True, digits=0),
    Figure(
        "recovery, unfinished sagas read and folded a second", 5000, _value(recovery.NAME, "folded_sagas_s"), digits=0
    ),
    Figure("bytes on disk per three-step saga", 2560, _value(history.NAME, "bytes_saga"), at_most=True, digits=0),
)
