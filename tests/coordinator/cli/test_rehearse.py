"""The options of a rehearsal, and how its end is told."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app, rehearse_run
from coordinator.cli.errors import ExitCode
from coordinator.cli.rehearse import LiveOptions


def test_every_option_explains_itself() -> None:
    result = CliRunner().invoke(app, ["explore", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    shown = set(re.findall(r"--[a-z-]+", result.stdout))
    wanted = "participant config input child invariant check depth max-paths path path-timeout"
    assert {f"--{name}" for name in wanted.split()} <= shown
    assert len(wanted.split()) == len(LiveOptions.__slots__)
    assert "It makes real effects" in result.stdout


def test_an_interrupt_says_what_it_leaves(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rehearse_run, "rehearse", interrupted)
    result = CliRunner().invoke(app, ["explore", str(file), "--live"])
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "the saga under way was left where it stood" in result.stderr
