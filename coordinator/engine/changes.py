"""Tells those who follow a saga that something of it has become durable, and those who wait for it that it stands.

Followers read the journal themselves, each at its own pace: nothing is buffered for them, so a slow one costs nothing
and misses nothing (G14). Who waits is not woken before the saga stands COMPLETED, COMPENSATED or FAILED, and sees it at
that very moment, so that nobody has to read it back from the journal. This module must not hold events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from coordinator.core.state import Saga

T = TypeVar("T")


class _Wait(Generic[T]):
    """Who waits for a saga to stand, and what it sees of it then."""

    def __init__(self, look: Callable[[Saga], T]) -> None:
        self._look = look
        self.seen: asyncio.Future[list[T]] = asyncio.get_running_loop().create_future()

    def wake(self, saga: Saga | None) -> None:
        if self.seen.done():
            return
        try:
            self.seen.set_result([self._look(saga)] if saga is not None else [])
        except Exception as raised:  # what goes wrong here concerns who waits, not the saga
            self.seen.set_exception(raised)


class Changes:
    """Who follows which saga, and who waits for it."""

    def __init__(self) -> None:
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._waits: dict[str, set[_Wait[Any]]] = {}

    @contextmanager
    def follow(self, saga_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the saga changes; the follower clears it before it looks."""
        changed = asyncio.Event()
        with _kept(self._followers, saga_id, changed):
            yield changed

    @contextmanager
    def await_standing(self, saga_id: str, look: Callable[[Saga], T]) -> Iterator[asyncio.Future[list[T]]]:
        """What `look` sees of the saga once it stands; nothing where whoever waits has to look for itself."""
        wait = _Wait(look)
        with _kept(self._waits, saga_id, wait):
            yield wait.seen

    def publish(self, saga_id: str) -> None:
        """Something of the saga has become durable."""
        for changed in self._followers.get(saga_id, ()):
            changed.set()

    def publish_standing(self, saga: Saga) -> None:
        """The saga stands COMPLETED, COMPENSATED or FAILED, and all of it is durable at this moment (G1)."""
        for wait in self._waits.get(saga.saga_id, ()):
            wait.wake(saga)

    def disturb(self, saga_id: str) -> None:
        """Something is wrong with the saga: everybody looks again."""
        self.publish(saga_id)
        for wait in self._waits.get(saga_id, ()):
            wait.wake(None)

    def disturb_all(self) -> None:
        """Wake everybody, so that each can see that the coordinator is shutting down."""
        for saga_id in self._followers.keys() | self._waits.keys():
            self.disturb(saga_id)


@contextmanager
def _kept(kept: dict[str, set[T]], saga_id: str, one: T) -> Iterator[None]:
    """Nothing is left of those who are gone (G14)."""
    those = kept.setdefault(saga_id, set())
    those.add(one)
    try:
        yield
    finally:
        those.discard(one)
        if not those:
            kept.pop(saga_id, None)
