"""The definitions' versions: checked, stored, and loaded as their sagas use them (G11).

A version that is loaded never changes, so it is kept; the least recently used goes when there are too many (G14). This
module must not know how a saga is driven.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any as Anything
from typing import TypeVar

from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.core.definition import Plan, Problem
from coordinator.core.inputs import Begun, InputFailed, OutputKnown, Skipped
from coordinator.core.state import Saga, StepRecord
from coordinator.dataflow.check import check
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.dataflow.program import ExpressionFailedError, Program
from coordinator.engine.clock import Clock
from coordinator.engine.errors import DefinitionNotFound, InvalidDefinition
from coordinator.journal.port import DefinitionVersion, Journal
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.participant_pb2 import DescribeResponse
from saga.v1.types_pb2 import STEP_STATE_COMPLETED, STEP_STATE_CONFIRMED, STEP_STATE_CONFIRMING

T = TypeVar("T")

Descriptions = Callable[[], Mapping[str, DescribeResponse | None]]


class LoadedDefinition:
    """A definition's version, as every saga of it uses it."""

    def __init__(self, stored: DefinitionVersion, descriptors: bytes) -> None:
        self.stored = stored
        self.pinned = PinnedDefinition.from_stored(stored.content, descriptors, stored.version)

    @property
    def definition(self) -> SagaDefinition:
        """What it says, with its version."""
        return self.pinned.definition

    @cached_property
    def plan(self) -> Plan:
        """What follows from its graph."""
        return Plan(self.definition)

    @cached_property
    def program(self) -> Program:
        """Its expressions."""
        return Program(self.pinned)

    @cached_property
    def oracle(self) -> ExpressionOracle:
        """Answers what the core asks while it drives a saga of this version."""
        return ExpressionOracle(self.program)


class ExpressionOracle:
    """Answers the core's questions with the definition's expressions."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def evaluate(self, saga: Saga, step: StepRecord) -> Begun | Skipped | InputFailed:
        """Evaluate the step's condition and input."""
        name, outputs = step.plan.name, _Outputs(saga)
        try:
            if step.plan.conditional and not self._program.condition(name, saga.input, outputs):
                return Skipped(name)
            return Begun(name, self._program.step_input(name, saga.input, outputs))
        except ExpressionFailedError as failure:
            return InputFailed(name, str(failure))

    def evaluate_output(self, saga: Saga) -> OutputKnown:
        """Evaluate the saga's output, where the definition has one."""
        if not saga.plan.definition.output:
            return OutputKnown()
        try:
            return OutputKnown(self._program.output(saga.input, _Outputs(saga)))
        except ExpressionFailedError as failure:
            return OutputKnown(failure_message=str(failure))


_HAVE_OUTPUT = (STEP_STATE_COMPLETED, STEP_STATE_CONFIRMING, STEP_STATE_CONFIRMED)


class _Outputs(Mapping[str, Any]):
    """The outputs of the steps that completed, looked up only as far as an expression asks."""

    def __init__(self, saga: Saga) -> None:
        self._saga = saga

    def __getitem__(self, name: str) -> Any:
        step = self._saga.step(name)
        if step.state not in _HAVE_OUTPUT or step.output is None:
            raise KeyError(name)
        return step.output

    def __iter__(self) -> Iterator[str]:
        return (step.plan.name for step in self._saga.steps if step.state in _HAVE_OUTPUT)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True)
class Registered:
    """The version that holds a content; `created` says whether it is new."""

    loaded: LoadedDefinition
    created: bool


class Definitions:
    """Registers, checks and loads definitions."""

    def __init__(self, journal: Journal, descriptions: Descriptions, clock: Clock) -> None:
        self._journal = journal
        self._descriptions = descriptions
        self._clock = clock
        self._loaded: OrderedDict[tuple[str, int], LoadedDefinition] = OrderedDict()
        self._for_starts: dict[tuple[str, int], LoadedDefinition] = {}

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
            known[key] = loaded  # of use to nobody if a change has replaced `_for_starts` meanwhile
            while len(known) > limits.DEFINITION_CACHE_MAX:
                del known[next(iter(known))]
        return loaded

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
                self._for_starts = {}

        return await asyncio.shield(asyncio.ensure_future(carry_through()))

    async def _check(self, definition: SagaDefinition) -> tuple[tuple[Problem, ...], PinnedDefinition | None]:
        # Compiling a thousand expressions takes seconds; the event loop drives other sagas meanwhile.
        checked = await asyncio.to_thread(check, definition, dict(self._descriptions()))
        unsupported = _unsupported(definition)
        if unsupported:
            return (*checked.problems, *unsupported), None
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


def _unsupported(definition: SagaDefinition) -> list[Problem]:
    """What the contract knows and this version of the coordinator does not do yet: refused rather than ignored."""
    if not definition.exclusive_keys:
        return []
    return [Problem("exclusive_keys", "exclusive keys are not supported by this coordinator yet", "no exclusive keys")]
