"""The time of day, as an engine can use it: it never goes back.

A wall clock that is set back would strand whatever waits for an instant; the monotonic clock knows no dates. This one
follows the wall clock forward and the monotonic clock where the wall clock goes back. Tests and simulations bring a
clock of their own.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never less than before."""


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        self._ahead_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never less than before."""
        monotonic_ns = time.monotonic_ns()
        self._ahead_ns = max(self._ahead_ns, time.time_ns() - monotonic_ns)
        return monotonic_ns + self._ahead_ns
