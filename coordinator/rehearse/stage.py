"""Where a saga is rehearsed: the real engine over a journal in memory, which crashes and comes back when it is told to.

Every saga has a stage of its own, so that the crash of one concerns no other. A coordinator that comes back finds that
the time of every attempt it had open is over: that is what its clock is set forward for. This module must not know what
is made to fail, nor what is to come of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from coordinator.core import limits
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested
from coordinator.core.state import Saga
from coordinator.engine.changes import Changes
from coordinator.engine.clock import SystemClock
from coordinator.engine.definitions import Definitions
from coordinator.engine.engine import Engine
from coordinator.engine.world import Caller, Tasks, World
from coordinator.journal.memory import MemoryJournal
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import SagaEvent

T = TypeVar("T")

_WAIT_S = limits.WAIT_MAX_NS / limits.SECOND_NS


class _Clock:
    """The machine's clock, which can be set forward."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._ahead_ns = 0

    def now_ns(self) -> int:
        return self._system.now_ns() + self._ahead_ns

    def skip(self, duration_ns: int) -> None:
        self._ahead_ns += duration_ns


class Stage:
    """A coordinator for one saga. `definitions` outlive its crashes, for what they are is on another disk."""

    def __init__(self, definitions: Definitions, caller: Caller) -> None:
        self._definitions = definitions
        self._caller = caller
        self._clock = _Clock()
        self._journal = MemoryJournal()
        self._engine = self._new_engine()

    async def start(self, request: StartSagaRequest) -> None:
        """Start the saga. Raises what `Engine.start` does."""
        await self._engine.open()
        await self._engine.start(request)

    async def end(self, saga_id: str) -> None:
        """Wait until the saga stands COMPLETED, COMPENSATED or FAILED."""
        while not await self._engine.wait(saga_id, _WAIT_S):
            pass

    async def cancel(self, saga_id: str, reason: str) -> None:
        """Turn the saga back, where its state allows it."""
        with suppress(Forbidden):
            await self._engine.cancel(saga_id, CancelRequested(reason))

    async def read(self, saga_id: str, look: Callable[[Saga], T]) -> T:
        """What `look` sees of the saga."""
        return await self._engine.read(saga_id, look)

    async def events(self, saga_id: str) -> Sequence[SagaEvent]:
        """All that is journaled of the saga."""
        return await self._journal.read(saga_id)

    async def crash(self) -> None:
        """Forget all that is not journaled."""
        await self._engine.close()
        self._journal = self._journal.reopen()

    async def come_back(self, away_ns: int) -> None:
        """Take up again what is journaled, so much later."""
        self._clock.skip(away_ns)
        self._engine = self._new_engine()
        await self._engine.open()
        await self._engine.recover()

    async def close(self) -> None:
        """Stop driving the saga."""
        await self._engine.close()

    def _new_engine(self) -> Engine:
        world = World(self._journal, self._caller, self._clock, Changes(), Tasks(), random.random)
        return Engine(world, self._definitions)


async def either(one: asyncio.Task[T], other: asyncio.Task[T]) -> None:
    """Wait for the first of two, and end the other. Raises what the first one raised."""
    try:
        await asyncio.wait((one, other), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (one, other):
            task.cancel()
        await asyncio.gather(one, other, return_exceptions=True)
    for task in (one, other):
        if not task.cancelled():
            task.result()
