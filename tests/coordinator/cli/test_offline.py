# ruff: noqa: ASYNC240 - these files are small and local
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.cli import offline
from coordinator.cli.errors import CommandError
from coordinator.core.limits import DAY_NS
from coordinator.engine.retention import RetentionPolicy
from coordinator.engine.transfer import Collector, carry_out_import
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_view import SqliteView
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED
from tests.coordinator.engine.bench import Bench, step

ALL = SagaFilter()
NOW = RetentionPolicy(0)


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A journal with three sagas that completed."""
    b = Bench(MemoryJournal())
    await b.register(step("a"))
    for saga_id in "123":
        await b.start(saga_id, labels={"order": saga_id})
        await b.ended(saga_id)
    collector = Collector(b.journal)
    page = await b.journal.list_sagas(ALL, None, 10)
    records = [record for index in page.items for record in await collector.collect(index)]
    await b.engine.close()
    path = tmp_path / "saga.db"
    journal = await SqliteJournal.open(path)
    await carry_out_import(records, journal)
    await journal.close()
    return path


@pytest.fixture
async def beside(file: Path) -> AsyncIterator[SqliteJournal]:
    """A coordinator has the journal."""
    journal = await SqliteJournal.open(file)
    yield journal
    await journal.close()


async def ids(file: Path) -> list[str]:
    view = await SqliteView.open(file)
    page = await view.list_sagas(ALL, None, 100)
    await view.close()
    return sorted(index.saga_id for index in page.items)


async def test_a_sound_journal(beside: SqliteJournal, file: Path) -> None:
    found = await offline.verify_file(file)
    assert (found.sagas, found.definitions, found.tombstones, found.problems) == ({"COMPLETED": 3}, 1, 0, [])
    assert found.events > 9


async def test_a_damaged_saga_is_named(file: Path) -> None:
    db = sqlite3.connect(file)
    db.execute("UPDATE events SET body = x'ff' WHERE saga = 1 AND sequence = 2")
    db.commit()
    db.close()
    found = await offline.verify_file(file)
    assert len(found.problems) == 1
    assert "event 2 cannot be decoded" in found.problems[0]


async def test_a_file_that_is_damaged_beyond_reading_says_so(file: Path) -> None:
    db = sqlite3.connect(file)
    db.execute("PRAGMA journal_mode = DELETE")
    (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sagas'").fetchone()
    db.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    file.write_bytes(content)
    assert (await offline.verify_file(file)).problems


async def test_exported_and_imported_elsewhere(beside: SqliteJournal, file: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "sagas.jsonl.gz", tmp_path / "other.db"
    assert await offline.export_to(file, target, ["2", "1", "2"], ALL) == 2
    assert (await offline.import_from(other, target, dry_run=True)).sagas == 2
    assert not other.exists()
    assert (await offline.import_from(other, target, dry_run=False)).sagas == 2
    assert await ids(other) == ["1", "2"]
    assert (await offline.import_from(other, target, dry_run=True)).present == 2
    assert (await offline.verify_file(other)).problems == []


async def test_a_filter_chooses(file: Path, tmp_path: Path) -> None:
    chosen = SagaFilter(labels={"order": "2"})
    assert await offline.export_to(file, tmp_path / "one", [], chosen) == 1
    assert await offline.export_to(file, tmp_path / "all", [], ALL) == 3
    none = SagaFilter(states=[SAGA_STATE_COMPENSATED])
    assert await offline.export_to(file, tmp_path / "none", [], none) == 0


async def test_an_id_that_is_not_there_leaves_no_file(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no saga 'x'"):
        await offline.export_to(file, tmp_path / "sagas", ["1", "x"], ALL)
    assert not (tmp_path / "sagas").exists()


async def test_an_import_needs_the_journal_for_itself(beside: SqliteJournal, file: Path, tmp_path: Path) -> None:
    await offline.export_to(file, tmp_path / "sagas", [], ALL)
    with pytest.raises(CommandError, match="in use"):
        await offline.import_from(file, tmp_path / "sagas", dry_run=False)
    with pytest.raises(CommandError, match="in use"):
        await offline.retire_in(file, NOW, dry_run=False)


async def test_what_cannot_be_imported_is_said_and_makes_no_journal(tmp_path: Path, file: Path) -> None:
    (tmp_path / "text").write_text("no export")
    with pytest.raises(CommandError, match="no export"):
        await offline.import_from(tmp_path / "new.db", tmp_path / "text", dry_run=False)
    with pytest.raises(CommandError, match="No such file"):
        await offline.import_from(tmp_path / "new.db", tmp_path / "nothing", dry_run=False)
    assert not (tmp_path / "new.db").exists()
    await offline.export_to(file, tmp_path / "sagas", [], ALL)
    await offline.retire_in(file, NOW, dry_run=False)
    with pytest.raises(CommandError) as refused:
        await offline.import_from(file, tmp_path / "sagas", dry_run=False)
    assert sorted(refused.value.details) == [f"saga '{n}' was there and has been retired" for n in "123"]


async def test_a_backup_is_a_journal(beside: SqliteJournal, file: Path, tmp_path: Path) -> None:
    size = await offline.backup_to(file, tmp_path / "backup.db")
    assert size == (tmp_path / "backup.db").stat().st_size
    assert (await offline.verify_file(tmp_path / "backup.db")).sagas == {"COMPLETED": 3}
    with pytest.raises(CommandError, match="exists already"):
        await offline.backup_to(file, tmp_path / "backup.db")


async def test_retiring_and_its_dry_run(file: Path, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    policy = replace(NOW, export_directory=exports)
    assert await offline.retire_in(file, policy, dry_run=True) == {"sagas": 3}
    ancient = RetentionPolicy(time.time_ns() - DAY_NS)
    assert await offline.retire_in(file, ancient, dry_run=True) == {"sagas": 0}
    assert await ids(file) == ["1", "2", "3"]
    assert (await offline.retire_in(file, policy, dry_run=False))["sagas"] == 3
    assert await ids(file) == []
    [export] = exports.iterdir()
    assert (await offline.import_from(tmp_path / "again.db", export, dry_run=False)).sagas == 3
    with pytest.raises(CommandError, match="no file"):
        await offline.retire_in(tmp_path / "none.db", NOW, dry_run=False)
