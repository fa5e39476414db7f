import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import SqliteBarrier, SqliteTransaction, Step
from participant_sdk.testing import ActionHarness
from tests.participant_sdk.support import SCHEMA, Scripted, struct

REQUEST = struct(sku="book")


async def test_the_handle_works_like_sqlite3_and_ends_with_its_handler(tmp_path: Path, action: Scripted) -> None:
    kept: list[SqliteTransaction] = []

    async def reads_and_writes(step: Step[Any]) -> StringValue:
        transaction: SqliteTransaction = step.transaction
        transaction.executemany("INSERT INTO business (name) VALUES (?)", [("a",), ("b",)])
        kept.append(transaction)
        return StringValue(value=transaction.execute("SELECT max(name) FROM business").fetchone()[0])

    action.on_execute = reads_and_writes
    async with ActionHarness(action, SqliteBarrier(tmp_path / "business.db", schema=SCHEMA)) as harness:
        response = await harness.execute(REQUEST)
        with pytest.raises(RuntimeError, match="after its handler had returned"):
            kept[0].execute("DELETE FROM business")
    value = StringValue()
    assert response.completed.output.Unpack(value)
    assert value.value == "b"


async def test_one_handler_runs_at_a_time_and_the_loop_stays_free(tmp_path: Path, action: Scripted) -> None:
    running: list[str] = []
    most = 0

    async def waits(step: Step[Any]) -> StringValue:
        nonlocal most
        running.append(step.saga_uid)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.pop()
        return StringValue()

    action.on_execute = waits
    async with ActionHarness(action, SqliteBarrier(tmp_path / "business.db")) as harness:
        await asyncio.gather(*(harness.execute(REQUEST, saga_uid=str(number)) for number in range(20)))
    assert (most, len(action.calls)) == (1, 20)
