"""`AiosqliteBarrier`: rows in the participant's SQLite database, through aiosqlite.

Statements run on a thread of their own, so the event loop never waits for the disk; each costs a hop between threads.
A statement that is cancelled still runs; what follows on the connection, a rollback above all, runs after it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from participant_sdk.barrier.barrier import StoreBarrier
from participant_sdk.barrier.sqlite_store import Connection, SqliteStore
from participant_sdk.transaction import AiosqliteTransaction
from participant_sdk.uncancelled import uncancelled


class AiosqliteBarrier(StoreBarrier[AiosqliteTransaction]):
    """As `SqliteBarrier`, with statements that are awaited: `Action[In, Out, AiosqliteTransaction]`."""

    def __init__(self, path: str | Path, schema: str = "") -> None:
        super().__init__(SqliteStore(_ThreadConnection(), path, schema))


class _ThreadConnection(Connection[AiosqliteTransaction]):
    _connection: aiosqlite.Connection

    async def open(self, path: str) -> None:
        self._connection = await aiosqlite.connect(path, timeout=0, isolation_level=None)

    async def close(self) -> None:
        await self._connection.close()

    async def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self._connection.execute_fetchall(statement, parameters)]

    async def run_script(self, script: str) -> None:
        try:
            await self._connection.executescript(script)
        except BaseException:
            await uncancelled(self._connection.rollback())
            raise

    async def roll_back(self) -> None:
        await self._connection.rollback()

    def handle(self) -> AiosqliteTransaction:
        return AiosqliteTransaction(self._connection)
