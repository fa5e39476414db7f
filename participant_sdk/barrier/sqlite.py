"""`SqliteBarrier`: rows in the participant's SQLite database, through Python's own `sqlite3`.

Statements run on the event loop's thread: each blocks it for as long as SQLite takes, a commit for one fdatasync. Where
statements are slow, or other work must not feel them, use `AiosqliteBarrier`.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from participant_sdk.barrier.barrier import StoreBarrier
from participant_sdk.barrier.sqlite_store import Connection, SqliteStore
from participant_sdk.transaction import SqliteTransaction


class SqliteBarrier(StoreBarrier[SqliteTransaction]):
    """The barrier's rows in the SQLite database at `path`, in the table `saga_barrier` that it creates.

    `schema` is SQL that is run at every start, for the business tables (`CREATE TABLE IF NOT EXISTS …`). One handler
    runs at a time per database, in this process and all others; an action that waits for something else than the
    database should be `external`.
    """

    def __init__(self, path: str | Path, schema: str = "") -> None:
        super().__init__(SqliteStore(_SyncConnection(), path, schema))


class _SyncConnection(Connection[SqliteTransaction]):
    _connection: sqlite3.Connection

    async def open(self, path: str) -> None:
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)

    async def close(self) -> None:
        self._connection.close()

    async def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, parameters).fetchall()

    async def run_script(self, script: str) -> None:
        try:
            self._connection.executescript(script)
        except sqlite3.Error:
            self._connection.rollback()
            raise

    async def roll_back(self) -> None:
        self._connection.rollback()

    def handle(self) -> SqliteTransaction:
        return SqliteTransaction(self._connection)
