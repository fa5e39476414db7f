"""Many deadlines on one timer.

Nearly every call is answered in time, so nearly every deadline is forgotten. A timer of the event loop for each would
cost more than all else that a call of the fast lane costs; here one costs a push onto a heap, and forgetting it
nothing. This module must not know what a deadline is for.
"""

import asyncio
import heapq
from collections.abc import Callable, Collection

from coordinator.core import limits


class Deadlines:
    """Calls `overrun` with the number of each entry of `standing` whose deadline has passed.

    Deadlines are in the event loop's time. An entry that does not stand any more is forgotten by itself.
    """

    def __init__(self, standing: Collection[int], overrun: Callable[[int], None]) -> None:
        self._standing = standing
        self._overrun = overrun
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looks_s = 0.0
        """When the timer is due. It is not asked itself: uvloop's cannot say where it is due at once."""

    def watch(self, number: int, deadline_s: float) -> None:
        """Watches a new entry of `standing`."""
        heapq.heappush(self._heap, (deadline_s, number))
        if len(self._heap) > 2 * len(self._standing) + limits.EXCHANGE_FORGOTTEN_MAX:
            self._heap = [entry for entry in self._heap if entry[1] in self._standing]
            heapq.heapify(self._heap)
        self._set_timer()

    def stop(self) -> None:
        """Watches nothing any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        first_s = self._heap[0][0]
        if self._timer is not None:
            if self._looks_s <= first_s:
                return  # it looks again from there
            self._timer.cancel()
        self._looks_s = first_s
        self._timer = self._loop.call_at(first_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._heap and (self._heap[0][0] <= now_s or self._heap[0][1] not in self._standing):
            _, number = heapq.heappop(self._heap)
            if number in self._standing:
                self._overrun(number)
        if self._heap:
            self._set_timer()
