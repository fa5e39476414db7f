"""What drivers work with: the journal, the participants, the time, chance, tasks, and who may run beside whom.

Everything that a simulation replaces stands here. This module must not know a saga.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from coordinator.core import limits
from coordinator.core.inputs import Reply
from coordinator.engine.changes import Changes
from coordinator.engine.clock import Clock
from coordinator.engine.exclusion import Exclusion
from coordinator.engine.uid import uuid7
from coordinator.journal.port import Journal
from coordinator.participants.call import Call

T = TypeVar("T")


class Caller(Protocol):
    """Calls participants. Every way in which a call can end is a Reply; nothing is raised but CancelledError."""

    async def call(self, call: Call) -> Reply:
        """Make one call."""
        ...


class Tasks:
    """The tasks of an engine: kept so that none is collected while it runs, and ended together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it on its own."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def join(self, timeout_s: float) -> bool:
        """Wait until all have ended; False where the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            return False
        return True

    async def cancel(self) -> None:
        """End all of them, and wait until they have ended."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class World:
    """What drivers work with.

    `jitter` draws a number in [0, 1); `new_uid` names a saga that begins at an instant; a saga rests when nothing has
    happened for `rest_after_ns`, and nothing will for as long; `behind_s`
    says for how long calls to a participant have waited for a place.
    """

    journal: Journal
    caller: Caller
    clock: Clock
    changes: Changes
    tasks: Tasks
    jitter: Callable[[], float]
    exclusion: Exclusion = field(default_factory=Exclusion)
    new_uid: Callable[[int], str] = uuid7
    rest_after_ns: int = limits.REST_AFTER_NS
    behind_s: Callable[[str], float] = lambda _participant: 0.0
