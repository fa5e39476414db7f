"""What is special about statements on a thread of their own: they run on after their caller is cancelled."""

import asyncio
import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import AiosqliteBarrier, AiosqliteTransaction, Step
from participant_sdk.testing import ActionHarness
from tests.participant_sdk.support import SCHEMA, Scripted, struct

REQUEST = struct(sku="book")


async def test_a_cancelled_statement_is_never_committed_by_the_next_call(tmp_path: Path, action: Scripted) -> None:
    """FACTS: a handler cancelled between two writes left its transaction open, and the next commit persisted half."""
    path = tmp_path / "business.db"

    async def writes(step: Step[Any]) -> StringValue:
        for number in range(1000):
            await step.transaction.execute("INSERT INTO business (name) VALUES (?)", (str(number),))
        return StringValue()

    async def counts(step: Step[Any]) -> StringValue:
        [(count,)] = await step.transaction.execute_fetchall("SELECT count(*) FROM business")
        return StringValue(value=str(count))

    async with ActionHarness(action, AiosqliteBarrier(path, schema=SCHEMA)) as harness:
        action.on_execute = writes
        for delay in (0.0, 0.001, 0.005, 0.01, 0.02):
            call = asyncio.create_task(harness.execute(REQUEST, saga_uid=f"cancelled after {delay}"))
            await asyncio.sleep(delay)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            committed = 0 if call.cancelled() else 1000
            action.on_execute = counts
            response = await harness.execute(REQUEST, saga_uid=f"counts after {delay}")
            value = StringValue()
            response.completed.output.Unpack(value)
            with closing(sqlite3.connect(path)) as connection:
                [(rows,)] = connection.execute("SELECT count(*) FROM business").fetchall()
            assert rows % 1000 == 0
            assert int(value.value) == rows >= committed
            action.on_execute = writes


async def test_the_handle_works_like_aiosqlite(tmp_path: Path, action: Scripted) -> None:
    async def reads_and_writes(step: Step[Any]) -> StringValue:
        transaction: AiosqliteTransaction = step.transaction
        await transaction.executemany("INSERT INTO business (name) VALUES (?)", [("a",), ("b",)])
        async with transaction.execute("SELECT name FROM business WHERE name > ?", ("a",)) as cursor:
            row = await cursor.fetchone()
        assert row is not None
        return StringValue(value=row[0])

    action.on_execute = reads_and_writes
    async with ActionHarness(action, AiosqliteBarrier(tmp_path / "business.db", schema=SCHEMA)) as harness:
        response = await harness.execute(REQUEST)
    value = StringValue()
    assert response.completed.output.Unpack(value)
    assert value.value == "b"
