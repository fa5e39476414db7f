"""Connections to a journal file: how they are set up, and whether the file is ours.

SQLite is trusted with G1 only as set up here: write-ahead log, `synchronous=FULL` (NORMAL can lose acknowledged
commits when the power fails), and one connection that writes and checkpoints; and what is found in the log at the
start is made sure of before anybody sees it. A file that is not ours, or is a newer program's, is left untouched. This
module must not know what the tables hold.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar, cast

import aiosqlite

from coordinator.core import limits
from coordinator.journal.errors import (
    JournalUnavailable,
    JournalUnusable,
    NotAJournal,
    SchemaTooNew,
    SchemaTooOld,
)
from coordinator.journal.queries import MIGRATIONS, SCHEMA

T = TypeVar("T")

APPLICATION_ID: Final = 0x53414741  # "SAGA"; `file` and SQLite's own tools show it
SCHEMA_VERSION: Final = 3
SQLITE_OLDEST: Final = (3, 37, 0)  # STRICT tables
_COPIED_BYTES: Final = 1 << 20  # in one piece


class Database(aiosqlite.Connection):
    """A connection on a thread of its own that can be handed a whole piece of work at once.

    aiosqlite offers a method per statement, and each costs a trip to the thread and back: 131 µs a row. It has no
    public way to run a function there, so this class reaches for the protected `_execute` that all its methods are
    made of. The dependency is pinned to the minor version for that.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True  # a program that ends without closing must end; the journal is made for that

    async def open(self) -> None:
        """Connect; the thread of a connection that fails is gone when this raises.

        aiosqlite would leave the thread to itself, and what it still says could reach an event loop that has ended.
        """
        try:
            await self
        except BaseException:
            await asyncio.to_thread(self._thread.join)
            raise

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call `work` with the plain connection on the connection's thread.

        That SQLite found no memory is a sqlite3.Error like all that it fails with; by itself it would be a MemoryError.
        """
        try:
            outcome = await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]  # has no annotations
        except MemoryError as error:
            raise sqlite3.OperationalError("no memory was left") from error
        return cast("T", outcome)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction round a block; whatever the block raises takes it back.

    IMMEDIATE: the lock is taken here, where waiting is safe, and not half-way, where SQLite would refuse to wait.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some failures have ended it already
            db.execute("ROLLBACK")
        raise


def sqlite_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error is not SQLite's own but its Python module's."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


async def open_for_writing(path: Path) -> Database:
    """The one connection that writes. Makes the file, or refuses it: JournalUnusable or JournalUnavailable."""
    if sqlite3.sqlite_version_info < SQLITE_OLDEST:
        oldest = ".".join(map(str, SQLITE_OLDEST))
        raise JournalUnusable(f"SQLite {sqlite3.sqlite_version} is too old; the journal needs {oldest}")
    return await _open(lambda: _connect(path, "rwc"), lambda db: _prepare(db, path), path)


async def open_for_reading(path: Path) -> Database:
    """A connection that sees what is committed and holds up nobody. The file must be open for writing already."""
    return await _open(lambda: _connect(path, "ro"), _no_preparation, path)


async def open_beside(path: Path) -> Database:
    """A connection that reads a file which another process may be writing, or nobody.

    Raises JournalUnusable where the file is none that this program can read, and JournalUnavailable.
    """
    return await _open(lambda: _connect(path, "ro"), lambda db: _check_readable(db, path), path)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,  # transactions begin and end where this code says so
        timeout=limits.JOURNAL_BUSY_TIMEOUT_NS / limits.SECOND_NS,
    )


async def _open(
    connector: Callable[[], sqlite3.Connection], prepare: Callable[[sqlite3.Connection], None], path: Path
) -> Database:
    database = Database(connector)
    try:
        await database.open()
        await database.run(prepare)
    except BaseException as error:
        await database.close()
        if isinstance(error, sqlite3.Error | OSError):
            raise JournalUnavailable(f"{path} cannot be opened: {error}") from error
        raise
    return database


def _no_preparation(_: sqlite3.Connection) -> None:
    """A connection that only reads finds everything prepared by the one that writes."""


def _check_readable(db: sqlite3.Connection, path: Path) -> None:
    version = _recognize(db, path)
    if version is None:
        raise NotAJournal(str(path), "an empty file")
    if version < SCHEMA_VERSION:
        raise SchemaTooOld(str(path), version, SCHEMA_VERSION)


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    version = _recognize(db, path)
    if version is None:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works only before the file's first page is written
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalUnusable(f"{path} lies on a file system on which SQLite cannot keep a write-ahead log")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS only, where a plain fsync stops at the drive's cache
    db.execute(f"PRAGMA cache_size = -{limits.JOURNAL_CACHE_BYTES >> 10}")  # negative: KiB, not pages
    db.execute(f"PRAGMA journal_size_limit = {limits.JOURNAL_WAL_BYTES_KEPT}")
    _make_sure_of_the_log(db, path)
    if version is None:
        db.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            f"{SCHEMA} COMMIT;"
        )
    else:
        _migrate(db, version)


def _make_sure_of_the_log(db: sqlite3.Connection, path: Path) -> None:
    """Write the write-ahead log once more, as it is, and sync it, before anybody sees or uses what it says (G1).

    A process that was killed may have left commits that it had written and not synced, and SQLite takes them for valid.
    Nor is another sync enough where one had failed: the system may keep showing what it never wrote to the disk, and
    think nothing of it is left to write. Nobody else writes meanwhile, as this holds SQLite's lock for that.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        with suppress(FileNotFoundError):
            _write_again(path.with_name(f"{path.name}-wal"))
    finally:
        db.execute("ROLLBACK")


def _write_again(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        offset = 0
        while data := os.pread(descriptor, _COPIED_BYTES, offset):
            offset += os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring the tables up to date, one version after the other; each step is there as a whole or not at all."""
    for known in range(version, SCHEMA_VERSION):
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[known]} PRAGMA user_version = {known + 1}; COMMIT;")


def _recognize(db: sqlite3.Connection, path: Path) -> int | None:
    """The file's schema version; None where it is new and empty.

    Raises if it is neither that nor a journal we know; writes nothing.
    """
    try:
        (application_id,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        if sqlite_code(error) == sqlite3.SQLITE_NOTADB:
            raise NotAJournal(str(path), "no SQLite database") from error
        raise
    if (application_id, version, tables) == (0, 0, 0):
        return None
    if application_id != APPLICATION_ID:
        raise NotAJournal(str(path), "another program's SQLite database")
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(str(path), version, SCHEMA_VERSION)
    return int(version)
