"""Barrier rows in the participant's own SQLite database, over whichever library executes the statements.

One connection, one call at a time: `BEGIN IMMEDIATE` takes the database's write lock before the row is read and keeps
it until the handler has returned. So **one handler runs at a time per database**, and a handler that waits for
something slow keeps all others waiting: such an action is `external`. Within the process calls queue at an asyncio
lock; for another process's lock they try again with short waits, and neither blocks the event loop.

`synchronous=FULL` under WAL makes a commit survive a power loss: what was answered stays so. A commit waits for the
disk, so it is shared: the calls that queue while one is at work join its database transaction, each in a savepoint of
its own, and all of them are answered once it is committed. Groups form by themselves; nobody waits for one to fill.
"""

import asyncio
import json
import logging
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from participant_sdk.barrier import sql
from participant_sdk.barrier.lock import turn, wait_limit
from participant_sdk.barrier.owner import Owner
from participant_sdk.barrier.rules import UNFINISHED, Row, State, Stored
from participant_sdk.barrier.store import Store, StoreTransaction
from participant_sdk.call import Key
from participant_sdk.errors import busy, rolled_back
from participant_sdk.limits import BUSY_DELAYS_MS, OPEN_WAIT_MAX
from participant_sdk.uncancelled import uncancelled


class Handle(Protocol):
    """What a handler is lent."""

    async def end(self) -> None:
        """Take it back."""


H = TypeVar("H", bound=Handle)
T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)
_IN_MEMORY: Final = ":memory:"
_PRIMARY_CODE: Final = 0xFF  # SQLite's extended codes refine the primary one in the upper bits


class Connection(ABC, Generic[H]):
    """One SQLite connection in autocommit mode, through some library. Statements run in the order they are asked."""

    @abstractmethod
    async def open(self, path: str) -> None:
        """Connect; a lock that another connection holds is an error at once."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement and fetch its rows. Errors: `sqlite3.Error`."""

    @abstractmethod
    async def run_script(self, script: str) -> None:
        """Execute several statements. Errors: `sqlite3.Error`."""

    @abstractmethod
    async def roll_back(self) -> None:
        """Roll back, where a transaction is open."""

    @abstractmethod
    def handle(self) -> H:
        """Return what a handler is lent."""


class SqliteStore(Store[H]):
    """The barrier's rows in a SQLite database file (or `:memory:`, in tests)."""

    def __init__(self, connection: Connection[H], path: str | Path, schema: str) -> None:
        self._connection = connection
        self._path = str(path)
        self._schema = schema
        self._lock = asyncio.Lock()
        self._group: _Group | None = None
        self._owner = Owner(Path(path), uuid.uuid4().hex)

    async def open(self) -> None:
        """Connect, set the durability, create the tables. Errors: `RuntimeError`, `TimeoutError`, `sqlite3.Error`."""
        self._lock = asyncio.Lock()  # of the event loop that the calls come in
        await self._connection.open(self._path)
        try:
            await self._prepare(asyncio.get_running_loop().time() + OPEN_WAIT_MAX.total_seconds())
        except BaseException:
            await uncancelled(self._connection.close())
            raise
        _LOG.info("barrier open: %s, SQLite %s", self._path, sqlite3.sqlite_version)

    async def close(self) -> None:
        """Disconnect. What was done is committed first, also where nobody waits for its answer any more."""
        if self._group is not None and self._group.committer is not None:
            await asyncio.wait([self._group.committer])
        await self._connection.close()
        self._owner.release()

    @asynccontextmanager
    async def transaction(self, until: float | None) -> AsyncIterator["_SqliteTransaction[H]"]:
        """Open a transaction. Errors: `CallError` ABORTED, BUSY."""
        limit = wait_limit(until)
        async with turn(self._lock, limit):
            group = self._group or await self._begin(limit)
            try:
                await self._connection.run(sql.BEGIN_CALL)
                yield _SqliteTransaction(self._connection)
                await self._connection.run(sql.KEEP_CALL)
            except BaseException:
                await uncancelled(self._drop_call(group))  # behind a statement that was cut off, which still runs
                raise
            finally:
                group.line_up(self._commit)
        await asyncio.shield(group.committed)

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete finished rows. Errors: `CallError` ABORTED, BUSY."""
        async with self.transaction(None):
            deleted = await self._connection.run(sql.PRUNE, (_text(before), json.dumps(UNFINISHED), limit))
            return len(deleted)

    @property
    def owner(self) -> str:
        """The name under which this process's handlers are known in the rows."""
        return self._owner.name

    def claim(self) -> None:
        """Take this owner's lock."""
        if self._path != _IN_MEMORY:
            self._owner.claim()

    def lives(self, owner: str) -> bool:
        """Whether another owner's process lives."""
        return self._path != _IN_MEMORY and self._owner.lives(owner)

    async def _begin(self, until: float) -> "_Group":
        try:
            await _when_free(lambda: self._connection.run(sql.BEGIN), until)
        except TimeoutError:
            raise busy() from None
        except BaseException:
            await uncancelled(self._connection.roll_back())  # it may have begun all the same
            raise
        self._group = _Group()
        return self._group

    async def _drop_call(self, group: "_Group") -> None:
        """Take back what the call did, and only that, unless the database has taken back more already."""
        try:
            await self._connection.run(sql.DROP_CALL)
            await self._connection.run(sql.KEEP_CALL)
        except sqlite3.Error:
            self._group = None
            await self._connection.roll_back()
            group.settle(rolled_back())

    async def _commit(self, group: "_Group") -> None:
        """Commit for all who queued while the group's first call was at work: its turn comes behind theirs."""
        async with self._lock:
            if self._group is not group:
                return  # it was rolled back
            self._group = None
            try:
                await self._connection.run(sql.COMMIT)
            except BaseException as error:
                await uncancelled(self._connection.roll_back())
                group.settle(error if isinstance(error, Exception) else rolled_back())
                raise
            group.settle(None)

    async def _prepare(self, until: float) -> None:
        run = self._connection.run
        [(mode,)] = await _when_free(lambda: run("PRAGMA journal_mode = WAL"), until)
        if mode not in ("wal", "memory"):
            raise RuntimeError(f"{self._path}: SQLite does not offer write-ahead logging here, only {mode}")
        await run("PRAGMA synchronous = FULL")
        script = f"{sql.BEGIN};\n{self._schema}\n;{sql.COMMIT}"
        await _when_free(lambda: self._connection.run_script(script), until)
        async with self.transaction(until):
            for statement in sql.SCHEMA:
                await run(statement)
            await self._check_version(await run(sql.READ_VERSION))
            if self._path != _IN_MEMORY:
                self._owner.sweep()

    async def _check_version(self, found: list[tuple[Any, ...]]) -> None:
        if not found:
            await self._connection.run(sql.WRITE_VERSION, (sql.SCHEMA_VERSION,))
        elif found != [(sql.SCHEMA_VERSION,)]:
            raise RuntimeError(
                f"{self._path}: saga_barrier has schema {found}, this SDK knows {sql.SCHEMA_VERSION} only"
            )


