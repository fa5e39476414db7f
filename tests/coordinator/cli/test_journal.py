"""The commands as they are typed. What they do to files is in `test_offline`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app, offline
from coordinator.cli.errors import ExitCode
from coordinator.core.limits import DAY_NS, HOUR_NS
from coordinator.engine.retention import RetentionPolicy
from coordinator.engine.transfer import Imported
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SAGA_STATE_FAILED

FILE, OTHER = Path("saga.db"), Path("other")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["journal", *arguments])


class Stand:
    """Stands in for `offline`: remembers what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, answer: Any) -> None:
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        async def stand(*arguments: Any, **named: Any) -> Any:
            self.asked.append((arguments, named))
            return answer

        monkeypatch.setattr(offline, name, stand)


def test_verify_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Stand(monkeypatch, "verify_file", offline.Verified({"COMPLETED": 2, "FAILED": 1}, 30, 1, 4))
    result = run("verify", "saga.db")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["sagas", "3 (2 COMPLETED, 1 FAILED)"],
        ["events", "30"],
        ["definitions", "1"],
        ["tombstones", "4"],
        ["problems", "0"],
    ]


def test_verify_names_every_problem_and_its_exit_code_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    Stand(monkeypatch, "verify_file", offline.Verified(problems=["saga 'a': \x1b[2J", "saga 'b': gone"]))
    result = run("verify", "saga.db")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == "saga 'a': \\x1b[2J\nsaga 'b': gone\n"
    shown = json.loads(run("verify", "saga.db", "-o", "json").stdout)
    assert shown["problems"] == ["saga 'a': \x1b[2J", "saga 'b': gone"]


@pytest.mark.parametrize(
    ("arguments", "ids", "criteria"),
    [
        ([], (), SagaFilter(states=[SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED])),
        (["a", "b"], ["a", "b"], SagaFilter(states=[SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED])),
        (
            ["--state", "failed", "--definition", "order", "--label", "a=b"],
            (),
            SagaFilter(states=[SAGA_STATE_FAILED], definition="order", labels={"a": "b"}),
        ),
    ],
)
def test_export_takes_ids_or_a_filter(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], ids: Sequence[str], criteria: SagaFilter
) -> None:
    stand = Stand(monkeypatch, "export_to", 2)
    result = run("export", "saga.db", "other", *arguments)
    assert (result.exit_code, result.stdout) == (0, "2 sagas exported to other\n")
    assert stand.asked == [((FILE, OTHER, ids, criteria), {})]
    assert json.loads(run("export", "saga.db", "other", "-o", "json").stdout) == {"file": "other", "sagas": 2}


def test_export_takes_not_both(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, "export_to", 0)
    assert run("export", "saga.db", "other", "a", "--state", "failed").exit_code == ExitCode.USAGE
    assert stand.asked == []


def test_import_and_its_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, "import_from", Imported(2, 1, 3))
    assert run("import", "saga.db", "other").stdout == (
        "2 sagas and 1 definition versions imported; 3 sagas were there already\n"
    )
    assert "would be imported" in run("import", "saga.db", "other", "--dry-run").stdout
    assert [named for _, named in stand.asked] == [{"dry_run": False}, {"dry_run": True}]
    shown = json.loads(run("import", "saga.db", "other", "--dry-run", "-o", "json").stdout)
    assert shown == {"sagas": 2, "definitions": 1, "present": 3, "dryRun": True}


def test_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, "backup_to", 4096)
    assert run("backup", "saga.db", "other").stdout == "4096 bytes copied to other\n"
    assert json.loads(run("backup", "saga.db", "other", "-o", "json").stdout) == {"file": "other", "bytes": 4096}
    assert stand.asked[0] == ((FILE, OTHER), {})


def test_retire_and_its_dry_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand = Stand(monkeypatch, "retire_in", {"sagas": 7})
    assert run("retire", "saga.db", "--older-than", "1h").stdout == "7 sagas retired\n"
    flags = ["--tombstone-retention", "2h", "--export-directory", str(tmp_path), "--dry-run"]
    assert run("retire", "saga.db", "--older-than", "1h", *flags).stdout == "7 sagas would be retired\n"
    assert stand.asked == [
        ((FILE, RetentionPolicy(HOUR_NS, 30 * DAY_NS)), {"dry_run": False}),
        ((FILE, RetentionPolicy(HOUR_NS, 2 * HOUR_NS, tmp_path)), {"dry_run": True}),
    ]
    assert json.loads(run("retire", "saga.db", "--older-than", "0s", "-o", "json").stdout) == {
        "sagas": 7,
        "dryRun": False,
    }
    assert run("retire", "saga.db").exit_code == ExitCode.USAGE


def test_a_file_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    result = run("verify", str(tmp_path / "none.db"))
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr.startswith(f"error: {tmp_path / 'none.db'} cannot be opened")
    assert list(tmp_path.iterdir()) == []
