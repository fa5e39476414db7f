"""The author's commands and queries: what they are told, what they yield, and how they fail."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.conform import limits
from coordinator.conform.commands import CommandFailed, Surroundings, count, run
from coordinator.conform.examples import EffectsSource, Place

PLACE = Place("", 1, 1, "")


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.executescript("CREATE TABLE t (key TEXT, n INT); INSERT INTO t VALUES ('k', 2), ('k', 1), ('x', 9)")
    return Surroundings(tmp_path, {"ADDRESS": "h:1", "DIRECTORY": str(tmp_path)})


def query(text: str, file: str = "$DIRECTORY/a.db") -> EffectsSource:
    return EffectsSource(PLACE, sqlite=file, query=text)


async def test_a_command_runs_where_the_file_stands_and_is_told_everything(here: Surroundings) -> None:
    printed = await run('echo "$ADDRESS $DIRECTORY $KEY $(ls)"', here, {"KEY": "k"})
    assert printed == f"h:1 {here.directory} k a.db\n"
    assert await count(EffectsSource(PLACE, command='echo " $N "'), here, {"N": "-3"}) == -3


async def test_a_query_counts(here: Surroundings) -> None:
    assert await count(query("SELECT sum(n) FROM t WHERE key = :key"), here, {"KEY": "k"}) == 3
    assert await count(query("SELECT sum(n) FROM t WHERE key = :key", "a.db"), here, {"KEY": "none"}) == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (EffectsSource(PLACE, command="echo oh >&2; exit 3"), "`echo oh >&2; exit 3` ended with code 3: oh"),
        (EffectsSource(PLACE, command="echo many"), "`echo many` yields `many`, and not a number"),
        (query("SELECT n FROM elsewhere"), "no such table: elsewhere"),
        (query("DELETE FROM t"), "attempt to write a readonly database"),
        (query("SELECT 1, 2"), "does not yield one number"),
        (query("SELECT 'x'"), "yields `x`, and not a number"),
        (query("SELECT 1", "none.db"), "unable to open database file"),
    ],
)
async def test_what_cannot_be_carried_out_is_the_files_mistake(
    here: Surroundings, source: EffectsSource, message: str
) -> None:
    with pytest.raises(CommandFailed) as raised:
        await count(source, here, {})
    assert message in str(raised.value)


async def test_a_command_that_does_not_end_is_ended(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_MAX_S", 0.05)
    with pytest.raises(CommandFailed, match="takes longer than"):
        await run("exec sleep 60", here, {})
