"""What SQLite adds to the contract: several connections and processes on one file, durability, schema version."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Participant, SqliteBarrier, Step
from participant_sdk.errors import CallError
from participant_sdk.testing import ActionHarness
from tests.participant_sdk.support import SCHEMA, External, Scripted, Stores, struct
from tests.support.passing_time import HOUR, let_pass

REQUEST = struct(sku="book")
CHILD = "tests.participant_sdk.barrier.crashing_participant"


@pytest.fixture(params=["sqlite", "aiosqlite"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """The stores on a file."""
    return Stores(request.param, tmp_path)


def pragma(path: Path, name: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_calls_from_two_connections_wait_for_each_other(files: Stores, action: Scripted) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(step: Step[Any]) -> StringValue:
        await files.write(step.transaction, "reserved")
        entered.set()
        await leave.wait()
        return StringValue(value="slow")

    action.on_execute = waits
    async with files.harness(action) as one, files.harness(action) as other:
        first = asyncio.create_task(one.execute(REQUEST, saga_uid="u"))
        await entered.wait()
        second = asyncio.create_task(other.execute(REQUEST, saga_uid="u"))
        asyncio.get_running_loop().call_later(0.02, leave.set)  # the loop is free while the other connection waits
        assert await second == await first
    assert action.calls == ["execute"]
    assert files.business() == ["reserved"]


async def test_the_other_connection_gives_up_at_the_deadline(files: Stores, action: Scripted) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        await leave.wait()
        return StringValue()

    action.on_execute = waits
    async with files.harness(action) as one, files.harness(action) as other:
        first = asyncio.create_task(one.execute(REQUEST, saga_uid="u"))
        await entered.wait()
        with pytest.raises(CallError) as refused:
            await other.execute(REQUEST, saga_uid="u", timeout=timedelta(milliseconds=60))
        assert refused.value.code == grpc.StatusCode.ABORTED
        leave.set()
        await first


async def test_an_external_handler_of_another_connection_is_seen_to_live(files: Stores, external: External) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        await leave.wait()
        return StringValue(value="paid")

    external.on_execute = waits
    async with files.harness(external) as one, files.harness(external) as other:
        first = asyncio.create_task(one.execute(REQUEST, saga_uid="u"))
        await entered.wait()
        for call in (other.execute(REQUEST, saga_uid="u"), other.compensate(REQUEST, saga_uid="u")):
            with pytest.raises(CallError) as refused:
                await call
            assert refused.value.code == grpc.StatusCode.ABORTED
        leave.set()
        async with asyncio.timeout(5):
            await first
        assert not (await other.compensate(saga_uid="u")).compensated.noop
    assert external.calls == ["execute", "compensate(paid)"]


@pytest.mark.parametrize("ending", ["breaks", "overruns", "is cancelled"])
async def test_an_external_handler_that_has_ended_is_not_seen_to_live(
    files: Stores, external: External, ending: str
) -> None:
    entered = asyncio.Event()

    async def ends(_step: Step[Any]) -> StringValue:
        entered.set()
        if ending == "breaks":
            raise ConnectionError
        await asyncio.Event().wait()
        raise AssertionError

    external.on_execute = ends
    async with files.harness(external) as one, files.harness(external) as other:
        call = asyncio.create_task(one.execute(REQUEST, saga_uid="u", timeout=HOUR))
        await entered.wait()
        if ending == "overruns":
            let_pass(HOUR)
        if ending == "is cancelled":
            call.cancel()
        await asyncio.wait([call])
        assert not (await other.compensate(REQUEST, saga_uid="u")).compensated.noop
    assert external.calls == ["execute", "compensate(None)"]


class Child:
    """A participant in a process of its own, stopped inside a handler."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def kill(self) -> None:
        """End it as a power loss would: no clean-up of any kind."""
        with self._process:
            self._process.kill()


StartChild = Callable[[Stores, str], Child]


@pytest.fixture
def start_child() -> Iterator[StartChild]:
    children: list[Child] = []

    def start(stores: Stores, action: str) -> Child:
        process = subprocess.Popen(
            [sys.executable, "-m", CHILD, stores.path, stores.kind, action], stdout=subprocess.PIPE, text=True
        )
        children.append(Child(process))
        assert process.stdout is not None
        assert process.stdout.readline() == "inside the handler\n"
        return children[-1]

    yield start
    for child in children:
        child.kill()


async def test_a_process_killed_inside_the_handler_leaves_nothing(
    files: Stores, action: Scripted, start_child: StartChild
) -> None:
    async with files.harness(action) as harness:
        child = start_child(files, "Scripted")
        with pytest.raises(CallError) as refused:  # the dying process still holds the write lock
            await harness.execute(REQUEST, saga_uid="u", timeout=timedelta(milliseconds=60))
        assert refused.value.code == grpc.StatusCode.ABORTED
        child.kill()
        assert (files.business(), files.states()) == ([], [])
        await harness.execute(REQUEST, saga_uid="u")
    assert action.calls == ["execute"]


