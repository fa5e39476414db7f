"""The stage: waits for conditions and not for time, and says what went wrong."""

import sqlite3
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sample_services.demo import stage
from sample_services.demo.processes import Supervisor
from sample_services.demo.stage import SceneFailed, Stage, number, select, until


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)")
    return path


async def test_until_returns_as_soon_as_the_condition_holds() -> None:
    answers = iter((False, False, True))
    await until(lambda: next(answers), "the third look")
    assert next(answers, None) is None


async def test_until_gives_up_and_says_what_it_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_CONDITION_MAX_S", 0.05)
    with pytest.raises(SceneFailed, match="for the moon"):
        await until(lambda: False, "the moon")


def test_select_reads_and_cannot_write(database: Path) -> None:
    assert select(database, "SELECT x FROM t WHERE x > ?", (1,)) == [(2,)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        select(database, "DELETE FROM t")


def test_number_is_the_one_that_a_query_finds(database: Path) -> None:
    assert number(database, "SELECT sum(x) FROM t") == 3
    with pytest.raises(ValueError, match="too many"):
        number(database, "SELECT x FROM t")


async def test_what_is_said_is_printed_as_it_is(tmp_path: Path, database: Path) -> None:
    out = StringIO()
    async with Supervisor(tmp_path) as supervisor:
        playing = Stage(supervisor, tmp_path, Console(file=out, width=80))
        playing.scene("A scene")
        playing.say("[bold] is said")
        await playing.found(database, "SELECT x FROM t WHERE x = ?", (2,))

    assert "A scene ─" in out.getvalue()
    assert "[bold] is said" in out.getvalue()
