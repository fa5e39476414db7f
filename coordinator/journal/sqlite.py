"""The journal in a SQLite file.

One connection writes, in groups (`sqlite_writer`); two read: one single sagas and definitions, the other lists, so that
a long list holds up neither a commit nor a saga that is being loaded. This module connects the parts and translates
SQLite's errors; it must not contain SQL.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self, TypeVar

from coordinator.journal import sqlite_definitions, sqlite_sagas
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.health import Health
from coordinator.journal.lock import FileLock
from coordinator.journal.port import (
    Append,
    DefinitionCursor,
    DefinitionVersion,
    Page,
    RegisteredDefinition,
    SagaCursor,
    SagaIndex,
)
from coordinator.journal.sqlite_appends import encode_append, quarantine
from coordinator.journal.sqlite_database import Database, open_for_reading, open_for_writing
from coordinator.journal.sqlite_listing import failure_mentions
from coordinator.journal.sqlite_writer import GroupWriter, WriterLimits, WriterStatistics
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.event_pb2 import SagaEvent

T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)


class SqliteJournal:
    """A Journal in one file; made by `open`."""

    def __init__(
        self, writer: GroupWriter, reader: Database, lister: Database, health: Health, resources: AsyncExitStack
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._lister = lister
        self._health = health
        self._resources = resources
        self._closed = False

    @classmethod
    async def open(cls, path: str | os.PathLike[str], writer_limits: WriterLimits | None = None) -> Self:
        """Open the journal at `path`, or begin a new one; its directory must exist.

        Symbolic links are followed first, so that two names of one file are one journal. Raises JournalLocked,
        NotAJournal, SchemaTooNew (JournalUnusable, all) and JournalUnavailable.
        """
        resolved = _resolve(path)
        async with AsyncExitStack() as resources:
            try:
                resources.enter_context(FileLock(resolved))
            except OSError as error:
                raise JournalUnavailable(f"{resolved} cannot be opened: {error.strerror}") from error
            database = await open_for_writing(resolved)
            resources.push_async_callback(database.close)
            reader = await open_for_reading(resolved)
            resources.push_async_callback(reader.close)
            lister = await open_for_reading(resolved)
            resources.push_async_callback(lister.close)
            await lister.create_function("failure_mentions", 2, failure_mentions, deterministic=True)
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

    async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
        """Events behind `after_sequence`."""
        rows = await self._read(self._reader, lambda db: sqlite_sagas.read_events(db, saga_id, after_sequence, limit))
        return sqlite_sagas.decode_events(saga_id, rows)

    async def find(self, saga_id: str) -> SagaIndex | None:
        """What lists show of one saga."""
        return await self._read(self._reader, lambda db: sqlite_sagas.find_saga(db, saga_id))

    async def unfinished(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas that have not ended, oldest first."""
        return await self._read(self._lister, lambda db: sqlite_sagas.unfinished_sagas(db, after, limit))

    async def count_unfinished(self) -> Mapping[tuple[str, int], int]:
        """How many sagas have not ended, by definition and version."""
        return await self._read(self._lister, sqlite_sagas.count_unfinished)

    async def list_sagas(
        self, saga_filter: SagaFilter, after: SagaCursor | None, limit: int
    ) -> Page[SagaIndex, SagaCursor]:
        """Sagas that the filter lets through, newest first."""
        return await self._read(self._lister, lambda db: sqlite_sagas.list_sagas(db, saga_filter, after, limit))

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

    async def definition(self, name: str, version: int = 0) -> DefinitionVersion | None:
        """One version."""
        return await self._read(self._reader, lambda db: sqlite_definitions.find_definition(db, name, version))

    async def descriptors(self, digest: str) -> bytes | None:
        """A descriptor set."""
        return await self._read(self._reader, lambda db: sqlite_definitions.find_descriptors(db, digest))

    async def list_definitions(
        self, name: str, after: DefinitionCursor | None, limit: int
    ) -> Page[DefinitionVersion, DefinitionCursor]:
        """Versions by name, newest first."""
        return await self._read(self._lister, lambda db: sqlite_definitions.list_definitions(db, name, after, limit))

    async def deprecate_definition(self, name: str, version: int) -> DefinitionVersion | None:
        """Mark a version."""
        return await self._writer.change(lambda db: sqlite_definitions.deprecate_definition(db, name, version))

    async def close(self) -> None:
        """Carry accepted appends through, then close the file and let go of its lock."""
        self._closed = True
        await self._resources.aclose()

    async def _read(self, database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        try:
            return await database.run(work)
        except sqlite3.Error as error:
            raise JournalUnavailable(f"the journal could not be read: {error}") from error


def _resolve(path: str | os.PathLike[str]) -> Path:
    """The file's one name."""
    return Path(os.path.realpath(path))
