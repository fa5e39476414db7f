"""Starts take turns, so that sagas that are under way come first, and a coordinator that is behind says so.

A start that is let in makes work for all its steps to come. So only some are in progress at a time, however many ask:
between two of their turns every step that can go on goes on, and the more there are of those the slower sagas start.
Once a start has waited for its turn for too long, further ones are refused at once, which costs next to nothing. This
module must not know what a start does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coordinator.core import limits
from coordinator.engine.errors import Overloaded
from coordinator.participants.places import Places


class Turns:
    """Bounds how many starts are in progress, and how far those that wait may fall behind (G14)."""

    def __init__(self, most: int = limits.STARTS_AT_ONCE_MAX) -> None:
        self._places = Places(most)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one. Overloaded where others have waited for too long already."""
        if (behind_s := self._places.behind_s) * limits.SECOND_NS > limits.BEHIND_MAX_NS:
            raise Overloaded(f"starts have waited {behind_s:.1f} s for their turn")
        await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()
