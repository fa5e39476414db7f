# ruff: noqa: ASYNC240 - these files are small and local
import random
import re
import sqlite3
import string
from pathlib import Path

import pytest

from coordinator.journal import sqlite_database
from coordinator.journal.errors import (
    JournalUnavailable,
    JournalUnusable,
    NotAJournal,
    SchemaTooNew,
    SchemaTooOld,
)
from coordinator.journal.sqlite_database import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    open_beside,
    open_for_reading,
    open_for_writing,
    sqlite_code,
    transaction,
)
from coordinator.journal.sqlite_sagas import find_saga
from tests.support.faulty_disk import (
    IOERR_FSYNC,
    Fault,
    FaultyDisk,
    Operation,
    Synced,
    installed,
    kill,
    power_cut,
    put,
)

OLDER = {version: (Path(__file__).parent / f"schema_{version}.sql").read_text() for version in range(1, SCHEMA_VERSION)}
COMMENT = re.compile("--.*")
SPACES = str.maketrans("", "", string.whitespace)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "odd name?#%.db"


def make(path: Path, script: str) -> bytes:
    db = sqlite3.connect(path)
    db.executescript(script)
    db.close()
    return path.read_bytes()


async def pragma(database: sqlite_database.Database, name: str) -> object:
    return await database.run(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])


async def test_g1_the_writer_syncs_every_commit(path: Path) -> None:
    database = await open_for_writing(path)
    assert await pragma(database, "journal_mode") == "wal"
    assert await pragma(database, "synchronous") == 2  # FULL
    await database.close()


async def test_a_new_file_says_whose_it_is_and_which_schema_it_has(path: Path) -> None:
    database = await open_for_writing(path)
    assert await pragma(database, "application_id") == APPLICATION_ID
    assert await pragma(database, "user_version") == SCHEMA_VERSION
    await database.close()


async def test_a_journal_opens_again_and_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    for _ in range(2):
        database = await open_for_writing(path)
        assert await database.run(lambda db: db.execute("SELECT count(*) FROM sagas").fetchone()) == (0,)
        await database.close()


async def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    before = make(path, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION + 1};")
    with pytest.raises(SchemaTooNew, match=f"version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
        await open_for_writing(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE customers (name TEXT);",
        "PRAGMA application_id = 7; CREATE TABLE t (a); DROP TABLE t;",
        "PRAGMA user_version = 3;",
    ],
)
async def test_another_programs_database_is_refused_and_left_alone(path: Path, script: str) -> None:
    before = make(path, script)
    with pytest.raises(NotAJournal, match="another program"):
        await open_for_writing(path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    before = path.read_bytes()
    with pytest.raises(NotAJournal, match="no SQLite database"):
        await open_for_writing(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["nowhere/journal.db", "."], ids=["no such directory", "a directory"])
async def test_a_path_that_cannot_be_opened_is_unavailable(tmp_path: Path, name: str) -> None:
    with pytest.raises(JournalUnavailable, match="cannot be opened"):
        await open_for_writing(tmp_path / name)


async def test_a_sqlite_that_is_too_old_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "SQLITE_OLDEST", (99, 0, 0))
    with pytest.raises(JournalUnusable, match=r"needs 99\.0\.0"):
        await open_for_writing(path)


