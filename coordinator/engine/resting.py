"""Sagas that wait: what is kept of each while nobody drives it, and when it is due.

Most unfinished sagas wait: for their start, the next attempt or poll, a key, a report, their parent, an operator. Their
events are in the journal, so nobody has to drive them meanwhile. What is kept is when to look at them again, and what
the journal does not know; and one timer serves all.

This module must not read anything, and must not know what a saga waits for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.core import limits
from coordinator.core.outstanding import Poll
from coordinator.engine.clock import Clock


@dataclass(frozen=True, slots=True)
class PlannedPoll:
    """A poll, when it is due, and how long the participant asked to be left alone between two."""

    poll: Poll
    due_ns: int
    every_ns: int


@dataclass(slots=True)
class Rest:
    """All that is kept of a saga that rests: what its driver knew and the journal does not.

    Instants but `wake_ns` are by the saga's own clock, which is `skew_ns` ahead of the coordinator's.
    """

    wake_ns: int | None = None
    """When to look at it, by the coordinator's clock; None: only when somebody asks for it."""
    skew_ns: int = 0
    polls: tuple[PlannedPoll, ...] = ()
    polled_until_ns: tuple[tuple[str, int], ...] = ()
    """The steps of which a poll of Execute may still be at work, and until when (G8)."""
    hastened: tuple[str, ...] = ()
    """The steps whose next poll is due at once, because there may be news."""
    left: bool = False
    """Nobody has driven it since this coordinator started: what was in flight is not known."""

    def stir(self, now_ns: int, step: str = "") -> None:
        """There is news, of that step where one is named: the saga is due, and so is a poll of the step."""
        self.wake_ns = now_ns
        if step and step not in self.hastened:
            self.hastened += (step,)


class Resting:
    """The sagas that rest, by id. `on_due` is called when some are due, until `watch` is."""

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._rests: dict[str, Rest] = {}
        self._queue: list[tuple[int, str]] = []
        """A heap of instants. What no longer is the instant of its saga is left in it, within bounds."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._watching = True
        self._closed = False

    def __len__(self) -> int:
        return len(self._rests)

    def __contains__(self, saga_id: str) -> bool:
        return saga_id in self._rests

    def put(self, saga_id: str, rest: Rest) -> None:
        """Let the saga rest."""
        if self._closed:
            return
        self._rests[saga_id] = rest
        if rest.wake_ns is not None:
            heapq.heappush(self._queue, (rest.wake_ns, saga_id))
            self._tidy()
            self._wait()

    def take(self, saga_id: str) -> Rest | None:
        """What was kept of the saga, which rests no more; None where it does not rest."""
        return self._rests.pop(saga_id, None)

    def take_due(self, count_max: int) -> dict[str, Rest]:
        """Sagas that are due, the earliest first; they rest no more."""
        taken: dict[str, Rest] = {}
        now_ns = self._clock.now_ns()
        while self._queue and self._queue[0][0] <= now_ns and len(taken) < count_max:
            instant_ns, saga_id = heapq.heappop(self._queue)
            rest = self._rests.get(saga_id)
            if rest is not None and rest.wake_ns == instant_ns:
                taken[saga_id] = self._rests.pop(saga_id)
        return taken

    def stir(self, saga_id: str, step: str = "") -> None:
        """There is news for the saga, if it rests: it is due now."""
        rest = self._rests.get(saga_id)
        if rest is not None:
            rest.stir(self._clock.now_ns(), step)
            self.put(saga_id, rest)

    def postpone(self, saga_id: str, by_ns: int) -> None:
        """The saga, if it rests, is due so much later than now."""
        rest = self._rests.get(saga_id)
        if rest is not None:
            rest.wake_ns = self._clock.now_ns() + by_ns
            self.put(saga_id, rest)

    def watch(self) -> None:
        """Those that were due have been taken: say when others are."""
        self._watching = True
        self._wait()

    def close(self) -> None:
        """Forget all of them."""
        self._closed = True
        self._rests.clear()
        self._queue.clear()
        self._stop_timer()

    def _wait(self) -> None:
        """Have the timer run until the earliest instant.

        Not for longer than a while at a time: timers do not notice that the clock is set forward.
        """
        if not self._watching or self._closed or not self._queue:
            return
        earliest_ns = self._queue[0][0]
        if self._timer is not None and self._timer_ns <= earliest_ns:
            return
        self._stop_timer()
        delay_ns = min(max(earliest_ns - self._clock.now_ns(), 0), limits.CLOCK_LOOK_NS)
        self._timer_ns = earliest_ns
        self._timer = asyncio.get_running_loop().call_later(delay_ns / limits.SECOND_NS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._queue and self._queue[0][0] <= self._clock.now_ns():
            self._watching = False
            self._on_due()
        else:
            self._wait()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tidy(self) -> None:
        """Drop the instants that are none any more, before they are the most (G14)."""
        if len(self._queue) > _UNTIDY + 2 * len(self._rests):
            self._queue = [(rest.wake_ns, each) for each, rest in self._rests.items() if rest.wake_ns is not None]
            heapq.heapify(self._queue)


_UNTIDY: Final = 64
