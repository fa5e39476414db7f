"""Whether the participants still understand what sagas have recorded, and will record, with the types they were given.

A saga runs on the types of its definition's version to its end (G11), while a participant can come back with others.
Each participant's present description is compared with every version that has unfinished sagas or that new sagas start
on. What does not fit is a problem of the participant, for operators and in the log; no saga is stopped by it, because a
changed field need not be one that the saga uses.

Comparisons are kept, by version, until a participant describes itself otherwise; which versions count is asked of the
journal each time. So a problem goes with the last saga that it concerns, and comes with the first. This module must not
change what a saga does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pool import DescriptorPool

from coordinator.core import limits
from coordinator.core.compatibility import incompatible_reader, incompatible_writer
from coordinator.core.definition import kind_of
from coordinator.core.descriptors import InvalidDescriptorsError, build_pool
from coordinator.dataflow.pinned import PinnedDefinition, StepTypes, UnreadableDefinitionError
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.port import DefinitionCursor, JournalReader
from coordinator.participants import limited
from saga.v1.definition_pb2 import StepDefinition
from saga.v1.participant_pb2 import DescribeResponse
from saga.v1.types_pb2 import STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE, StepKind

log = logging.getLogger(__name__)

_HAND_OUTPUT_BACK: Final = (STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE)  # to Compensate, or to Confirm

Descriptions = Callable[[], Mapping[str, DescribeResponse | None]]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing in which a participant does not fit a step of a definition's version any more."""

    participant: str
    definition: str
    version: int
    step: str
    text: str

    def sentence(self, unfinished: int) -> str:
        """For operators; `unfinished` sagas run on the version."""
        plural = "" if unfinished == 1 else "s"
        sagas = f"{unfinished} unfinished saga{plural}" if unfinished else "new sagas start on it"
        return f"{self.definition}@{self.version} ({sagas}), step `{self.step}`: {self.text}"


@dataclass(frozen=True, slots=True)
class _Compared:
    """What a version was compared with, and what did not fit."""

    described: Mapping[str, DescribeResponse | None]
    mismatches: tuple[Mismatch, ...]

    def holds(self, described: Mapping[str, DescribeResponse | None]) -> bool:
        """Whether its participants still say the same of themselves."""
        return all(described.get(name) is description for name, description in self.described.items())


_Version = tuple[str, int]


class Compatibility:
    """Compares participants with the definitions' versions in use; `running` does so whenever one has changed."""

    def __init__(self, journal: JournalReader, descriptions: Descriptions) -> None:
        self._journal = journal
        self._descriptions = descriptions
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._compared: dict[_Version, _Compared] = {}
        self._found: dict[Mismatch, int] = {}
        """What did not fit at the last look, the most unfinished sagas first, each with their number."""

    def changed(self) -> None:
        """Have the participants compared soon, because one describes itself otherwise."""
        self._changed.set()

    async def problems(self) -> Mapping[str, tuple[str, ...]]:
        """What does not fit, in sentences by participant, as things stand now.

        While the journal cannot be read: as things stood before.
        """
        try:
            await self._look()
        except JournalUnavailable as error:
            log.warning("participants could not be compared with definitions", extra={"error": str(error)})
        sentences: dict[str, list[str]] = {}
        for mismatch, unfinished in self._found.items():
            sentences.setdefault(mismatch.participant, []).append(mismatch.sentence(unfinished))
        return {participant: limited.problems(texts) for participant, texts in sentences.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Compare now, whenever a participant has changed, and once in a while, as long as the context is open."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self.problems()
            except Exception:  # it is looked at again; who lists the participants gets the error too
                log.exception("participants could not be compared with definitions")
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.COMPATIBILITY_INTERVAL_NS / limits.SECOND_NS):
                    await self._changed.wait()

    async def _look(self) -> None:
        """Find out what does not fit now, and log what did fit the last time."""
        async with self._looking:
            described = self._descriptions()
            in_use = await self._in_use()
            self._compared = {version: known for version, known in self._compared.items() if version in in_use}
            for version in in_use:
                known = self._compared.get(version)
                if known is None or not known.holds(described):
                    self._compared[version] = await self._compare(*version, described)
            found = {mismatch: count for key, count in in_use.items() for mismatch in self._compared[key].mismatches}
            new = [mismatch for mismatch in found if mismatch not in self._found]
            self._found = found
        _warn(new, found)

    async def _in_use(self) -> dict[_Version, int]:
        """The versions that count, with how many unfinished sagas each has, those with the most first."""
        in_use = dict.fromkeys(await self._newest(), 0) | dict(await self._journal.count_unfinished())
        return dict(sorted(in_use.items(), key=lambda item: (-item[1], item[0])))

    async def _newest(self) -> list[_Version]:
        """The versions that new sagas start on where they name none."""
        newest: dict[str, int] = {}
        after: DefinitionCursor | None = None
        while True:
            page = await self._journal.list_definitions("", after, limits.DEFINITIONS_PAGE_SIZE_DEFAULT)
            for stored in page.items:
                if not stored.deprecated:
                    newest.setdefault(stored.name, stored.version)
            after = page.next
            if after is None:
                return list(newest.items())

    async def _compare(self, name: str, version: int, described: Mapping[str, DescribeResponse | None]) -> _Compared:
        stored = await self._journal.definition(name, version)
        descriptors = await self._journal.descriptors(stored.descriptors_digest) if stored is not None else None
        if stored is None or descriptors is None:  # `saga journal verify` tells more, and its sagas stand quarantined
            return _Compared({}, ())
        # Building a large set of descriptors takes a while; the event loop drives sagas meanwhile.
        return await asyncio.to_thread(_compare, stored.content, descriptors, version, described)