async def test_a_process_killed_inside_an_external_handler_leaves_started(
    files: Stores, external: External, start_child: StartChild
) -> None:
    child = start_child(files, "External")
    async with files.harness(external) as harness:
        assert files.states() == ["STARTED"]
        with pytest.raises(CallError) as refused:
            await harness.execute(REQUEST, saga_uid="u")
        assert refused.value.code == grpc.StatusCode.ABORTED
        assert external.calls == []
        child.kill()
        assert (await harness.execute(REQUEST, saga_uid="u", attempt=2)).HasField("completed")
    assert external.calls == ["execute"]
    with closing(sqlite3.connect(files.path)) as connection:
        assert connection.execute("SELECT state, handler FROM saga_barrier").fetchall() == [("COMPLETED", "")]


async def test_compensate_after_a_crash_of_an_external_handler_is_never_a_noop(
    files: Stores, external: External, start_child: StartChild
) -> None:
    start_child(files, "External").kill()
    async with files.harness(external) as harness:
        assert not (await harness.compensate(REQUEST, saga_uid="u")).compensated.noop
    assert external.calls == ["compensate(None)"]
    assert sorted(path.name for path in files.path.parent.iterdir()) == ["business.db"]


async def test_write_ahead_log_and_full_synchronisation(tmp_path: Path, action: Scripted) -> None:
    found: list[int] = []

    async def looks(step: Step[Any]) -> StringValue:
        found.extend(step.transaction.execute("PRAGMA synchronous").fetchone())
        return StringValue()

    action.on_execute = looks
    async with ActionHarness(action, SqliteBarrier(tmp_path / "business.db")) as harness:
        await harness.execute(REQUEST)
        assert pragma(tmp_path / "business.db", "journal_mode") == "wal"
    assert found == [2]  # FULL


async def test_a_newer_schema_is_refused(files: Stores, action: Scripted) -> None:
    async with files.harness(action):
        pass
    with closing(sqlite3.connect(files.path)) as connection:
        connection.execute("UPDATE saga_barrier_schema SET version = 99")
        connection.commit()
    with pytest.raises(RuntimeError, match="schema"):
        await files.barrier().open()


async def test_a_schema_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "business.db"
    barrier = SqliteBarrier(path, schema="CREATE TABLE a (x); CREATE TABEL b (x)")
    with pytest.raises(sqlite3.OperationalError, match="TABEL"):
        await barrier.open()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


async def test_a_schema_may_end_in_a_comment(tmp_path: Path) -> None:
    barrier = SqliteBarrier(tmp_path / "business.db", schema=f"{SCHEMA} -- the business")
    await barrier.open()
    await barrier.close()


async def test_many_barriers_can_open_one_new_database_at_once(files: Stores) -> None:
    barriers = [files.barrier() for _ in range(8)]
    await asyncio.gather(*(barrier.open() for barrier in barriers))
    await asyncio.gather(*(barrier.close() for barrier in barriers))


async def test_a_statement_that_ends_the_transaction_fails_the_call(files: Stores, action: Scripted) -> None:
    """ON CONFLICT ROLLBACK takes the transaction away under the barrier: nothing may then be answered as done."""

    async def conflicts(step: Step[Any]) -> StringValue:
        await files.write(step.transaction, "half")
        for _ in range(2):
            result = None
            try:
                result = step.transaction.execute("INSERT OR ROLLBACK INTO u (x) VALUES (1)")
                if not isinstance(result, sqlite3.Cursor):
                    await result
            except sqlite3.IntegrityError:
                pass
        return StringValue(value="looks done")

    action.on_execute = conflicts
    async with files.harness(action) as harness:
        with closing(sqlite3.connect(files.path)) as connection:
            connection.execute("CREATE TABLE u (x UNIQUE)")
        with pytest.raises(CallError) as failed:
            await harness.execute(REQUEST)
        assert failed.value.code == grpc.StatusCode.INTERNAL
        assert (files.business(), files.states()) == ([], [])
        await harness.compensate()


async def test_a_cursor_that_a_handler_leaves_open_stands_in_nobodys_way(files: Stores, action: Scripted) -> None:
    """An unfinished SELECT holds a snapshot: after another connection's commit, BEGIN IMMEDIATE would fail for good."""
    kept: list[Any] = []

    async def reads_half(step: Step[Any]) -> StringValue:
        for name in ("a", "b", "c"):
            await files.write(step.transaction, name)
        found = step.transaction.execute("SELECT name FROM business")
        cursor = found if isinstance(found, sqlite3.Cursor) else await found
        row = cursor.fetchone()
        assert (row if isinstance(row, tuple) else await row) == ("a",)
        kept.append(cursor)
        return StringValue()

    async with files.harness(action) as one, files.harness(action) as other:
        action.on_execute = reads_half
        await one.execute(REQUEST, saga_uid="u")
        action.on_execute = Scripted().on_execute
        await other.execute(REQUEST, saga_uid="v")
        await one.execute(REQUEST, saga_uid="w", timeout=timedelta(seconds=1))


async def test_a_database_in_memory_serves_tests(action: Scripted) -> None:
    async def writes(step: Step[Any]) -> StringValue:
        step.transaction.execute("INSERT INTO business (name) VALUES ('reserved')")
        return StringValue(value="done")

    action.on_execute = writes
    barrier = SqliteBarrier(":memory:", schema=SCHEMA)
    async with ActionHarness(Participant("test", [action, External()], barrier)) as harness:
        await harness.execute(REQUEST, action="Scripted", step="a")
        assert (await harness.execute(REQUEST, action="External", step="b")).HasField("completed")
