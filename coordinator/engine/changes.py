"""Tells those who follow a saga that something of it has become durable.

Followers read the journal themselves, each at its own pace: nothing is buffered for them, so a slow one costs nothing
and misses nothing (G14). This module must not hold events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Changes:
    """Who follows which saga."""

    def __init__(self) -> None:
        self._followers: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def follow(self, saga_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the saga changes; the follower clears it before it looks."""
        changed = asyncio.Event()
        followers = self._followers.setdefault(saga_id, set())
        followers.add(changed)
        try:
            yield changed
        finally:
            followers.discard(changed)
            if not followers:
                self._followers.pop(saga_id, None)

    def publish(self, saga_id: str) -> None:
        """Something of the saga has become durable."""
        for changed in self._followers.get(saga_id, ()):
            changed.set()

    def publish_all(self) -> None:
        """Wake every follower, so that each can see that the coordinator is shutting down."""
        for saga_id in list(self._followers):
            self.publish(saga_id)