async def test_a_reader_sees_what_is_committed_and_cannot_write(path: Path) -> None:
    writer = await open_for_writing(path)
    reader = await open_for_reading(path)

    def write(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO descriptors VALUES ('d', x'00')")

    def count(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT count(*) FROM descriptors").fetchone()[0])

    await writer.run(lambda db: db.execute("BEGIN IMMEDIATE"))
    await writer.run(write)
    assert await reader.run(count) == 0
    await writer.run(lambda db: db.execute("COMMIT"))
    assert await reader.run(count) == 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await reader.run(write)
    await reader.close()
    await writer.close()


def test_a_transaction_commits_or_takes_everything_back() -> None:
    def insert(value: int) -> float:
        with transaction(db):
            db.execute("INSERT INTO t VALUES (?)", (value,))
            return 1 / value

    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE t (a)")
    insert(1)
    with pytest.raises(ZeroDivisionError):
        insert(0)
    assert not db.in_transaction
    assert db.execute("SELECT a FROM t").fetchall() == [(1,)]
    db.close()


def test_codes_are_primary_ones() -> None:
    error = sqlite3.OperationalError()
    assert sqlite_code(error) == 0
    error.sqlite_errorcode = 778  # SQLITE_IOERR_WRITE
    assert sqlite_code(error) == sqlite3.SQLITE_IOERR


# Schema versions.


def make_older(path: Path, version: int) -> None:
    """A journal of an older schema version, with a saga in it."""
    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
    saga = "INSERT INTO sagas VALUES (1, 'a', 'u', 1, 2, 7, NULL, NULL, NULL, 0, 0, 0, NULL, '', '{}');"
    make(path, f"PRAGMA journal_mode = WAL; {marks} {OLDER[version]} {saga} INSERT INTO events VALUES (1, 1, x'00');")


async def schema_of(path: Path) -> set[tuple[str, str]]:
    """Every table and index, without its comments and spaces."""
    database = await open_for_writing(path)
    sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    rows: list[tuple[str, str]] = await database.run(lambda db: db.execute(sql).fetchall())
    await database.close()
    return {(name, COMMENT.sub("", text).translate(SPACES)) for name, text in rows}


@pytest.mark.parametrize("version", OLDER)
async def test_an_old_journal_is_brought_up_to_date_and_keeps_what_it_holds(
    path: Path, tmp_path: Path, version: int
) -> None:
    make_older(path, version)
    assert await schema_of(path) == await schema_of(tmp_path / "new.db")
    database = await open_for_writing(path)
    assert await pragma(database, "user_version") == SCHEMA_VERSION
    assert await database.run(lambda db: db.execute("SELECT body FROM events").fetchall()) == [(b"\0",)]
    found = await database.run(lambda db: find_saga(db, "a"))
    assert found is not None
    assert (found.root_saga_id, found.exclusive_keys, found.last_sequence) == ("", (), 1)
    await database.close()


async def test_a_migration_that_breaks_off_leaves_the_journal_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older(path, 1)
    monkeypatch.setattr(sqlite_database, "MIGRATIONS", {1: "CREATE TABLE half (a); CREATE TABLE sagas (a);"})
    with pytest.raises(JournalUnavailable, match="already exists"):
        await open_for_writing(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)
    db.close()


async def test_a_new_journal_can_give_its_room_back(path: Path) -> None:
    database = await open_for_writing(path)
    assert await pragma(database, "auto_vacuum") == 2  # INCREMENTAL
    await database.close()


async def test_who_only_looks_leaves_an_old_an_empty_and_a_missing_file_as_it_is(path: Path) -> None:
    with pytest.raises(JournalUnavailable):
        await open_beside(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(NotAJournal, match="empty"):
        await open_beside(path)
    assert path.read_bytes() == b""
    make_older(path, 1)
    before = path.read_bytes()
    with pytest.raises(SchemaTooOld, match="version 1"):
        await open_beside(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("sync", ["not begun", "failed"])
async def test_g1_what_a_killed_writer_left_in_the_log_is_on_the_disk_before_it_is_seen(
    tmp_path: Path, sync: str
) -> None:
    """A sync that failed is not made good by another one: the system thinks that nothing is left to write."""
    disk = FaultyDisk()
    (tmp_path / "killed").mkdir()
    with installed(disk):
        first = await open_for_writing(tmp_path / "killed" / "journal.db")
        disk.fail(Fault(Operation.SYNC, IOERR_FSYNC))
        with pytest.raises(sqlite3.OperationalError):
            await first.run(lambda db: db.execute("INSERT INTO descriptors VALUES ('d', x'00')"))
        failed_at = max(place for place, entry in enumerate(disk.log) if isinstance(entry, Synced))
        await first.close()
    log = disk.log[: failed_at + (sync == "failed")]
    for seed in range(10):
        disk = FaultyDisk(log)
        directory = put(kill(log), tmp_path / f"restarted {seed}")
        with installed(disk):
            second = await open_for_writing(directory / "journal.db")
            seen = await second.run(lambda db: db.execute("SELECT count(*) FROM descriptors").fetchone())
            cut = put(power_cut(disk.log, random.Random(seed)), tmp_path / f"cut {seed}")
            await second.close()
        assert seen == (1,)
        third = await open_for_writing(cut / "journal.db")
        assert await third.run(lambda db: db.execute("SELECT count(*) FROM descriptors").fetchone()) == seen
        await third.close()
