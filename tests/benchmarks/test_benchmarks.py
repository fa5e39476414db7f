import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import history, long_sagas, overload, recovery, throughput, waiting
from benchmarks.__main__ import arguments, run
from benchmarks.bench import QUICK, Bench, Sample
from benchmarks.figures import FIGURES
from benchmarks.participants import Ship
from benchmarks.peers.install import PEERS
from benchmarks.systems import FAST, FEW
from coordinator.core.limits import CALLS_PER_PARTICIPANT_MAX
from participant_sdk import MemoryBarrier, Participant

EXCHANGES = Participant("shop", [Ship()], MemoryBarrier()).description.HasField("exchange")
SYSTEMS = [system for system in FEW if EXCHANGES or system.lane != FAST]


def of(bench: Bench, benchmark: str) -> Sequence[Sample]:
    return [sample for sample in bench.samples if sample.benchmark == benchmark]


@pytest.mark.long
@pytest.mark.e2e
def test_all_benchmarks_run_and_every_saga_ends_as_it_should(tmp_path: Path) -> None:
    """One run of everything, small: what it measures is not looked at, only that it was measured."""
    bench = run(arguments(["--quick", f"--out={tmp_path}", f"--kept={tmp_path / 'kept'}"]))
    _assert_complete(bench)
    _assert_right(bench)
    _assert_reported(bench, tmp_path)


def _assert_complete(bench: Bench) -> None:
    assert [dict(sample.subject) for sample in of(bench, throughput.NAME)] == [
        {**system.subject, "refused": refused, "concurrency": concurrency}
        for system in SYSTEMS
        for refused in (False, True)
        for concurrency in QUICK.concurrencies
    ]
    assert [sample.subject["ended_before"] for sample in of(bench, history.NAME)] == [0, QUICK.ended_sagas]
    assert [sample.subject["times"] for sample in of(bench, overload.NAME)] == [1, overload.TIMES]
    assert [sample.subject["steps"] for sample in of(bench, long_sagas.NAME)] == list(QUICK.steps)
    assert [sample.subject["sagas"] for sample in of(bench, waiting.NAME)] == [QUICK.waiting_sagas]
    assert [sample.subject["sagas"] for sample in of(bench, recovery.NAME)] == [QUICK.sagas_in_flight]


def _assert_right(bench: Bench) -> None:
    for sample in bench.samples:
        assert sample.values.get("failures", 0) == sample.values.get("unsent", 0) == 0, bench.notes
    for sample in of(bench, throughput.NAME):
        assert sample.values["ended"] >= int(sample.subject["concurrency"])
        server = f"cpu_ms_{'coordinator' if sample.subject['system'] == 'ours' else 'floor'}"
        assert sample.values.keys() >= {server, "cpu_ms_participants", "cpu_ms_driver", "peak_mb"}
    empty, _ = of(bench, history.NAME)
    assert empty.values["appends_saga"] == 4  # the start, and each of three replies
    assert empty.values["events_saga"] < empty.values["bytes_saga"]
    [recovered] = of(bench, recovery.NAME)
    assert 0 < recovered.values["calls_at_most"] <= min(CALLS_PER_PARTICIPANT_MAX, QUICK.sagas_in_flight)


def _assert_reported(bench: Bench, out: Path) -> None:
    results: Any = json.loads((out / "performance" / "results.json").read_text())
    assert results["samples"] == [asdict(sample) for sample in bench.samples]
    of_peers = {peer.name.lower() for peer in PEERS}
    for figure in results["figures"]:
        alone = not any(name in figure["what"].lower() for name in of_peers)
        assert (figure["measured"] is not None) == (alone and "fast lane" not in figure["what"]), figure
    document = (out / "performance.md").read_text()
    assert all(figure.title in document for figure in FIGURES)
    assert "python -m benchmarks --quick" in document
    assert str(out) not in document
    for name in ("throughput", "latency", "cost"):
        ElementTree.parse(out / "performance" / f"{name}.svg")
