# ruff: noqa: ASYNC240 - these files are small and local
import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.journal.port import Append
from coordinator.journal.queries import QUERIES
from coordinator.journal.sqlite import SqliteJournal
from tests.coordinator.journal.builders import ended, follow, start, tombstone

NOTE = "x" * 2000
KEPT = 1 << 20
_NOT_TABLES = ("json_each", "CONSTANT", "given", "INDEX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = await SqliteJournal.open(path)
    yield opened
    await opened.close()


async def fill(journal: SqliteJournal, name: str, count: int) -> list[Append]:
    appends = [ended(f"{name}-{number}", labels={"run": name}) for number in range(count)]
    await asyncio.gather(*(journal.append(append) for append in appends))
    await asyncio.gather(*(journal.append(follow(append.saga_id, 2, 2, NOTE)) for append in appends))
    return appends


async def retire(journal: SqliteJournal, appends: list[Append]) -> None:
    for first in range(0, len(appends), 100):
        batch = appends[first : first + 100]
        assert await journal.retire([tombstone(append) for append in batch]) == len(batch)


async def drained(journal: SqliteJournal, bytes_kept: int = 0) -> int:
    """Give back all that can be; returns how much in all."""
    total = 0
    while reclaimed := await journal.reclaim(KEPT, bytes_kept):
        assert reclaimed <= KEPT
        total += reclaimed
    return total


def file_bytes(path: Path) -> int:
    """What the file takes once its write-ahead log is part of it."""
    db = sqlite3.connect(path)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.close()
    return int(pages) * 4096


async def test_the_file_stays_as_large_over_many_cycles(journal: SqliteJournal, path: Path) -> None:
    sizes = []
    for cycle in range(6):
        await retire(journal, await fill(journal, f"c{cycle}", 300))
        sizes.append(file_bytes(path))
        assert await journal.drop_tombstones(1 << 62, 1000) == 300
    assert sizes[0] > KEPT
    assert max(sizes) <= sizes[0] * 1.05  # pages are used again


async def test_room_is_given_back_in_pieces_down_to_what_is_kept(journal: SqliteJournal, path: Path) -> None:
    appends = await fill(journal, "a", 600)
    full = file_bytes(path)
    await retire(journal, appends)
    assert file_bytes(path) == full
    given = await drained(journal, KEPT)
    assert full - given - KEPT < KEPT
    assert file_bytes(path) == full - given
    assert await drained(journal, 0) >= KEPT - 4096
    await journal.close()
    assert path.stat().st_size < KEPT


async def test_live_sagas_go_on_between_the_batches(journal: SqliteJournal) -> None:
    old = await fill(journal, "old", 1000)
    order: list[str] = []

    async def retire_all() -> None:
        for first in range(0, len(old), 100):
            await journal.retire([tombstone(append) for append in old[first : first + 100]])
            order.append("batch")

    async def live() -> None:
        await journal.append(start("live"))
        for sequence in range(2, 8):
            await journal.append(follow("live", sequence))
            order.append("live")

    await asyncio.gather(retire_all(), live())
    assert order[-1] == "batch"  # the live saga had its seven appends while ten batches were deleted
    assert order.index("batch") < order.index("live") < 4


async def test_deleting_walks_indexes_only(journal: SqliteJournal, path: Path) -> None:
    db = sqlite3.connect(path)
    for name in (
        "delete_labels",
        "delete_keys",
        "delete_events",
        "delete_saga",
        "drop_tombstones",
        "create_saga",
        "leave_tombstone",
    ):
        marks = [None] * QUERIES[name].count("?")
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", marks)]
        scans = [step for step in plan if step.startswith("SCAN")]
        assert [scan for scan in scans if not any(word in scan for word in _NOT_TABLES)] == [], plan
    db.close()


async def test_nothing_is_left_of_a_retired_saga_but_its_tombstone(journal: SqliteJournal, path: Path) -> None:
    retired = ended("a", 3, labels={"order": "1"}, exclusive_keys=("k", "l"))
    await journal.append(retired)
    await journal.append(start("b", labels={"order": "1"}, exclusive_keys=("k",)))
    await retire(journal, [retired])
    db = sqlite3.connect(path)
    tables = ("sagas", "events", "labels", "exclusive_keys", "tombstones")
    rows = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    db.close()
    assert rows == [1, 1, 1, 1, 1]  # the other saga's, and the tombstone
