"""A journal's file, looked at without being its coordinator: no lock is taken, and nothing is held up.

It reads what is committed at each moment, while a coordinator writes or while nobody does. This module must not write
to the file.
"""

import asyncio
import contextlib
import os
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final, Self

from coordinator.journal.sqlite_database import open_beside, sqlite_code
from coordinator.journal.sqlite_reading import SqliteReading, prepare_lister

PROBLEMS_MAX: Final = 100  # of the file itself: SQLite stops looking then


class SqliteView(SqliteReading):
    """A JournalReader over a file; made by `open`."""

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the file at `path`, which must exist. Raises JournalUnusable and JournalUnavailable."""
        resolved = Path(os.path.realpath(path))  # noqa: ASYNC240  # once, for who does nothing else meanwhile
        async with AsyncExitStack() as resources:
            reader = await open_beside(resolved)
            resources.push_async_callback(reader.close)
            lister = await open_beside(resolved)
            resources.push_async_callback(lister.close)
            await prepare_lister(lister)
            return cls(reader, lister, resources.pop_all())
        raise AssertionError  # the stack above swallows no exception, which a type checker cannot know

    async def damages(self) -> list[str]:
        """What SQLite finds wrong with the file itself; it reads all of it. Raises JournalUnavailable."""
        return await self._read(self._lister, _damages)

    async def backup(self, target: Path) -> None:
        """Copy the journal, as it is at this moment, to a new file.

        The copy appears under its name when it is whole and on stable storage. One read of the source covers all of
        it: a copy in pieces would begin anew with each commit of a coordinator. Raises JournalUnavailable, and OSError
        (FileExistsError among them) where the target cannot be made.
        """
        partial = target.with_name(f"{target.name}.partial")
        await asyncio.to_thread(_claim, target, partial)
        try:
            await self._read(self._lister, lambda db: _copy(db, partial))
            await asyncio.to_thread(_publish, partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(partial.unlink)


def _damages(db: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    try:
        found += [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})")]
    except sqlite3.DatabaseError as error:
        if sqlite_code(error) != sqlite3.SQLITE_CORRUPT:
            raise
        found.append(str(error))  # so damaged that it cannot even be checked
    return [] if found == ["ok"] else found


def _claim(target: Path, partial: Path) -> None:
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    partial.touch(mode=0o600, exist_ok=False)  # as private as its contents may be; a backup under way is not disturbed


def _copy(source: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # nothing of the copy must lie in a file beside it


def _publish(partial: Path, target: Path) -> None:
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Have what the file, or the directory, holds reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
