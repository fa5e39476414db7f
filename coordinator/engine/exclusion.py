"""Gives sagas their exclusive keys: the rules of `core.keys`, brought together with the journal and with the drivers.

Who holds and who waits is not on disk by itself; it follows from what is. A saga asks when it could start, and has
started when that is journaled; what it held is free when its end is journaled (rule 6). So a restart reads the same
queue back, before anything is driven.

This module must not decide whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from coordinator.core import limits
from coordinator.core.inputs import Input, KeysGranted, KeysRefused
from coordinator.core.keys import Blocked, Claim, Keys, Verdict
from coordinator.core.state import Saga
from coordinator.journal.port import JournalReader, SagaCursor, SagaIndex
from saga.v1.types_pb2 import SAGA_STATE_PENDING

Tell: TypeAlias = Callable[[str, Input], None]
"""Takes a saga's id and what has become of its claim. One serves all that wait: none of them need be driven."""


class Exclusion:
    """The exclusive keys of one coordinator."""

    def __init__(self) -> None:
        self._keys = Keys()
        self._waiting: dict[str, Tell] = {}
        """Whom to tell of a saga that has not started yet."""

    async def restore(self, journal: JournalReader, now_ns: int) -> None:
        """Take in who holds and who waits, before anything is driven; then begin to grant. JournalUnavailable."""
        roots: set[str] = set()
        after: SagaCursor | None = None
        while True:
            page = await journal.keyed(after, limits.RECOVERY_PAGE)
            for index in page.items:
                self._restore(index, now_ns)
                roots.add(index.root_saga_id)
            after = page.next
            if after is None:
                break
        for root in roots - {""}:  # of a child that is kept from its end by an operator the root may have ended
            index_of_root = await journal.find(root)
            if index_of_root is None or index_of_root.ended:
                self._keys.end(root, root)
        self._keys.open()  # drivers ask again, and are told then

    def _restore(self, index: SagaIndex, now_ns: int) -> None:
        owner = index.root_saga_id or index.saga_id
        if index.start_time_ns is None:
            return  # it was cancelled before its turn came
        if index.state != SAGA_STATE_PENDING:
            self._keys.hold(index.saga_id, owner, index.exclusive_keys, ended=index.ended)
        elif index.start_time_ns <= now_ns and not index.paused:
            self._keys.claim(Claim(index.saga_id, owner, index.exclusive_keys, index.start_time_ns))

    def want(self, saga: Saga, tell: Tell) -> None:
        """The saga could start: `tell` is called when its turn has come, at once or later, or never would.

        Again where it was told already has it told again.
        """
        self._waiting[saga.saga_id] = tell
        self._announce(self._keys.claim(Claim(saga.saga_id, saga.root_saga_id, saga.exclusive_keys, saga.start_ns)))

    def forgo(self, saga: Saga) -> None:
        """The saga has not started and does not want to now: it is paused, set aside, or goes back."""
        self._waiting.pop(saga.saga_id, None)
        self._announce(self._keys.withdraw(saga.saga_id, saga.root_saga_id))

    def started(self, saga: Saga) -> None:
        """That is durable; from here on it holds its keys until it has ended."""
        self._waiting.pop(saga.saga_id, None)

    def ended(self, saga: Saga) -> None:
        """That is durable."""
        self._waiting.pop(saga.saga_id, None)
        self._announce(self._keys.end(saga.saga_id, saga.root_saga_id))

    def want_again(self, saga: Saga, tell: Tell, now_ns: int) -> None:
        """A saga that has ended has to go back: `tell` is called when it holds its keys again, at once or later.

        Only a child whose parent is on another coordinator ever waits: of all others the root still holds them.
        """
        self._waiting[saga.saga_id] = tell
        claim = Claim(saga.saga_id, saga.root_saga_id, saga.exclusive_keys, now_ns, again=True)
        self._announce(self._keys.claim(claim))

    def blocked(self, saga_id: str) -> list[Blocked]:
        """What the saga's start waits for."""
        return list(self._keys.blocked(saga_id))

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._waiting.clear()

    def _announce(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            tell = self._waiting.get(verdict.saga_id)
            if tell is not None:
                tell(verdict.saga_id, KeysGranted() if verdict.granted else KeysRefused())
