# ruff: noqa: ASYNC240 - these files are small and local
import asyncio
import logging
import os
import resource
import signal
import sqlite3
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordinator.journal.errors import (
    JournalLocked,
    JournalUnavailable,
    JournalUnusable,
    NotAJournal,
    SchemaTooNew,
    UnreadableSaga,
)
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_writer import WriterLimits
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import FAILURE_KIND_REJECTED, Failure
from tests.coordinator.journal.builders import follow, sequences, start

DRIVER = textwrap.dedent("""
    import asyncio, sys
    from coordinator.journal.sqlite import SqliteJournal
    from tests.coordinator.journal.builders import follow, start

    async def drive(journal, name):
        saga = 0
        while True:
            saga_id = f"{name}-{saga}"
            await journal.append(start(saga_id))
            print(saga_id, 1, flush=True)
            await journal.append(follow(saga_id, 2, 2))
            print(saga_id, 3, flush=True)
            saga += 1

    async def main():
        journal = await SqliteJournal.open(sys.argv[1])
        print("open", flush=True)
        if len(sys.argv) > 2:
            await asyncio.gather(*(drive(journal, f"driver{number}") for number in range(8)))
        await asyncio.Event().wait()

    asyncio.run(main())
""")


@asynccontextmanager
async def coordinator(path: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that has the journal open; killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DRIVER, str(path), *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = await SqliteJournal.open(path)
    yield opened
    await opened.close()


async def test_concurrent_appends_share_few_commits(journal: SqliteJournal) -> None:
    await asyncio.gather(*(journal.append(start(f"s{number}")) for number in range(200)))
    assert journal.statistics.commits <= 3


async def test_the_log_names_the_file_and_sqlites_version(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await (await SqliteJournal.open(path)).close()
    assert f"journal {path} is open, SQLite {sqlite3.sqlite_version}" in caplog.messages


# Crashes.


@pytest.mark.e2e
async def test_g1_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    acknowledged: dict[str, int] = {}
    async with coordinator(path, "drive") as process:
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        lines += (await process.stdout.read()).splitlines(keepends=True)
    for line in lines:
        if line.endswith(b"\n"):  # the last may be cut off
            saga_id, sequence = line.decode().split()
            acknowledged[saga_id] = int(sequence)
    journal = await SqliteJournal.open(path)
    for saga_id, last in acknowledged.items():
        found = sequences(await journal.read(saga_id))
        assert found[:last] == list(range(1, last + 1))
        assert len(found) in (1, 3)  # an append is there as a whole or not at all
    assert (await journal.unfinished(None, 10_000)).next is None
    await journal.append(follow("driver0-0", 4))
    await journal.close()


@pytest.mark.e2e
async def test_a_program_that_ends_without_closing_does_end(path: Path) -> None:
    program = textwrap.dedent("""
        import asyncio, sys
        from coordinator.journal.sqlite import SqliteJournal

        async def main():
            journal = await SqliteJournal.open(sys.argv[1])
            raise SystemExit(7)

        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", program, str(path))
    async with asyncio.timeout(60):
        assert await process.wait() == 7


# One coordinator per file.


@pytest.mark.e2e
async def test_another_process_is_refused_by_the_holders_id_until_that_dies(path: Path) -> None:
    async with coordinator(path) as process:
        with pytest.raises(JournalLocked, match=f"process id {process.pid};"):
            await SqliteJournal.open(path)
    await (await SqliteJournal.open(path)).close()


async def test_two_journals_of_one_process_are_refused_too(journal: SqliteJournal, path: Path) -> None:
    with pytest.raises(JournalLocked) as caught:
        await SqliteJournal.open(path)
    assert caught.value.holder_pid == os.getpid()
    await journal.append(start("a"))


async def test_a_symbolic_link_is_the_file_it_leads_to(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    link, linked_directory = tmp_path / "link.db", tmp_path / "elsewhere"
    link.symlink_to(path)
    linked_directory.symlink_to(tmp_path, target_is_directory=True)
    for other_name in (link, linked_directory / "journal.db"):
        with pytest.raises(JournalLocked, match=str(path)):
            await SqliteJournal.open(other_name)
    await journal.close()
    through_link = await SqliteJournal.open(link)
    await through_link.append(start("a"))
    await through_link.close()
    assert not (tmp_path / "link.db-wal").exists()
    reopened = await SqliteJournal.open(path)
    assert sequences(await reopened.read("a")) == [1]
    await reopened.close()


async def test_a_relative_path_is_the_same_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    journal = await SqliteJournal.open("journal.db")
    with pytest.raises(JournalLocked):
        await SqliteJournal.open(path)
    await journal.close()


# Files that are not ours. A refusal lets go of the lock.


async def test_a_schema_that_is_too_new_is_refused(journal: SqliteJournal, path: Path) -> None:
    await journal.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    for _ in range(2):
        with pytest.raises(SchemaTooNew, match="99"):
            await SqliteJournal.open(path)


async def test_a_foreign_file_is_refused(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" * 1000)
    for _ in range(2):
        with pytest.raises(NotAJournal):
            await SqliteJournal.open(path)


async def test_a_directory_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="No such file"):
        await SqliteJournal.open(tmp_path / "nowhere" / "journal.db")


# Disks.


@asynccontextmanager
async def no_room_to_grow(path: Path) -> AsyncIterator[None]:
    """No file of this process grows beyond the journal's log, as on a full disk: the system itself refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(path.name + "-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_refuses_is_unavailable_until_it_takes_again(path: Path) -> None:
    limits = WriterLimits(probe_interval_ns=1_000_000)
    journal = await SqliteJournal.open(path, limits)
    changes: asyncio.Queue[bool] = asyncio.Queue()
    journal.on_health_change(changes.put_nowait)
    await journal.append(start("a"))
    async with no_room_to_grow(path):
        with pytest.raises(JournalUnavailable, match="could not be written"):
            await journal.append(follow("a", 2))
        assert (await changes.get(), journal.healthy) == (False, False)
        assert sequences(await journal.read("a")) == [1]
    assert (await changes.get(), journal.healthy) == (True, True)
    await journal.append(follow("a", 2))
    await journal.close()
    journal = await SqliteJournal.open(path)
    assert sequences(await journal.read("a")) == [1, 2]
    await journal.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is read-only")
async def test_a_read_only_file_is_unavailable(journal: SqliteJournal, path: Path) -> None:
    await journal.close()
    path.chmod(0o400)
    with pytest.raises(JournalUnavailable, match="cannot be opened"):
        await SqliteJournal.open(path)


async def test_a_file_that_is_gone_bad_while_open_is_unavailable_not_a_crash(
    journal: SqliteJournal, path: Path
) -> None:
    await journal.append(start("a"))
    other = sqlite3.connect(path)
    other.execute("DROP TABLE pins")
    other.close()
    with pytest.raises(JournalUnavailable, match="could not be read"):
        await journal.find("a")
    with pytest.raises(JournalUnavailable, match="could not be written"):
        await journal.append(start("b"))


async def test_rows_that_are_missing_make_one_saga_unreadable(journal: SqliteJournal, path: Path) -> None:
    await journal.append(start("a", 3))
    await journal.append(start("b", 3))
    other = sqlite3.connect(path)
    with other:
        other.execute("DELETE FROM events WHERE sequence = 2 AND saga = 1")
    other.close()
    with pytest.raises(UnreadableSaga, match="event 2 is missing"):
        await journal.read("a")
    assert sequences(await journal.read("b")) == [1, 2, 3]


async def test_a_long_list_holds_up_neither_commits_nor_single_sagas(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(_: sqlite3.Connection, *__: object) -> list[str]:
        entered.set()
        leave.wait()
        return []

    monkeypatch.setattr("coordinator.journal.sqlite_sagas.list_sagas", slow)
    listing = asyncio.create_task(journal.list_sagas(SagaFilter(), None, 10))
    await asyncio.to_thread(entered.wait)
    await journal.append(start("a"))
    assert sequences(await journal.read("a")) == [1]
    assert not listing.done()
    leave.set()
    await listing


async def test_a_caller_that_stops_reading_disturbs_nobody(journal: SqliteJournal) -> None:
    await journal.append(start("a"))
    reading = asyncio.create_task(journal.read("a"))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert sequences(await journal.read("a")) == [1]


async def test_failures_are_searched_on_the_listing_connection(journal: SqliteJournal) -> None:
    await journal.append(start("a", failure=Failure(kind=FAILURE_KIND_REJECTED, message="no funds")))
    page = await journal.list_sagas(SagaFilter(failure_text="fund"), None, 10)
    assert [saga.saga_id for saga in page.items] == ["a"]


# Damaged rows.


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sagas SET labels = 'not json' WHERE saga_id = 'b'",
        "UPDATE sagas SET labels = '[1]' WHERE saga_id = 'b'",
        "UPDATE sagas SET pin = 999 WHERE saga_id = 'b'",
        "UPDATE pins SET participants = 'not json'",
    ],
)
async def test_a_row_that_is_damaged_takes_no_other_with_it_and_does_not_vanish(path: Path, damage: str) -> None:
    """G3, rule 11: recovery and lists go on; the damaged saga is still found."""
    journal = await SqliteJournal.open(path)
    for saga_id in ("a", "b", "c"):
        await journal.append(start(saga_id))
    await journal.close()
    with sqlite3.connect(path) as db:
        db.execute(damage)
    db.close()
    journal = await SqliteJournal.open(path)
    assert [index.saga_id for index in (await journal.unfinished(None, 10)).items] == ["a", "b", "c"]
    assert len((await journal.list_sagas(SagaFilter(), None, 10)).items) == 3
    assert len((await journal.list_sagas(SagaFilter(participant="nobody"), None, 10)).items) == 0
    found = await journal.find("b")
    assert found is not None
    assert (await journal.read("b"))[0].saga_id == "b"
    await journal.close()


async def test_a_file_with_a_hard_link_is_refused(path: Path, tmp_path: Path) -> None:
    """G12: the lock and SQLite's own files go by the name."""
    await (await SqliteJournal.open(path)).close()
    os.link(path, tmp_path / "other.db")
    with pytest.raises(JournalUnusable, match="other names"):
        await SqliteJournal.open(tmp_path / "other.db")
