"""Whether a journal can be written, and who wants to know.

It must not find out anything itself: the writer reports each outcome.
"""

import asyncio
from collections.abc import Callable


class Health:
    """The last outcome reported; healthy at first."""

    def __init__(self) -> None:
        self._healthy = True
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._healthy

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Have `listener` called with every new value."""
        self._listeners.append(listener)

    def report(self, healthy: bool) -> bool:
        """Take an outcome; returns whether it differs from the one before.

        Listeners are called by the event loop, so that one that raises cannot disturb the writer.
        """
        if healthy == self._healthy:
            return False
        self._healthy = healthy
        for listener in self._listeners:
            asyncio.get_running_loop().call_soon(listener, healthy)
        return True
