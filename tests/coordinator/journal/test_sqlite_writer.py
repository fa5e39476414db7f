import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.journal.errors import Conflict, JournalUnavailable, SagaNotFound
from coordinator.journal.health import Health
from coordinator.journal.port import Append
from coordinator.journal.sqlite_appends import EncodedAppend, encode_append
from coordinator.journal.sqlite_database import Database, open_for_writing
from coordinator.journal.sqlite_writer import GroupWriter, WriterLimits
from tests.coordinator.journal.builders import event, follow, index, start


def encode(append: Append) -> EncodedAppend:
    return encode_append(append)


class Writing:
    """A writer whose disk can be stopped, filled and emptied again."""

    def __init__(self, database: Database, limits: WriterLimits) -> None:
        self.database = database
        self.health = Health()
        self.heard: asyncio.Queue[bool] = asyncio.Queue()
        self.health.listen(self.heard.put_nowait)
        self.writer = GroupWriter(database, self.health, limits)

    def append(self, append: Append) -> asyncio.Task[None]:
        return asyncio.create_task(self.writer.append(encode(append)))

    async def events(self) -> list[tuple[str, int]]:
        sql = "SELECT saga_id, sequence FROM events JOIN sagas USING (saga) ORDER BY events.rowid"
        return await self.database.run(lambda db: db.execute(sql).fetchall())

    @contextlib.asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Keep the disk busy for the length of a block: what is appended there queues."""
        entered, leave = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def occupy(_: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(entered.set)
            leave.wait()

        occupied = asyncio.create_task(self.writer.change(occupy))
        await entered.wait()
        try:
            yield
            await asyncio.sleep(0)  # tasks made in the block get to the queue
        finally:
            leave.set()
            await occupied

    async def fill(self) -> None:
        """Let the file not grow any more."""
        await self.database.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchall())

    async def empty(self) -> None:
        """Let it grow again."""
        await self.database.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())


@contextlib.asynccontextmanager
async def writing(path: Path, **limits: int) -> AsyncIterator[Writing]:
    database = await open_for_writing(path / "journal.db")
    made = Writing(database, WriterLimits(**limits))
    yield made
    await made.writer.close()
    await database.close()


def large(saga_id: str, size: int = 100_000) -> Append:
    """An append that needs new pages."""
    first = event(saga_id, 1)
    first.saga_created.input.value = b"x" * size
    return Append(saga_id, [first], index(saga_id))


async def test_what_queues_up_becomes_one_commit(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        async with it.stopped():
            tasks = [it.append(start(f"s{number}")) for number in range(100)]
            tasks += [it.append(follow(f"s{number}", 2)) for number in range(100)]
        await asyncio.gather(*tasks)
        assert it.writer.statistics.commits == 2  # one is the block's
        assert len(await it.events()) == 200


async def test_appends_alone_wait_for_nobody(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        await it.append(start("a"))
        await it.append(follow("a", 2))
        assert it.writer.statistics.commits == 2


@pytest.mark.parametrize(
    ("limits", "commits"), [({"group_events_max": 4}, 3), ({"group_bytes_max": 250_000}, 3), ({}, 1)], ids=str
)
async def test_g14_a_group_is_bounded(tmp_path: Path, limits: dict[str, int], commits: int) -> None:
    async with writing(tmp_path, **limits) as it:
        async with it.stopped():
            if "group_events_max" in limits:
                tasks = [it.append(start(f"s{number}", 2)) for number in range(6)]
            else:
                tasks = [it.append(large(f"s{number}")) for number in range(6)]
        await asyncio.gather(*tasks)
        assert it.writer.statistics.commits == 1 + commits


async def test_an_append_larger_than_a_group_passes_alone(tmp_path: Path) -> None:
    async with writing(tmp_path, group_events_max=2, queue_events_max=2) as it:
        await it.append(start("a", 9))
        assert len(await it.events()) == 9


@pytest.mark.parametrize("limits", [{"queue_events_max": 3}, {"queue_bytes_max": 250_000}], ids=str)
async def test_g14_a_full_queue_holds_callers_back(tmp_path: Path, limits: dict[str, int]) -> None:
    async with writing(tmp_path, **limits) as it:
        async with it.stopped():
            tasks = [it.append(large(f"s{number}")) for number in range(6)]
            await asyncio.sleep(0)
            tasks[4].cancel()  # it is still outside, and so was never accepted
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [*[type(None)] * 4, asyncio.CancelledError, type(None)]
        assert [saga_id for saga_id, _ in await it.events()] == ["s0", "s1", "s2", "s3", "s5"]
        assert it.writer.statistics.commits > 2


async def test_a_conflict_in_a_group_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        async with it.stopped():
            tasks = [it.append(start("a")), it.append(follow("a", 3)), it.append(follow("a", 2))]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), Conflict, type(None)]
        assert await it.events() == [("a", 1), ("a", 2)]
        assert it.health.healthy


async def test_g1_callers_that_are_cancelled_leave_their_appends_queued(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        async with it.stopped():
            tasks = [it.append(start(f"s{number}")) for number in range(3)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        await it.append(start("last"))
        assert [saga_id for saga_id, _ in await it.events()] == ["s0", "s1", "s2", "last"]


async def test_a_refusal_that_nobody_waits_for_is_not_an_error(tmp_path: Path) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with writing(tmp_path) as it:
        async with it.stopped():
            task = it.append(follow("nobody", 2))
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert unhandled == []


async def test_a_change_has_a_commit_of_its_own_in_its_turn(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        async with it.stopped():
            before = it.append(start("a"))
            count = asyncio.create_task(
                it.writer.change(lambda db: db.execute("SELECT count(*) FROM events").fetchone()[0])
            )
            after = it.append(start("b"))
        await asyncio.gather(before, after)
        assert await count == 1
        assert it.writer.statistics.commits == 4


async def test_a_change_that_is_refused_writes_nothing(tmp_path: Path) -> None:
    def refuse(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO descriptors VALUES ('d', x'00')")
        raise SagaNotFound("a")

    async with writing(tmp_path) as it:
        with pytest.raises(SagaNotFound):
            await it.writer.change(refuse)
        assert await it.database.run(lambda db: db.execute("SELECT count(*) FROM descriptors").fetchone()) == (0,)
        assert it.health.healthy


async def test_a_full_disk_fails_the_whole_group_and_heals_with_the_next_append(tmp_path: Path) -> None:
    async with writing(tmp_path, probe_interval_ns=10**15) as it:
        await it.append(start("a"))
        await it.fill()
        async with it.stopped():
            tasks = [it.append(follow("a", 2)), it.append(large("b"))]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [JournalUnavailable] * 2
        assert outcomes[0] is not outcomes[1]
        assert "full" in str(outcomes[0])
        assert it.writer.statistics.failed_commits == 1
        assert await it.heard.get() is False
        with pytest.raises(JournalUnavailable):
            await it.append(large("b"))
        await it.empty()
        await it.append(large("b"))
        await it.append(follow("a", 2))
        assert await it.heard.get() is True
        assert it.heard.empty()
        assert await it.events() == [("a", 1), ("b", 1), ("a", 2)]


async def test_a_disk_that_is_well_again_is_noticed_without_an_append(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with writing(tmp_path, probe_interval_ns=1_000_000) as it:
        await it.fill()
        with pytest.raises(JournalUnavailable):
            await it.append(large("a"))
        assert await it.heard.get() is False
        probes: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def notice(sql: str) -> None:
            if sql.startswith("BEGIN"):
                loop.call_soon_threadsafe(probes.put_nowait, sql)

        await it.database.run(lambda db: db.set_trace_callback(notice))
        for _ in range(2):  # when the second probe begins, the first has failed
            await probes.get()
        assert not it.health.healthy
        await it.empty()
        assert await it.heard.get() is True
        assert it.heard.empty()
    texts = [record.message for record in caplog.records]
    assert sum("cannot be written" in text for text in texts) == 1
    assert sum("can be written again" in text for text in texts) == 1


async def test_the_writer_outlives_a_mistake_of_the_program(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        with pytest.raises(JournalUnavailable, match="division"):
            await it.writer.change(lambda db: 1 // 0)
        await it.append(start("a"))
        assert await it.events() == [("a", 1)]


async def test_close_writes_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    async with writing(tmp_path, queue_events_max=2) as it:
        async with it.stopped():
            tasks = [it.append(start(f"s{number}")) for number in range(3)]
            await asyncio.sleep(0)
            closing = asyncio.create_task(it.writer.close())
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await closing
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), JournalUnavailable]
        assert len(await it.events()) == 2


async def test_close_that_is_cancelled_does_not_stop_the_writer(tmp_path: Path) -> None:
    async with writing(tmp_path) as it:
        async with it.stopped():
            task = it.append(start("a"))
            await asyncio.sleep(0)
            closing = asyncio.create_task(it.writer.close())
            await asyncio.sleep(0)
            closing.cancel()
        await task
        assert await it.events() == [("a", 1)]


def test_an_event_loop_that_ends_leaves_nobody_waiting(tmp_path: Path) -> None:
    outcomes: list[BaseException] = []
    leave = threading.Event()

    async def use(it: Writing, append: Append) -> None:
        try:
            await it.writer.append(encode(append))
        except JournalUnavailable as error:
            outcomes.append(error)

    async def main() -> None:
        database = await open_for_writing(tmp_path / "journal.db")
        it = Writing(database, WriterLimits())
        busy = asyncio.create_task(it.writer.change(lambda db: leave.wait()))
        await asyncio.sleep(0)
        users = [asyncio.create_task(use(it, start(saga_id))) for saga_id in ("a", "b")]
        await asyncio.sleep(0)
        try:
            writers = [task for task in asyncio.all_tasks() if task.get_name() == "journal writer"]
            writers[0].cancel()
            await asyncio.gather(*users)
            with pytest.raises(JournalUnavailable):
                await busy
        finally:
            leave.set()
        await it.writer.close()
        await database.close()

    asyncio.run(main())
    assert len(outcomes) == 2
