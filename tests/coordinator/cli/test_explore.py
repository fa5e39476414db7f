"""`saga explore`: what can become of a saga is told before one is started, and no participant is called."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.cli.errors import ExitCode
from coordinator.dataflow import yamlform
from saga.v1 import definition_pb2 as pb
from tests.coordinator.cli.fake import FakeCoordinator
from tests.support.sample_files import DEFINITIONS

ORDER = next(path for path in DEFINITIONS if path.stem == "order_fulfillment")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["explore", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_text() -> None:
    code, out, _ = run(str(ORDER), "--failures", "1")
    assert code == ExitCode.OK
    for expected in (
        "order_fulfillment: 15 distinct outcomes",
        "reserve: completed; charge: refused; reserve: compensated",
        "confirm of reserve refused",
        "charge may stay uncompensated",
        "1m (of no limit: the step's timeout)",
        "compensated after 30m17s at the latest",
    ):
        assert expected in out


def test_json() -> None:
    code, out, _ = run(str(ORDER), "--failures", "1", "--output", "json")
    shown = json.loads(out)
    assert (code, shown["complete"], len(shown["outcomes"])) == (0, True, 15)
    assert {end["state"] for end in shown["outcomes"]} == {"COMPLETED", "COMPENSATED", "FAILED"}
    assert shown["triedForEver"] == [{"step": "reserve", "operation": "confirm"}]
    assert shown["worstCase"]["timeout"] == "300s"


def test_mermaid() -> None:
    code, out, _ = run(str(ORDER), "--failures", "1", "--output", "mermaid")
    assert (code, out.splitlines()[0]) == (0, "flowchart LR")


def test_it_says_when_it_gave_up() -> None:
    code, out, err = run(str(ORDER), "--max-states", "50")
    assert code == ExitCode.INCOMPLETE
    assert "INCOMPLETE, only 50 states" in out
    assert "incomplete: more than 50 states" in err


@pytest.mark.parametrize("sample", DEFINITIONS, ids=[path.stem for path in DEFINITIONS])
def test_all_samples_are_explored_whole(sample: Path) -> None:
    code, out, err = run(str(sample), "--failures", "1", "--output", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["complete"]


@pytest.mark.parametrize("after", ["step_{before}", ""], ids=["a chain", "side by side"])
def test_a_definition_of_a_hundred_steps_is_bounded(tmp_path: Path, after: str) -> None:
    steps = [
        f"  - {{name: step_{i}, participant: shop, action: Act, input: input"
        + (f", after: [{after.format(before=i - 1)}]" if after and i else "")
        + "}"
        for i in range(100)
    ]
    file = tmp_path / "long.yaml"
    file.write_text("\n".join(["name: long", "input_type: shop.v1.Order", "order: GRAPH", "steps:", *steps]))
    code, out, _ = run(str(file), "--max-states", "50")
    assert code == ExitCode.INCOMPLETE
    assert "in one order only" in out


def test_a_registered_definition(fake: FakeCoordinator) -> None:
    definition = yamlform.load(ORDER.read_text(), "").definition
    fake.answers["GetDefinition"] = pb.GetDefinitionResponse(definition=definition)
    assert fake.run("explore", "order_fulfillment@3", "--failures", "0").exit_code == ExitCode.OK
    assert fake.asked("GetDefinition") == pb.GetDefinitionRequest(name="order_fulfillment", version=3)


def test_problems_of_a_file_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\ninput_type: shop.v1.Order\nsteps:\n  - name: a\n    kind: PIVOTAL\n")
    code, _, err = run(str(file))
    assert code == ExitCode.REFUSED
    assert f"{file}:5:11: steps[0].kind" in err
    file.write_text("name: bad\ninput_type: shop.v1.Order\nsteps:\n  - name: a\n")
    assert "the step has no participant" in run(str(file))[2]


def test_a_file_that_is_not_there_is_wrong_usage() -> None:
    code, _, err = run("missing.yaml")
    assert (code, err) == (ExitCode.USAGE, "error: there is no file missing.yaml\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--depth", "1", "--path", "no-failure"], "--depth, --path: only with --live"),
        (["--input", "{}"], "--input: only with --live"),
        (["--config", "x.toml"], "--config: only with --live"),
        (["--live", "--failures", "2", "--unbarriered"], "--failures, --unbarriered: not with --live"),
        (["--live", "--max-states", "9"], "--max-states: not with --live"),
    ],
)
def test_an_option_that_would_do_nothing_is_wrong_usage(options: list[str], said: str) -> None:
    code, out, err = run(str(ORDER), *options)
    assert (code, out, err) == (ExitCode.USAGE, "", f"error: {said}\n")


def definition_file(tmp_path: Path, *steps: str, head: str = "") -> str:
    lines = [f"  - {{participant: shop, action: Act, input: input, {step}}}" for step in steps]
    file = tmp_path / "it.yaml"
    file.write_text("\n".join(["name: it", "input_type: shop.v1.Order", head, "steps:", *lines]))
    return str(file)


def test_runs_of_steps_are_told_in_short(tmp_path: Path) -> None:
    file = definition_file(tmp_path, *(f"name: s{i}" for i in range(12)))
    code, out, err = run(file, "--failures", "0", "--cancels", "0")
    assert code == ExitCode.OK
    assert "s0 … s11 COMPLETED" in out
    assert "s0 … s11: completed" in out
    assert "(s0 … s11)" in out
    assert "crash" not in out
    assert max(len(line) for line in out.splitlines()) < 250
    assert err == "", "progress is for terminals"


def test_what_was_explored_in_part_says_so_at_each_of_its_sections() -> None:
    _, out, _ = run(str(ORDER), "--max-states", "50")
    assert "Where it ends, as far as it was explored" in out
    assert "When an operator is needed, as far as it was explored" in out


def test_what_cannot_turn_back_says_so(tmp_path: Path) -> None:
    _, out, _ = run(definition_file(tmp_path, "name: a, kind: RETRIABLE", head="timeout: 5m"))
    assert "going back: it cannot turn back" in out
    assert "timeout:    5m; it goes on after that" in out
    assert "compensated after" not in out


def test_what_has_no_limit_is_named(tmp_path: Path) -> None:
    _, out, _ = run(definition_file(tmp_path, "name: a", "name: pay, kind: PIVOT", head="timeout: 24h"))
    assert "compensated at an unknown time, if it turns back by itself: execute of pay has no limit" in out
    assert "all attempts before pay fit in it, and those of pay have no limit" in out


def test_a_child_takes_its_own_time(tmp_path: Path) -> None:
    file = tmp_path / "parent.yaml"
    step = "  - {name: refund, participant: coordinator, action: refund, input: input}"
    file.write_text(f"name: parent\ninput_type: shop.v1.Order\nsteps:\n{step}\n")
    _, out, _ = run(str(file), "--failures", "0")
    assert [line.count("+ the child's own time") for line in out.splitlines() if line.startswith("refund ")] == [2]


def test_a_file_s_expressions_are_said_not_to_be_checked(fake: FakeCoordinator) -> None:
    assert "`saga definition validate`" in run(str(ORDER), "--failures", "0")[1].splitlines()[-1]
    definition = yamlform.load(ORDER.read_text(), "").definition
    fake.answers["GetDefinition"] = pb.GetDefinitionResponse(definition=definition)
    assert "validate" not in fake.run("explore", "order_fulfillment", "--failures", "0").stdout
