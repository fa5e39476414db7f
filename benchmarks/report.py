"""The results as people and programs read them: Markdown tables, JSON, and the measured part of a document.

This module must not compute anything but medians.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import history, long_sagas, overload, recovery, throughput, waiting
from benchmarks.bench import Bench, Subject
from benchmarks.figures import FIGURES, Figure, Samples, of_throughput
from benchmarks.systems import ALL, System

BEGIN: Final = "<!-- From here on `make bench` writes. -->"
END: Final = "<!-- Up to here `make bench` writes. -->"

_SHOWN: Final[Mapping[str, Sequence[str]]] = {
    history.NAME: ("sagas_s", "p50_ms", "p99_ms", "cpu_ms_coordinator", "bytes_saga", "events_saga", "appends_saga"),
    overload.NAME: ("sagas_s", "p50_ms", "p99_ms", "turned_away", "unsent", "failures"),
    long_sagas.NAME: ("cpu_ms_step", "ms_step"),
    waiting.NAME: ("bytes_saga", "bytes_saga_first_half", "sagas_s"),
    recovery.NAME: ("folded_sagas_s", "start_s", "sagas_s", "ended_s", "ended_sagas_s", "calls_at_most"),
}
"""What is shown of each benchmark but throughput; the JSON has all."""


def write(bench: Bench, environment: Mapping[str, str], document: Path, results: Path) -> None:
    """Write the JSON, and the measured part of the document: where the last run wrote it, or at the end."""
    results.write_text(as_json(bench, environment), encoding="utf-8")
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] or "\n"
    measured = as_markdown(bench, environment)
    document.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{measured}\n\n{END}{after}".lstrip(), encoding="utf-8")


def as_json(bench: Bench, environment: Mapping[str, str]) -> str:
    """Everything that was measured."""
    content = {
        "environment": environment,
        "figures": [
            {
                "what": figure.title,
                "target": figure.target,
                "at_most": figure.at_most,
                "measured": figure.measured(bench.samples),
            }
            for figure in FIGURES
        ],
        "notes": bench.notes,
        "samples": [asdict(sample) for sample in bench.samples],
    }
    return json.dumps(content, indent=1) + "\n"


def as_markdown(bench: Bench, environment: Mapping[str, str]) -> str:
    """The tables, and what they were taken with."""
    taken_with = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    notes = "\n".join(f"- {note}" for note in bench.notes) or "- none"
    return "\n\n".join(
        [
            *("## Measured", "All that was measured is in [results.json](performance/results.json)."),
            *("### Figures to reach", figures(bench.samples)),
            *("### By concurrency", throughputs(bench.samples)),
            "![Sagas a second by concurrency](performance/throughput.svg)",
            "![Latency by concurrency](performance/latency.svg)",
            *("### CPU milliseconds per saga, by process, concurrency 64, all succeed", costs(bench.samples)),
            "![CPU time and memory by system](performance/cost.svg)",
            *("### Everything else", others(bench.samples)),
            *("### Taken with", taken_with),
            *("### Notes of the run", notes),
        ]
    )


def medians(samples: Samples, benchmark: str, subject: Subject) -> dict[str, float]:
    """The median of each value of one subject over the rounds; empty where it was not measured."""
    found = [sample.values for sample in samples if sample.benchmark == benchmark and sample.subject == subject]
    names = dict.fromkeys(name for values in found for name in values)
    return {name: median(values.get(name, 0.0) for values in found) for name in names}


def figures(samples: Samples) -> str:
    """The figures to reach, measured values beside the targets."""
    rows = [[figure.title, *_figure(figure, samples)] for figure in FIGURES]
    return table(["what", "target", "measured", "by round", "reached"], rows)


def _figure(figure: Figure, samples: Samples) -> list[str]:
    target = f"{'at most' if figure.at_most else 'at least'} {figure.target:,g}"
    value = figure.measured(samples)
    if value is None:
        return [target, "not measured", "", ""]
    rounds = " / ".join(f"{one:,.{figure.digits}f}" for one in figure.by_round(samples).values())
    return [target, f"{value:,.{figure.digits}f}", rounds, "yes" if figure.met(value) else "**no**"]


def concurrencies(samples: Samples) -> list[int]:
    """Those that throughput was measured at."""
    return sorted({int(sample.subject["concurrency"]) for sample in samples if sample.benchmark == throughput.NAME})


def throughputs(samples: Samples) -> str:
    """All systems, by concurrency."""
    rows = [_throughput(samples, system, concurrency) for system in ALL for concurrency in concurrencies(samples)]
    head = ["system", "concurrency", "sagas/s", "p50 ms", "p99 ms", "refused: sagas/s", "p50 ms", "p99 ms"]
    return table([*head, "peak MiB"], [row for row in rows if row])


def _throughput(samples: Samples, system: System, concurrency: int) -> list[str]:
    succeeded, refused = (
        medians(samples, throughput.NAME, of_throughput(system, concurrency, refused=refused))
        for refused in (False, True)
    )
    if not succeeded or not refused:
        return []
    times = [
        f"{values[name]:,.{digits}f}"
        for values in (succeeded, refused)
        for name, digits in (("sagas_s", 0), ("p50_ms", 1), ("p99_ms", 1))
    ]
    return [system.title, str(concurrency), *times, f"{succeeded['peak_mb']:,.0f}"]


COSTS_AT: Final = 64


def costs(samples: Samples) -> str:
    """What a saga costs each process of each system."""
    rows = [
        [system.title, f"{values['cpu_ms']:.2f}", _named(processes(values))]
        for system in ALL
        if (values := medians(samples, throughput.NAME, of_throughput(system, COSTS_AT)))
    ]
    return table(["system", "in all", "by process"], rows)


def _named(costs_ms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {ms:.2f}" for name, ms in costs_ms.items())


def processes(values: Mapping[str, float]) -> dict[str, float]:
    """CPU milliseconds a saga, by process."""
    return {name.removeprefix("cpu_ms_"): ms for name, ms in values.items() if name.startswith("cpu_ms_")}


def others(samples: Samples) -> str:
    """What the other benchmarks took down, a row for each subject."""
    rows = [
        [name, ", ".join(f"{key} {value}" for key, value in subject.items()), _shown(name, subject, samples)]
        for name, subject in _subjects(samples)
        if name in _SHOWN
    ]
    return table(["benchmark", "of", "medians"], rows)


def _shown(name: str, subject: Subject, samples: Samples) -> str:
    values = medians(samples, name, subject)
    return ", ".join(f"{value} {_number(values[value])}" for value in _SHOWN[name] if value in values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _subjects(samples: Samples) -> Iterator[tuple[str, Subject]]:
    seen: list[tuple[str, Subject]] = []
    for sample in samples:
        if (one := (sample.benchmark, sample.subject)) not in seen:
            seen.append(one)
            yield one


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column begins at the left, the others end at the right."""
    lines = [f"| {' | '.join(head)} |", f"| --- | {' | '.join(['--:'] * (len(head) - 1))} |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
