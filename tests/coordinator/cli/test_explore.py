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
