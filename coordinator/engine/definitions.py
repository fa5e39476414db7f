"""The definitions' versions: checked, stored, and loaded as their sagas use them (G11).

A version that is loaded never changes, so it is kept; the least recently used goes when there are too many (G14). This
module must not know how a saga is driven.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any as Anything
from typing import Final, TypeVar

from coordinator.core import limits
from coordinator.core.definition import BUILT_IN, Problem, StepPlan
from coordinator.dataflow.check import check
from coordinator.dataflow.pinned import PinnedDefinition, UnreadableDefinitionError
from coordinator.engine.clock import Clock
from coordinator.engine.errors import DefinitionNotFound, InvalidDefinition, NoChildFits
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.offer import NOTHING, Offer, offer_of, why_action_misfits, why_misfit
from coordinator.journal.port import DefinitionCursor, DefinitionVersion, Journal
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.participant_pb2 import DescribeResponse

DISTRIBUTION: Final = "saga-coordinator"

T = TypeVar("T")

Descriptions = Callable[[], Mapping[str, DescribeResponse | None]]


@dataclass(frozen=True, slots=True)
class Registered:
    """The version that holds a content; `created` says whether it is new."""

    loaded: LoadedDefinition
    created: bool


class Definitions:
    """Registers, checks and loads definitions.

    `key_retention_ns` is for how long a saga is remembered, at least, after it has ended; None: for ever.
    """

    def __init__(
        self, journal: Journal, descriptions: Descriptions, clock: Clock, key_retention_ns: int | None = None
    ) -> None:
        self._journal = journal
        self._key_retention_ns = key_retention_ns
        self._descriptions = descriptions
        self._clock = clock
        self._loaded: OrderedDict[tuple[str, int], LoadedDefinition] = OrderedDict()
        self._for_starts: dict[tuple[str, int], LoadedDefinition] = {}
        self._action_versions: dict[tuple[str, int], Mapping[str, int]] = {}
        self._offer: Offer | None = None

    async def validate(self, definition: SagaDefinition) -> tuple[Problem, ...]:
        """Everything that is wrong with it; nothing is stored."""
        problems, _ = await self._check(definition)
        return problems

    async def register(self, definition: SagaDefinition) -> Registered:
        """Store it, or find the version that has the same content. InvalidDefinition where it has problems (G13)."""
        problems, pinned = await self._check(definition)
        if pinned is None:
            raise InvalidDefinition(problems)
        registered = await self._change(
            self._journal.put_definition(
                name=definition.name,
                content=pinned.content,
                digest=pinned.digest,
                descriptors=pinned.descriptor_bytes,
                create_time_ns=self._clock.now_ns(),
            )
        )
        return Registered(await self.load(registered.definition), registered.created)

    async def get(self, name: str, version: int = 0) -> LoadedDefinition:
        """One version, or with 0 the newest that is not deprecated, else the newest. DefinitionNotFound."""
        stored = await self._journal.definition(name, version)
        if stored is None:
            raise DefinitionNotFound(name, version)
        return await self.load(stored)

    async def newest(self, name: str, version: int) -> LoadedDefinition:
        """As `get`, for starting a saga: what was newest stays so until a version is registered or deprecated."""
        key, known = (name, version), self._for_starts
        loaded = known.get(key)
        if loaded is None:
            loaded = await self.get(name, version)
            _keep(known, key, loaded)  # of use to nobody if a change has replaced `_for_starts` meanwhile
        return loaded

    async def action_versions(self, loaded: LoadedDefinition) -> Mapping[str, int]:
        """Of a saga that starts now the versions that its steps call, of actions that have any (rule 9).

        NoChildFits where a step runs a definition of this coordinator of which no version fits it any more.
        """
        key, known = (loaded.plan.name, loaded.plan.version), self._action_versions
        found = known.get(key)
        if found is None:
            described = self._descriptions()
            versions = {step.name: await self._action_version(loaded, step, described) for step in loaded.plan.steps}
            found = {step: number for step, number in versions.items() if number}
            _keep(known, key, found)
        return found

    async def _action_version(
        self, loaded: LoadedDefinition, step: StepPlan, described: Mapping[str, DescribeResponse | None]
    ) -> int:
        if step.participant == BUILT_IN:
            return await self._child_version(loaded, step)
        description = described.get(step.participant)
        actions = description.actions if description is not None else ()
        action = next((each for each in actions if each.name == step.action), None)
        if action is None or not action.version:
            return 0
        misfit = why_action_misfits(loaded, step, action)
        if misfit is not None:
            raise NoChildFits(loaded.plan.name, step.name, step.action, misfit)
        return action.version

    async def _child_version(self, loaded: LoadedDefinition, step: StepPlan) -> int:
        """The newest version that takes new sagas and fits the step."""
        misfit = "it takes no new sagas"
        after: DefinitionCursor | None = None
        while True:
            page = await self._journal.list_definitions(step.action, after, limits.DEFINITIONS_PAGE_SIZE_DEFAULT)
            for stored in page.items:
                if stored.deprecated:
                    continue
                found = why_misfit(loaded, step, await self.load(stored))
                if found is None:
                    return stored.version
                misfit = found
            after = page.next
            if after is None:
                raise NoChildFits(loaded.plan.name, step.name, step.action, misfit)

    async def offered(self) -> Offer:
        """Every definition that takes new sagas, as an action of this coordinator."""
        offer, known = self._offer, self._for_starts
        if offer is None:
            newest = [loaded async for loaded in self._newest_of_each()]
            offer = await asyncio.to_thread(offer_of, newest, version(DISTRIBUTION), self._key_retention_ns)
            if known is self._for_starts:  # no version was registered or deprecated meanwhile
                self._offer = offer
        return offer

    async def _newest_of_each(self) -> AsyncIterator[LoadedDefinition]:
        """Of each definition the newest version that takes new sagas."""
        last = ""
        after: DefinitionCursor | None = None
        while True:
            page = await self._journal.list_definitions("", after, limits.DEFINITIONS_PAGE_SIZE_DEFAULT)
            for stored in page.items:
                if stored.name != last and not stored.deprecated:
                    last = stored.name
                    with suppress(UnreadableDefinitionError):  # nobody can start it either
                        yield await self.load(stored)
            after = page.next
            if after is None:
                return

    def look_again(self) -> None:
        """What participants offer has changed."""
        self._action_versions = {}

    async def deprecate(self, name: str, version: int) -> LoadedDefinition:
        """Stop new sagas on a version; DefinitionNotFound where there is no such version."""
        stored = await self._change(self._journal.deprecate_definition(name, version))
        if stored is None:
            raise DefinitionNotFound(name, version)
        return await self.load(stored)

    async def pinned(self, name: str, version: int) -> LoadedDefinition:
        """A version that a saga runs on, for the definition's content alone: whether it is deprecated may be stale."""
        loaded = self._loaded.get((name, version))
        return loaded if loaded is not None else await self.get(name, version)

    async def _change(self, write: Coroutine[Anything, Anything, T]) -> T:
        """Carry a write through, whatever becomes of who asked for it, and then look anew at what is newest."""

        async def carry_through() -> T:
            try:
                return await write
            finally:
                self._for_starts, self._action_versions, self._offer = {}, {}, None

        return await asyncio.shield(asyncio.ensure_future(carry_through()))

    async def _check(self, definition: SagaDefinition) -> tuple[tuple[Problem, ...], PinnedDefinition | None]:
        # Compiling a thousand expressions takes seconds; the event loop drives other sagas meanwhile.
        runs_children = any(step.participant == BUILT_IN for step in definition.steps)
        offered = (await self.offered() if runs_children else NOTHING).description
        checked = await asyncio.to_thread(check, definition, {**self._descriptions(), BUILT_IN: offered})
        return checked.problems, checked.pinned

    async def load(self, stored: DefinitionVersion) -> LoadedDefinition:
        """What is stored, ready to be used."""
        key = (stored.name, stored.version)
        loaded = self._loaded.get(key)
        if loaded is None:
            descriptors = await self._journal.descriptors(stored.descriptors_digest)
            assert descriptors is not None, "a version and its descriptors are stored together"
            loaded = self._loaded.get(key) or LoadedDefinition(stored, descriptors)
        if stored.deprecated:  # it never becomes usable again, so an older answer of the journal cannot say more
            loaded.stored = stored
        self._loaded[key] = loaded
        self._loaded.move_to_end(key)
        while len(self._loaded) > limits.DEFINITION_CACHE_MAX:
            self._loaded.popitem(last=False)
        return loaded


def _keep(known: dict[tuple[str, int], T], key: tuple[str, int], value: T) -> None:
    """Remember it; what was remembered first goes when there is too much (G14)."""
    known[key] = value
    while len(known) > limits.DEFINITION_CACHE_MAX:
        del known[next(iter(known))]
