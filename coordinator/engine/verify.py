"""Reads everything that a journal holds as if it were to be used, and says what cannot be.

Each definition's version must be what its digest says, each saga must fold with its own, and its row must show what its
events add up to. This module must not change anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from coordinator.core import limits
from coordinator.core.state import IllegalEvent, Saga, fold
from coordinator.dataflow.pinned import UnreadableDefinitionError
from coordinator.engine.index import index_of
from coordinator.engine.loaded import LoadedDefinition
from coordinator.journal.errors import SagaNotFound, UnreadableSaga
from coordinator.journal.port import DefinitionCursor, DefinitionVersion, JournalReader, SagaCursor, SagaIndex
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SagaState


@dataclass(slots=True)
class Findings:
    """What was found: how much there is, and everything that is wrong, in a line each."""

    sagas: Counter[SagaState.ValueType] = field(default_factory=Counter)
    events: int = 0
    definitions: int = 0
    tombstones: int = 0
    problems: list[str] = field(default_factory=list)


async def verify(journal: JournalReader) -> Findings:
    """Read all of it; sagas that come or go meanwhile may or may not be counted. Raises JournalUnavailable."""
    findings = Findings(tombstones=await journal.count_tombstones())
    loaded = await _verify_definitions(journal, findings)
    after: SagaCursor | None = None
    while True:
        page = await journal.list_sagas(SagaFilter(), after, limits.PAGE_SIZE_MAX)
        for index in page.items:
            await _verify_saga(journal, index, loaded, findings)
        after = page.next
        if after is None:
            return findings


async def _verify_definitions(journal: JournalReader, findings: Findings) -> dict[tuple[str, int], LoadedDefinition]:
    loaded: dict[tuple[str, int], LoadedDefinition] = {}
    after: DefinitionCursor | None = None
    while True:
        page = await journal.list_definitions("", after, limits.PAGE_SIZE_MAX)
        for stored in page.items:
            findings.definitions += 1
            definition = await _verify_definition(journal, stored, findings)
            if definition is not None:
                loaded[stored.name, stored.version] = definition
        after = page.next
        if after is None:
            return loaded


async def _verify_definition(
    journal: JournalReader, stored: DefinitionVersion, findings: Findings
) -> LoadedDefinition | None:
    name = f"definition {stored.name!r} version {stored.version}"
    descriptors = await journal.descriptors(stored.descriptors_digest)
    if descriptors is None:
        findings.problems.append(f"{name}: its descriptors are missing")
        return None
    try:
        loaded = LoadedDefinition(stored, descriptors)
    except UnreadableDefinitionError as error:
        findings.problems.append(f"{name}: {error}")
        return None
    if loaded.pinned.digest != stored.digest:
        findings.problems.append(f"{name} is not what its digest says")
        return None
    return loaded


async def _verify_saga(
    journal: JournalReader, index: SagaIndex, loaded: dict[tuple[str, int], LoadedDefinition], findings: Findings
) -> None:
    name = f"saga {index.saga_id!r}"
    definition = loaded.get((index.definition, index.version))
    if definition is None:
        findings.problems.append(f"{name}: version {index.version} of {index.definition!r} cannot be used")
        return
    try:
        events = await journal.read(index.saga_id, limit=index.last_sequence)  # as many as the row speaks of
        saga = fold(Saga(index.saga_id, definition.plan), events)
    except SagaNotFound:
        return  # it was retired meanwhile
    except (UnreadableSaga, IllegalEvent) as error:
        findings.problems.append(f"{name}: {error}")
        return
    findings.sagas[index.state] += 1
    findings.events += len(events)
    wrong = _differences(index, index_of(saga))
    if wrong:
        findings.problems.append(f"{name}: its row and its events differ in {', '.join(wrong)}")


_COMPARED = ("uid", "definition", "version", "state", "create_time_ns", "end_time_ns", "last_sequence")


def _differences(shown: SagaIndex, folded: SagaIndex) -> list[str]:
    """Where the row does not show what the events say; one that is quarantined says so on purpose."""
    compared = [name for name in _COMPARED if name != "state" or not shown.quarantined]
    return [name for name in compared if getattr(shown, name) != getattr(folded, name)]
