"""What a handler sees of the barrier's database transaction: `step.transaction`.

Business rows that are written through it commit together with the barrier row, or not at all. So it executes
statements and nothing else: when the database transaction begins, commits or goes back is the barrier's business
alone. A handle is good only while its handler runs.

This module must not know the barrier.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeAlias
from weakref import WeakSet

import aiosqlite
from aiosqlite.context import Result
from typing_extensions import TypeVar

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]

# The possessive quantifier keeps the match linear, whatever the statement begins with.
_CONTROL: Final = re.compile(
    r"(?:\s|;|--[^\n]*|/\*.*?\*/)*+(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE | re.DOTALL
)


def _refuse_control(sql: str) -> None:
    control = _CONTROL.match(sql)
    if control:
        raise ValueError(
            f"{control[1].upper()} in a handler: the barrier alone begins, commits and rolls back the transaction"
        )


C = TypeVar("C", sqlite3.Cursor, aiosqlite.Cursor)


class _Lent(Generic[C]):
    """A handle on an open database transaction that can be taken back, with the cursors it gave out."""

    def __init__(self) -> None:
        self._cursors: WeakSet[C] = WeakSet()
        self._ended = False

    def _check(self, sql: str, *, in_transaction: bool) -> None:
        if self._ended:
            raise RuntimeError("step.transaction was used after its handler had returned")
        if not in_transaction:  # ON CONFLICT ROLLBACK, or a failing disk
            raise RuntimeError("the database transaction is gone: a statement before this one rolled it back")
        _refuse_control(sql)

    def _given_out(self, cursor: C) -> C:
        self._cursors.add(cursor)
        return cursor

    def _take_back(self) -> list[C]:
        """End the handle and return the cursors to close: an unfinished SELECT would keep its snapshot for good."""
        self._ended = True
        return list(self._cursors)


class SqliteTransaction(_Lent[sqlite3.Cursor]):
    """`step.transaction` under a `SqliteBarrier`: the `execute` and `executemany` of a `sqlite3.Connection`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    def execute(self, sql: str, parameters: Parameters = (), /) -> sqlite3.Cursor:
        """Execute one statement. Errors: `ValueError` where it would control the transaction; `sqlite3.Error`."""
        self._check(sql, in_transaction=self._connection.in_transaction)
        return self._given_out(self._connection.execute(sql, parameters))

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> sqlite3.Cursor:
        """Execute one statement for each set of parameters. Errors: as `execute`."""
        self._check(sql, in_transaction=self._connection.in_transaction)
        return self._given_out(self._connection.executemany(sql, parameters))

    async def end(self) -> None:
        """Take the handle back: the handler it was lent to has returned."""
        for cursor in self._take_back():
            cursor.close()


class AiosqliteTransaction(_Lent[aiosqlite.Cursor]):
    """`step.transaction` under an `AiosqliteBarrier`: like an `aiosqlite.Connection`, each call is awaited."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__()
        self._connection = connection

    def execute(self, sql: str, parameters: Parameters = (), /) -> Result[aiosqlite.Cursor]:
        """Execute one statement: `await` it, or `async with` it. Errors: as `SqliteTransaction.execute`."""
        self._check(sql, in_transaction=self._connection.in_transaction)
        return Result(self._run(self._connection.execute(sql, parameters)))

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Result[aiosqlite.Cursor]:
        """Execute one statement for each set of parameters. Errors: as `execute`."""
        self._check(sql, in_transaction=self._connection.in_transaction)
        return Result(self._run(self._connection.executemany(sql, parameters)))

    async def execute_fetchall(self, sql: str, parameters: Parameters = (), /) -> list[Any]:
        """Execute one statement and fetch its rows, in one go. Errors: as `execute`."""
        self._check(sql, in_transaction=self._connection.in_transaction)
        return list(await self._connection.execute_fetchall(sql, parameters))

    async def end(self) -> None:
        """Take the handle back: the handler it was lent to has returned."""
        for cursor in self._take_back():
            await cursor.close()

    async def _run(self, statement: Result[aiosqlite.Cursor]) -> aiosqlite.Cursor:
        return self._given_out(await statement)


class MemoryTransaction(dict[str, Any]):
    """`step.transaction` under a `MemoryBarrier`: a dictionary. Replace its values, do not change them in place."""


Tx = TypeVar("Tx", default=SqliteTransaction)
"""What `step.transaction` is. Unless an action says otherwise: a `SqliteTransaction`."""
