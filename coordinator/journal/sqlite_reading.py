"""What can be asked of a journal's file, by the coordinator that has it and by whoever only looks at it.

Two connections read: one single sagas and definitions, the other lists, so that a long list does not hold up a saga
that is being loaded. This module must not write.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from coordinator.journal import sqlite_definitions, sqlite_retirement, sqlite_sagas
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.port import (
    DefinitionCursor,
    DefinitionVersion,
    EndedCursor,
    Page,
    SagaCursor,
    SagaIndex,
    Tombstone,
)
from coordinator.journal.sqlite_database import Database
from coordinator.journal.sqlite_listing import failure_mentions
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.event_pb2 import SagaEvent

T = TypeVar("T")


async def prepare_lister(lister: Database) -> None:
    """Give the connection that lists what its statements call."""
    await lister.create_function("failure_mentions", 2, failure_mentions, deterministic=True)


class SqliteReading:
    """A JournalReader over two connections; `resources` is what `close` lets go of."""

    def __init__(self, reader: Database, lister: Database, resources: AsyncExitStack) -> None:
        self._reader = reader
        self._lister = lister
        self._resources = resources
        self._closed = False

    async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
        """Events behind `after_sequence`."""
        rows = await self._read(self._reader, lambda db: sqlite_sagas.read_events(db, saga_id, after_sequence, limit))
        return sqlite_sagas.decode_events(saga_id, rows)

    async def read_many(self, saga_ids: Sequence[str]) -> Mapping[str, Sequence[SagaEvent]]:
        """All events of several sagas."""
        return await self._read(self._reader, lambda db: sqlite_sagas.read_many(db, saga_ids))

    async def find(self, saga_id: str) -> SagaIndex | None:
        """What lists show of one saga."""
        return await self._read(self._reader, lambda db: sqlite_sagas.find_saga(db, saga_id))

    async def unfinished(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas that have not ended, oldest first."""
        return await self._read(self._lister, lambda db: sqlite_sagas.unfinished_sagas(db, after, limit))

    async def count_unfinished(self) -> Mapping[tuple[str, int], int]:
        """How many sagas have not ended, by definition and version."""
        return await self._read(self._lister, sqlite_sagas.count_unfinished)

    async def keyed(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas whose exclusive keys are not free, oldest first."""
        return await self._read(self._lister, lambda db: sqlite_sagas.keyed_sagas(db, after, limit))

    async def list_sagas(
        self, saga_filter: SagaFilter, after: SagaCursor | None, limit: int, *, oldest_first: bool = False
    ) -> Page[SagaIndex, SagaCursor]:
        """Sagas that the filter lets through, in the order asked for."""
        return await self._read(
            self._lister, lambda db: sqlite_sagas.list_sagas(db, saga_filter, after, limit, oldest_first)
        )

    async def ended(self, before_ns: int, after: EndedCursor | None, limit: int) -> Page[SagaIndex, EndedCursor]:
        """Sagas that ended before an instant, the earliest end first."""
        return await self._read(self._lister, lambda db: sqlite_sagas.ended_sagas(db, before_ns, after, limit))

    async def find_tombstone(self, saga_id: str) -> Tombstone | None:
        """What a retired saga left."""
        return await self._read(self._reader, lambda db: sqlite_retirement.find_tombstone(db, saga_id))

    async def count_tombstones(self) -> int:
        """How many retired sagas are remembered."""
        return await self._read(self._lister, sqlite_retirement.count_tombstones)

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

    async def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        await self._resources.aclose()

    async def _read(self, database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        try:
            return await database.run(work)
        except sqlite3.Error as error:
            raise JournalUnavailable(f"the journal could not be read: {error}") from error
