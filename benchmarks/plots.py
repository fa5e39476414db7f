"""The pictures, as SVG: what the tables say, by concurrency and by system.

This module must not compute anything but medians.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, ScalarFormatter

from benchmarks import throughput
from benchmarks.figures import Samples, of_throughput
from benchmarks.peers.install import DBOS, RESTATE, TEMPORAL
from benchmarks.report import COSTS_AT, concurrencies, medians, processes
from benchmarks.systems import ALL, FAST, FLOOR, MEMORY, OURS, SQLITE, UNARY, System

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text, and the files small
    "svg.hashsalt": "saga",  # the same samples make the same file
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
}
_SIZE_IN: Final = (11.0, 4.8)
_COLOURS: Final = {
    OURS: "tab:blue",
    FLOOR: "tab:gray",
    RESTATE.name: "tab:orange",
    DBOS.name: "tab:green",
    TEMPORAL.name: "tab:red",
}
_LINES: Final = {(FAST, MEMORY): "-", (UNARY, MEMORY): "--", (FAST, SQLITE): "-.", (UNARY, SQLITE): ":"}


def draw(samples: Samples, folder: Path) -> None:
    """Write `throughput.svg`, `latency.svg` and `cost.svg`."""
    with mpl.rc_context(_STYLE):
        _throughput(samples, folder / "throughput.svg")
        _latency(samples, folder / "latency.svg")
        _cost(samples, folder / "cost.svg")


def _throughput(samples: Samples, file: Path) -> None:
    figure, (left, right) = _two_panels()
    for panel, refused, title in ((left, False, "all succeed"), (right, True, "third step refused")):
        _lines(panel, samples, "sagas_s", refused=refused)
        panel.set(title=f"sagas a second, {title}", ylabel="sagas/s")
    _save(figure, left, file)


def _latency(samples: Samples, file: Path) -> None:
    figure, (left, right) = _two_panels()
    for panel, value, title in ((left, "p50_ms", "median"), (right, "p99_ms", "99th percentile")):
        _lines(panel, samples, value, refused=False)
        panel.set(title=f"latency of a saga, {title}", ylabel="ms")
    _save(figure, left, file)


def _lines(panel: Axes, samples: Samples, value: str, *, refused: bool) -> None:
    """A line for each system, over concurrency; both axes logarithmic."""
    for system in ALL:
        points = [
            (concurrency, values[value])
            for concurrency in concurrencies(samples)
            if (values := medians(samples, throughput.NAME, of_throughput(system, concurrency, refused=refused)))
        ]
        if points:
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3.5, **_look(system))
    panel.set(xscale="log", yscale="log", xlabel="sagas under way at a time")
    panel.xaxis.set_major_locator(FixedLocator(concurrencies(samples)))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(ScalarFormatter())


def _look(system: System) -> dict[str, Any]:
    """The same look for a system in every picture."""
    line = "-" if system.is_peer else _LINES[system.lane, system.barrier]
    return {"label": system.title, "color": _COLOURS[system.name], "linestyle": line}


def _cost(samples: Samples, file: Path) -> None:
    figure, (left, right) = _two_panels()
    costs = {
        system.title: values
        for system in reversed(ALL)
        if (values := medians(samples, throughput.NAME, of_throughput(system, COSTS_AT)))
    }
    names = dict.fromkeys(name for values in costs.values() for name in processes(values))
    reached = dict.fromkeys(costs, 0.0)
    for name in names:
        widths = [processes(values).get(name, 0.0) for values in costs.values()]
        left.barh(list(costs), widths, left=list(reached.values()), label=name)
        reached = {title: reached[title] + width for title, width in zip(costs, widths, strict=True)}
    left.set(title=f"CPU per saga by process, concurrency {COSTS_AT}", xlabel="ms")
    right.barh(list(costs), [values["peak_mb"] for values in costs.values()], color="tab:gray")
    right.set(title=f"peak memory of all processes, concurrency {COSTS_AT}", xlabel="MiB (PSS)")
    right.tick_params(labelleft=False)
    _save(figure, left, file)


def _two_panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=_SIZE_IN)
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def _save(figure: Figure, labelled: Axes, file: Path) -> None:
    handles, labels = labelled.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(file, format="svg", metadata={"Date": None})
