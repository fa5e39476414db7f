"""The journal in a SQLite file.

One connection writes, in groups (`sqlite_writer`); two read (`sqlite_reading`), so that a long list does not hold up a
commit. This module connects the parts; it must not contain SQL.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from coordinator.journal import sqlite_definitions, sqlite_retirement
from coordinator.journal.errors import JournalUnavailable, JournalUnusable
from coordinator.journal.health import Health
from coordinator.journal.lock import FileLock
from coordinator.journal.port import Append, DefinitionVersion, RegisteredDefinition, Tombstone
from coordinator.journal.sqlite_appends import encode_append, probe, quarantine
from coordinator.journal.sqlite_database import Database, open_for_reading, open_for_writing
from coordinator.journal.sqlite_reading import SqliteReading, prepare_lister
from coordinator.journal.sqlite_writer import GroupWriter, WriterLimits, WriterStatistics

_LOG: Final = logging.getLogger(__name__)


class SqliteJournal(SqliteReading):
    """A Journal in one file; made by `open`."""

    def __init__(
        self, writer: GroupWriter, reader: Database, lister: Database, health: Health, resources: AsyncExitStack
    ) -> None:
        super().__init__(reader, lister, resources)
        self._writer = writer
        self._health = health

    @classmethod
    async def open(cls, path: str | os.PathLike[str], writer_limits: WriterLimits | None = None) -> Self:
        """Open the journal at `path`, or begin a new one; its directory must exist.

        Symbolic links are followed first, so that two names of one file are one journal; a file with hard links is
        refused, since SQLite and the lock go by the name. Raises JournalLocked, NotAJournal, SchemaTooNew
        (JournalUnusable, all) and JournalUnavailable.
        """
        resolved = _resolve(path)
        _demand_one_name(resolved)
        async with AsyncExitStack() as resources:
            try:
                resources.enter_context(FileLock(resolved))
            except OSError as error:
                raise JournalUnavailable(f"{resolved} cannot be opened: {error.strerror}") from error
            database = await open_for_writing(resolved)
            resources.push_async_callback(database.close)
            await _demand_that_it_can_be_written(database, resolved)
            reader = await open_for_reading(resolved)
            resources.push_async_callback(reader.close)
            lister = await open_for_reading(resolved)
            resources.push_async_callback(lister.close)
            await prepare_lister(lister)
            health = Health()
            writer = GroupWriter(database, health, writer_limits or WriterLimits())
            resources.push_async_callback(writer.close)
            _LOG.info("journal %s is open, SQLite %s", resolved, sqlite3.sqlite_version)
            return cls(writer, reader, lister, health, resources.pop_all())
        raise AssertionError  # the stack above swallows no exception, which a type checker cannot know

    @property
    def healthy(self) -> bool:
        """Whether the last write reached the disk."""
        return self._health.healthy

    @property
    def statistics(self) -> WriterStatistics:
        """What was written since `open`."""
        return self._writer.statistics

    def on_health_change(self, listener: Callable[[bool], None]) -> None:
        """Have `listener` called with each new value of `healthy`."""
        self._health.listen(listener)

    async def append(self, append: Append) -> None:
        """Return when the events are durable."""
        await self._writer.append(encode_append(append))

    async def quarantine(self, saga_id: str, reason: str) -> None:
        """Show a saga as unreadable."""
        await self._writer.change(lambda db: quarantine(db, saga_id, reason))

    async def put_definition(
        self, *, name: str, content: bytes, digest: str, descriptors: bytes, create_time_ns: int
    ) -> RegisteredDefinition:
        """Store a content as the name's next version, or return its version that has that digest."""
        return await self._writer.change(
            lambda db: sqlite_definitions.put_definition(db, name, content, digest, descriptors, create_time_ns)
        )

    async def adopt_definition(self, definition: DefinitionVersion, descriptors: bytes) -> None:
        """Store a version of another journal under the number that it had there."""
        await self._writer.change(lambda db: sqlite_definitions.adopt_definition(db, definition, descriptors))

    async def deprecate_definition(self, name: str, version: int) -> DefinitionVersion | None:
        """Mark a version."""
        return await self._writer.change(lambda db: sqlite_definitions.deprecate_definition(db, name, version))

    async def retire(self, tombstones: Sequence[Tombstone]) -> int:
        """Delete sagas and leave their tombstones."""
        return await self._writer.change(lambda db: sqlite_retirement.retire(db, tombstones))

    async def drop_tombstones(self, before_ns: int, limit: int) -> int:
        """Forget sagas that were retired before an instant."""
        return await self._writer.change(lambda db: sqlite_retirement.drop_tombstones(db, before_ns, limit))

    async def reclaim(self, bytes_max: int, bytes_kept: int) -> int:
        """Give room back to the file system."""
        return await self._writer.change(lambda db: sqlite_retirement.reclaim(db, bytes_max, bytes_kept))

    async def close(self) -> None:
        """Carry accepted appends through, then close the file and let go of its lock."""
        await super().close()


def _demand_one_name(path: Path) -> None:
    if path.exists() and path.stat().st_nlink > 1:
        raise JournalUnusable(f"{path} has other names (hard links), under which another coordinator could open it")


async def _demand_that_it_can_be_written(database: Database, path: Path) -> None:
    """Say it now, and not at the first append: what lets itself be opened cannot always be written."""
    try:
        await database.run(probe)
    except sqlite3.Error as error:
        raise JournalUnavailable(f"{path} cannot be written: {error}") from error


def _resolve(path: str | os.PathLike[str]) -> Path:
    """The file's one name."""
    return Path(os.path.realpath(path))
