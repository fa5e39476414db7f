# ruff: noqa: ASYNC240 - these files are small and local
import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.journal.errors import JournalUnavailable, NotAJournal
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_view import SqliteView
from tests.coordinator.journal.builders import follow, sequences, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = await SqliteJournal.open(path)
    await opened.append(start("a", 3))
    yield opened
    await opened.close()


@pytest.fixture
async def view(journal: SqliteJournal, path: Path) -> AsyncIterator[SqliteView]:
    """Beside a journal that is open."""
    opened = await SqliteView.open(path)
    yield opened
    await opened.close()


async def test_it_sees_what_the_coordinator_writes_meanwhile(journal: SqliteJournal, view: SqliteView) -> None:
    assert sequences(await view.read("a")) == [1, 2, 3]
    await journal.append(follow("a", 4))
    assert sequences(await view.read("a")) == [1, 2, 3, 4]
    found = await view.find("a")
    assert found is not None
    assert found.last_sequence == 4


async def test_a_journal_that_nobody_has_can_be_looked_at_and_opened_meanwhile(
    journal: SqliteJournal, path: Path
) -> None:
    await journal.close()
    view = await SqliteView.open(path)
    assert sequences(await view.read("a")) == [1, 2, 3]
    reopened = await SqliteJournal.open(path)
    await reopened.append(follow("a", 4))
    assert sequences(await view.read("a")) == [1, 2, 3, 4]
    await view.close()
    await reopened.close()


async def test_a_closed_view_reads_nothing(view: SqliteView) -> None:
    await view.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        await view.find("a")


async def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no journal " * 100)
    with pytest.raises(NotAJournal):
        await SqliteView.open(tmp_path / "note.txt")


async def test_a_backup_is_the_journal_of_one_moment_while_others_write(
    journal: SqliteJournal, view: SqliteView, tmp_path: Path
) -> None:
    async def write() -> None:
        for number in range(300):
            await journal.append(start(f"s{number}", 2))

    writing = asyncio.create_task(write())
    target = tmp_path / "backup.db"
    await view.backup(target)
    await writing
    assert sorted(file.name for file in tmp_path.glob("backup*")) == ["backup.db"]
    copy = await SqliteJournal.open(target)
    page = await copy.unfinished(None, 1000)
    assert 1 <= len(page.items) <= 301
    for saga in page.items:
        assert len(await copy.read(saga.saga_id)) == saga.last_sequence
    await copy.append(follow("a", 4))
    await copy.close()
    looked_at = await SqliteView.open(target)
    assert await looked_at.damages() == []
    await looked_at.close()


async def test_a_backup_never_replaces_a_file(view: SqliteView, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match=r"backup\.db"):
        await view.backup(target)
    assert target.read_text() == "precious"


async def test_a_backup_that_fails_leaves_nothing(view: SqliteView, tmp_path: Path) -> None:
    await view.close()
    with pytest.raises(JournalUnavailable):
        await view.backup(tmp_path / "backup.db")
    assert list(tmp_path.glob("backup*")) == []
    with pytest.raises(FileNotFoundError):
        await view.backup(tmp_path / "nowhere" / "backup.db")


async def test_damage_to_the_file_is_found(journal: SqliteJournal, view: SqliteView, path: Path) -> None:
    assert await view.damages() == []
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("DELETE FROM sqlite_schema WHERE name = 'sagas_newest'")  # its pages now belong to nothing
    db.commit()
    db.close()
    await view.close()
    again = await SqliteView.open(path)
    assert await again.damages() != []
    await again.close()
