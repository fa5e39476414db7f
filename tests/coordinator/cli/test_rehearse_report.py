"""What a rehearsal's report says, as text and as JSON."""

import json
import shlex
from pathlib import Path

from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.cli.errors import ExitCode
from tests.coordinator.cli.conftest import Live
from tests.coordinator.rehearse.shop import INPUT, Shop


def test_where_everything_holds_it_says_what_was_done(run: Live) -> None:
    result = run("--max-paths", "4")
    assert result.exit_code == ExitCode.OK, result.output
    first, second, third, *_, last = result.stdout.splitlines()
    assert first.startswith("errand: 4 paths, a saga each, in ")
    assert first.endswith(" s: 4 COMPLETED")
    assert second.startswith("3 failures made, ")
    assert second.endswith("; 0 paths failed")
    assert third == "there are more paths: --max-paths 4 cut them off"
    assert last == "everything holds on every path that was rehearsed"


def test_what_does_not_hold_is_shown_with_the_command_that_repeats_it(run: Live, file: Path) -> None:
    result = run("--invariant", "!pay.hasValue()", "--path", "no-failure", "--path", "hold.execute#1=refused")
    assert result.exit_code == ExitCode.REFUSED
    assert "invariant `!pay.hasValue()` does not hold" in result.stdout
    [command] = [line.strip() for line in result.stdout.splitlines() if line.startswith("  saga explore")]
    words = shlex.split(command)
    assert words[:4] == ["saga", "explore", str(file), "--live"]
    assert words[-6:] == ["--input", INPUT, "--invariant", "!pay.hasValue()", "--path", "no-failure"]
    assert result.stderr == "failed: no-failure\n"
    again = CliRunner().invoke(app, words[1:])
    assert again.exit_code == ExitCode.REFUSED
    assert "errand: 1 path, a saga each, in " in again.stdout
    assert again.stdout.splitlines()[1].endswith("; 1 path failed")


def test_of_many_failures_the_first_ones_are_shown_and_the_others_counted(run: Live) -> None:
    """The first ones tell why; a screen full of the same hides it."""
    result = run("--invariant", "false", "--max-paths", "13")
    assert result.exit_code == ExitCode.REFUSED
    assert sum(line.startswith("  saga explore") for line in result.stdout.splitlines()) == 10
    assert result.stdout.splitlines()[-1] == "and 3 more: -o json has all"
    assert [line.startswith("failed: ") for line in result.stderr.splitlines()] == [True] * 11
    assert result.stderr.splitlines()[-1] == "failed: and 3 more"
    assert len(json.loads(run("--invariant", "false", "--max-paths", "13", "-o", "json").stdout)["failed"]) == 13


def test_json_has_the_same(run: Live) -> None:
    result = run("-o", "json", "--invariant", "path.failures.size() == 1", "--path", "no-failure")
    assert result.exit_code == ExitCode.REFUSED
    found = json.loads(result.stdout)
    [failed] = found.pop("failed")
    assert found.pop("seconds") > 0
    run_id = found.pop("run")
    assert found == {
        "definition": "errand",
        "holds": False,
        "paths": 1,
        "cut": False,
        "calls": 10,  # five, and each once more
        "injected": 0,
        "states": {"COMPLETED": 1},
        "wentBackByThemselves": [],
        "notReached": [],
    }
    assert (failed["path"], failed["sagaId"]) == ("no-failure", f"rehearsal-{run_id}-1")
    assert failed["violations"] == ["invariant `path.failures.size() == 1` does not hold"]
    assert failed["repeat"].endswith("--path no-failure")


def test_business_answers_are_told_and_are_no_failures(run: Live, shop: Shop) -> None:
    shop.out_of_stock.add("pay")
    result = run("--path", "no-failure", "--path", "send.execute#1=reply-lost")
    assert result.exit_code == ExitCode.OK
    assert "2 sagas went back by themselves: OUT_OF_STOCK at `pay`" in result.stdout
    assert "on 1 path a failure was not reached, for instance send.execute#1=reply-lost" in result.stdout
