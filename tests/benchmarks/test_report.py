import json
from pathlib import Path

from benchmarks import history, report
from benchmarks.bench import QUICK, Bench, Sample
from benchmarks.figures import FIGURES, by_round, ratios
from benchmarks.plots import draw
from benchmarks.report import BEGIN, END, as_markdown, write
from benchmarks.systems import FLOOR, OURS, System
from benchmarks.throughput import NAME

AGAINST_THE_FLOOR, LATENCY = FIGURES[0], FIGURES[6]


def sample(system: System, number: int, concurrency: int = 64, *, refused: bool = False, **values: float) -> Sample:
    subject = {**system.subject, "refused": refused, "concurrency": concurrency}
    return Sample(NAME, number, subject, {"sagas_s": 1.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 3.0, **values})


def test_a_ratio_is_taken_within_a_round_and_the_figure_is_the_median() -> None:
    samples = [
        *(sample(System(OURS), number, sagas_s=value) for number, value in enumerate((80, 50, 90, 70))),
        *(sample(System(FLOOR), number, sagas_s=value) for number, value in enumerate((100, 100, 100))),
    ]
    assert AGAINST_THE_FLOOR.by_round(samples) == {0: 0.8, 1: 0.5, 2: 0.9}
    value = AGAINST_THE_FLOOR.measured(samples)
    assert value == 0.8
    assert AGAINST_THE_FLOOR.met(value)
    assert not AGAINST_THE_FLOOR.met(0.74)
    assert not LATENCY.met(1.41)
    assert LATENCY.met(1.4)


def test_what_was_not_measured_is_said_to_be_so() -> None:
    assert all(figure.measured([]) is None for figure in FIGURES)
    assert report.figures([]).count("not measured") == len(FIGURES)
    assert by_round([], NAME, "sagas_s", {}) == ratios({}, {}) == {}


def test_the_table_says_whether_a_figure_is_reached() -> None:
    samples = [sample(System(OURS), 0, sagas_s=70), sample(System(FLOOR), 0, sagas_s=100)]
    [row] = [line for line in report.figures(samples).splitlines() if AGAINST_THE_FLOOR.title in line]
    assert row == f"| {AGAINST_THE_FLOOR.title} | at least 0.75 | 0.70 | 0.70 | **no** |"


def bench_of(*samples: Sample) -> Bench:
    return Bench(QUICK, Path(), None, samples=list(samples), notes=["something to know"])


def test_only_what_stands_between_the_marks_of_a_document_is_written_anew(tmp_path: Path) -> None:
    document, results = tmp_path / "performance.md", tmp_path / "results.json"
    write(bench_of(), {"date": "the first"}, document, results)
    document.write_text(f"# By hand\n\n{document.read_text()}\n## More by hand\n")
    write(bench_of(), {"date": "the second"}, document, results)
    text = document.read_text()
    assert text.startswith(f"# By hand\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\n## More by hand\n")
    assert "the second" in text
    assert "the first" not in text
    assert text.count(BEGIN) == text.count(END) == 1


def test_the_results_are_there_as_json_and_as_tables(tmp_path: Path) -> None:
    bench = bench_of(
        sample(System(OURS), 0, sagas_s=1234.4, peak_mb=90, cpu_ms_coordinator=2.5, cpu_ms_driver=0.5),
        sample(System(OURS), 0, refused=True, sagas_s=700),
        Sample(history.NAME, 0, {"ended_before": 0}, {"sagas_s": 900.0, "bytes_saga": 2222.0}),
    )
    write(bench, {}, tmp_path / "performance.md", tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["samples"]) == 3
    assert {figure["what"] for figure in results["figures"]} == {figure.title for figure in FIGURES}
    text = as_markdown(bench, {})
    assert "| ours, unary | 64 | 1,234 | 1.0 | 2.0 | 700 | 1.0 | 2.0 | 90 |" in text
    assert "| ours, unary | 3.00 | coordinator 2.50, driver 0.50 |" in text
    assert "| history | ended_before 0 | sagas_s 900, bytes_saga 2,222 |" in text
    assert "something to know" in text


def test_the_same_samples_make_the_same_pictures(tmp_path: Path) -> None:
    samples = [sample(System(OURS), 0, concurrency, peak_mb=90, cpu_ms_driver=0.5) for concurrency in (1, 64)]
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
        draw(samples, folder)
    for name in ("throughput", "latency", "cost"):
        first, second = ((folder / f"{name}.svg").read_text() for folder in folders)
        assert first == second
        assert "ours, unary" in first
