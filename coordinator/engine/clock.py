"""The time of day, as an engine can use it: it never goes back.

A wall clock that is set back would strand whatever waits for an instant; the monotonic clock knows no dates. This one
follows the wall clock forward and the monotonic clock where the wall clock goes back. Tests and simulations bring a
clock of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never less than before."""


class SystemClock:
    """The machine's clock, made of its two: one that knows the date, and one that only goes forward."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._ahead_ns = wall_ns() - monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never less than before."""
        monotonic_ns = self._monotonic_ns()
        self._ahead_ns = max(self._ahead_ns, self._wall_ns() - monotonic_ns)
        return monotonic_ns + self._ahead_ns