class _Group:
    """Calls that share a commit. `committed` is what each of them waits for."""

    def __init__(self) -> None:
        self.committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.committed.add_done_callback(_retrieved)
        self.committer: asyncio.Task[None] | None = None

    def line_up(self, commit: Callable[["_Group"], Coroutine[Any, Any, None]]) -> None:
        """A call has ended: see to it that the commit has its place in the queue."""
        if self.committer is None:
            self.committer = asyncio.create_task(commit(self))
            self.committer.add_done_callback(_retrieved)

    def settle(self, error: Exception | None) -> None:
        """Tell all who wait."""
        if error is None:
            self.committed.set_result(None)
        else:
            self.committed.set_exception(error)


def _retrieved(future: asyncio.Future[None]) -> None:
    """What went wrong is told by those who wait for it, of whom none may be left."""
    if not future.cancelled():
        future.exception()


class _SqliteTransaction(StoreTransaction[H]):
    def __init__(self, connection: Connection[H]) -> None:
        self._connection = connection

    async def load(self, key: Key) -> Row | None:
        found = await self._connection.run(sql.LOAD, key)
        return _row(key, found[0]) if found else None

    async def save(self, row: Row) -> None:
        now = _text(datetime.now(UTC))
        await self._connection.run(sql.SAVE, (*_columns(row), now, now))

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[H]:
        await self._connection.run(sql.SAVEPOINT)
        handle = self._connection.handle()
        try:
            yield handle
        finally:
            await uncancelled(handle.end())

    async def settle(self, *, keep: bool) -> None:
        await self._connection.run(sql.KEEP_SINCE_SAVEPOINT if keep else sql.DROP_SINCE_SAVEPOINT)


async def _when_free(attempt: Callable[[], Awaitable[T]], until: float) -> T:
    """Try again while another connection holds the lock. Errors: `TimeoutError` where it is not free in time."""
    delays_ms = chain(BUSY_DELAYS_MS, repeat(BUSY_DELAYS_MS[-1]))
    while True:
        try:
            return await attempt()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
                raise
        delay = next(delays_ms) / 1000
        if asyncio.get_running_loop().time() + delay >= until:
            raise TimeoutError("another connection holds the database's lock")
        await asyncio.sleep(delay)


def _columns(row: Row) -> tuple[Any, ...]:
    return (
        row.saga_uid,
        row.step,
        row.saga_id,
        row.action,
        row.input_type,
        row.input,
        str(row.state),
        *_stored_columns(row.execute),
        *_stored_columns(row.compensate),
        *_stored_columns(row.confirm),
        row.handler,
    )


def _stored_columns(stored: Stored | None) -> tuple[bytes | None, int | None]:
    return (stored.reply, stored.attempt) if stored else (None, None)


def _row(key: Key, columns: tuple[Any, ...]) -> Row:
    saga_id, action, input_type, input_bytes, state, *replies, handler = columns
    return Row(
        saga_uid=key.saga_uid,
        step=key.step,
        saga_id=saga_id,
        action=action,
        input_type=input_type,
        input=input_bytes,
        state=State(state),
        execute=_stored(*replies[0:2]),
        compensate=_stored(*replies[2:4]),
        confirm=_stored(*replies[4:6]),
        handler=handler,
    )


def _stored(reply: bytes | None, attempt: int | None) -> Stored | None:
    return None if reply is None or attempt is None else Stored(reply, attempt)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")
