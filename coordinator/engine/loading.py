"""Reads sagas back from the journal, each with the definition that it is pinned to (G11).

Whatever goes wrong with one saga concerns no other (rule 11). This module must not write, and must not drive anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias

from coordinator.core.state import IllegalEvent, Saga, fold
from coordinator.dataflow.pinned import UnreadableDefinitionError
from coordinator.engine.definitions import Definitions
from coordinator.engine.errors import DefinitionNotFound
from coordinator.engine.loaded import LoadedDefinition
from coordinator.journal.errors import JournalError, UnreadableSaga
from coordinator.journal.port import JournalReader, SagaIndex
from saga.v1.event_pb2 import SagaEvent

log = logging.getLogger(__name__)

Loaded: TypeAlias = tuple[Saga, LoadedDefinition]


class Loading:
    """The sagas of one journal, as it has them."""

    def __init__(self, journal: JournalReader, definitions: Definitions) -> None:
        self._journal = journal
        self._definitions = definitions

    async def one(self, index: SagaIndex) -> Loaded:
        """The saga. UnreadableSaga, SagaNotFound, JournalUnavailable."""
        with readable(index.saga_id):
            events = await self._journal.read(index.saga_id)
            return await self._folded(index.saga_id, index.definition, index.version, events)

    async def many(self, saga_ids: Sequence[str]) -> Mapping[str, Loaded]:
        """The sagas, read together; those of which `one` would raise an error are left out. JournalUnavailable."""
        found = await self._journal.read_many(saga_ids)
        loaded = {}
        for saga_id, events in found.items():
            await asyncio.sleep(0)  # folding takes its time, and others have theirs
            with suppress(Exception):  # `one` says what it is
                created = events[0].saga_created
                loaded[saga_id] = await self._folded(saga_id, created.definition, created.version, events)
        return loaded

    async def _folded(self, saga_id: str, name: str, version: int, events: Sequence[SagaEvent]) -> Loaded:
        definition = await self._definitions.pinned(name, version)
        return fold(Saga(saga_id, definition.plan), events), definition


@contextmanager
def readable(saga_id: str) -> Iterator[None]:
    """Whatever goes wrong inside means that this saga cannot be read, and concerns no other (rule 11)."""
    try:
        yield
    except JournalError:
        raise
    except (DefinitionNotFound, UnreadableDefinitionError, IllegalEvent) as error:
        raise UnreadableSaga(saga_id, str(error)) from error
    except Exception as error:
        log.exception("saga %s cannot be read", saga_id)
        raise UnreadableSaga(saga_id, "the coordinator failed to read it; its log has the details") from error