def _warn(new: list[Mismatch], unfinished: Mapping[Mismatch, int]) -> None:
    for mismatch in new[: limits.COMPATIBILITY_WARNINGS_MAX]:
        log.warning(
            "a participant does not fit a definition any more",
            extra={
                "participant": mismatch.participant,
                "definition": mismatch.definition,
                "version": mismatch.version,
                "step": mismatch.step,
                "unfinished_sagas": unfinished[mismatch],
                "problem": limited.message(mismatch.text),
            },
        )
    if len(new) > limits.COMPATIBILITY_WARNINGS_MAX:
        more = len(new) - limits.COMPATIBILITY_WARNINGS_MAX
        log.warning("participants do not fit definitions in more ways than are logged", extra={"more": more})


def _compare(
    content: bytes, descriptors: bytes, version: int, described: Mapping[str, DescribeResponse | None]
) -> _Compared:
    """Compare one version with all participants that it calls. For a thread: it touches nothing that others have."""
    try:
        pinned = PinnedDefinition.from_stored(content, descriptors, version)
        pool = build_pool(pinned.descriptors)
    except (UnreadableDefinitionError, InvalidDescriptorsError):
        return _Compared({}, ())  # as where it is not there
    names = {step.participant for step in pinned.definition.steps}
    participants = {name: described.get(name) for name in names}
    offers = {name: _Offer(description) for name, description in participants.items() if description is not None}
    mismatches: dict[Mismatch, None] = {}
    for step in pinned.definition.steps:
        if step.participant in offers:
            texts = offers[step.participant].problems(step, pinned.step_types[step.name], pool)
            for text in limited.problems(texts):
                mismatches[Mismatch(step.participant, pinned.definition.name, version, step.name, text)] = None
    return _Compared(participants, tuple(mismatches))


class _Offer:
    """What a participant offers now."""

    def __init__(self, description: DescribeResponse) -> None:
        self._actions = {action.name: action for action in description.actions}
        self._pool = build_pool(description.descriptors)

    def problems(self, step: StepDefinition, types: StepTypes, pinned: DescriptorPool) -> Iterator[str]:
        """In what it does not fit a step whose action had those types of that pool."""
        action = self._actions.get(step.action)
        if action is None:
            yield f"action `{step.action}` is not offered any more"
            return
        if kind_of(step) not in (action.kinds or [STEP_KIND_COMPENSATABLE]):
            kind = StepKind.Name(kind_of(step)).removeprefix("STEP_KIND_")
            yield f"action `{step.action}` does not serve as {kind} any more"
        if action.input_type != types.input:
            yield f"the input is `{types.input}` before, `{action.input_type}` now"
        else:
            yield from (f"input {text}" for text in self._input_problems(types.input, pinned))
        if action.output_type != types.output:
            yield f"the output is `{types.output}` before, `{action.output_type}` now"
        else:
            yield from (f"output {text}" for text in self._output_problems(types.output, pinned, kind_of(step)))

    def _input_problems(self, name: str, pinned: DescriptorPool) -> list[str]:
        return incompatible_reader(pinned.FindMessageTypeByName(name), self._pool.FindMessageTypeByName(name))

    def _output_problems(self, name: str, pinned: DescriptorPool, kind: StepKind.ValueType) -> list[str]:
        """The definition reads what the participant writes, which may get it back in Compensate or Confirm."""
        before, now = pinned.FindMessageTypeByName(name), self._pool.FindMessageTypeByName(name)
        handed_back = incompatible_reader(before, now) if kind in _HAND_OUTPUT_BACK else []
        return list(dict.fromkeys([*incompatible_writer(before, now), *handed_back]))
