"""Takes sagas out of one journal and puts them into another.

Only sagas that have ended, or stand FAILED, are put in: the coordinator of the other journal would drive an unfinished
one a second time, and the participants cannot tell. What goes in is read first as if it were to be driven, so that
whatever is there afterwards can be looked at. Nothing is put in unless all of it can be.

This module must not delete anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.core import limits
from coordinator.core.state import IllegalEvent, Saga, fold
from coordinator.dataflow.pinned import UnreadableDefinitionError
from coordinator.engine.archive import ArchivedDefinition, ArchivedSaga, Record
from coordinator.engine.index import index_of
from coordinator.engine.loaded import LoadedDefinition
from coordinator.journal.port import Append, Journal, JournalReader, SagaIndex
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SAGA_STATE_FAILED, SagaState

_IMPORTABLE = (SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED)

VersionKey = tuple[str, int]


class Collector:
    """Reads sagas from a journal as records: a definition's version once, before the first saga that runs on it."""

    def __init__(self, journal: JournalReader) -> None:
        self._journal = journal
        self._given: set[VersionKey] = set()

    async def collect(self, index: SagaIndex) -> list[Record]:
        """The saga as its row showed it, and before it its definition's version unless it was given before.

        Raises SagaNotFound, UnreadableSaga and JournalUnavailable.
        """
        events = await self._journal.read(index.saga_id, limit=index.last_sequence)
        saga = ArchivedSaga(index.saga_id, index.uid, index.definition, index.version, index.state, events)
        key = (index.definition, index.version)
        if key in self._given:
            return [saga]
        definition = await self._definition(*key)
        self._given.add(key)
        return [definition, saga]

    async def _definition(self, name: str, version: int) -> ArchivedDefinition:
        stored = await self._journal.definition(name, version)
        assert stored is not None, "a saga's definition is never deleted"
        descriptors = await self._journal.descriptors(stored.descriptors_digest)
        assert descriptors is not None, "a version and its descriptors are stored together"
        return ArchivedDefinition(stored, descriptors)


class ImportRefused(Exception):
    """The records do not fit the journal; every problem in a line. Nothing was written."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


@dataclass(slots=True)
class Imported:
    """What an import puts in, and what was there already, exactly as it is in the file."""

    sagas: int = 0
    definitions: int = 0
    present: int = 0


async def check_import(records: Iterable[Record], journal: JournalReader | None) -> Imported:
    """What an import would do to a journal; None: to a new one. Raises ImportRefused."""
    checking = _Checking(journal)
    for record in records:
        await checking.check(record)
    if checking.problems:
        raise ImportRefused(checking.problems)
    return checking.found


async def carry_out_import(records: Iterable[Record], journal: Journal) -> None:
    """Put in what `check_import` has let through. Broken off, it can be carried out again. Raises JournalError."""
    definitions: dict[VersionKey, LoadedDefinition] = {}
    batch: list[Append] = []
    for record in records:
        if isinstance(record, ArchivedDefinition):
            await journal.adopt_definition(record.stored, record.descriptors)
            definitions[record.stored.name, record.stored.version] = _loaded(record)
        elif await journal.find(record.saga_id) is None:
            batch.append(_append(record, definitions[record.definition, record.version]))
        if sum(len(append.events) for append in batch) >= limits.IMPORT_BATCH_EVENTS:
            await _append_all(journal, batch)
            batch = []
    await _append_all(journal, batch)


class _Checking:
    """Goes through records, once, and notes all that stands against them."""

    def __init__(self, journal: JournalReader | None) -> None:
        self.problems: list[str] = []
        self.found = Imported()
        self._journal = journal
        self._definitions: dict[VersionKey, LoadedDefinition] = {}
        self._saga_ids: set[str] = set()
        self._uids: set[str] = set()

    async def check(self, record: Record) -> None:
        if isinstance(record, ArchivedDefinition):
            problem = await self._check_definition(record)
        else:
            problem = await self._check_saga(record)
        if problem is not None:
            self.problems.append(problem)

    async def _check_definition(self, record: ArchivedDefinition) -> str | None:
        stored = record.stored
        name = f"definition {stored.name!r} version {stored.version}"
        try:
            loaded = _loaded(record)
        except UnreadableDefinitionError as error:
            return f"{name} cannot be read: {error}"
        if (loaded.pinned.digest, loaded.definition.name) != (stored.digest, stored.name):
            return f"{name} is not what its digest says"
        self._definitions[stored.name, stored.version] = loaded
        known = await self._journal.definition(stored.name, stored.version) if self._journal is not None else None
        if known is None:
            self.found.definitions += 1
        elif known.digest != stored.digest:
            return f"{name} is there already and says something else"
        return None

    async def _check_saga(self, record: ArchivedSaga) -> str | None:
        name = f"saga {record.saga_id!r}"
        definition = self._definitions.get((record.definition, record.version))
        if definition is None:
            return f"{name} runs on version {record.version} of {record.definition!r}, which the file does not have"
        try:
            append = _append(record, definition)
        except (ValueError, IllegalEvent) as error:
            return f"{name} cannot be read: {error}"
        assert append.index is not None
        if append.index.state not in _IMPORTABLE:
            state = SagaState.Name(append.index.state).removeprefix("SAGA_STATE_")
            return f"{name} is {state}; only sagas that have ended or stand FAILED are put in"
        if record.saga_id in self._saga_ids or append.index.uid in self._uids:
            return f"{name} is in the file twice"
        self._saga_ids.add(record.saga_id)
        self._uids.add(append.index.uid)
        return await self._compare(append, name)

    async def _compare(self, append: Append, name: str) -> str | None:
        if self._journal is None or await self._journal.find(append.saga_id) is None:
            if self._journal is not None and await self._journal.find_tombstone(append.saga_id) is not None:
                return f"{name} was there and has been retired"
            self.found.sagas += 1
            return None
        if list(await self._journal.read(append.saga_id)) != list(append.events):
            return f"{name} exists already and is another one"
        self.found.present += 1
        return None


def _loaded(record: ArchivedDefinition) -> LoadedDefinition:
    return LoadedDefinition(record.stored, record.descriptors)


def _append(record: ArchivedSaga, definition: LoadedDefinition) -> Append:
    """The whole saga as one append. Raises ValueError and IllegalEvent where it does not fit itself."""
    saga = fold(Saga(record.saga_id, definition.plan), record.events)
    if (saga.plan.name, saga.uid) != (record.definition, record.uid):
        raise ValueError("its events are another saga's")
    return Append(record.saga_id, record.events, index_of(saga))


async def _append_all(journal: Journal, batch: Iterable[Append]) -> None:
    await asyncio.gather(*(journal.append(append) for append in batch))
