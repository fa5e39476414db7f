"""Drives one saga: decide, append durably, publish, dispatch; then the next input (rule 3, G1).

The order is the point of this module. Nothing is called, answered or shown before the events that justify it are on
stable storage:

1. inputs wait in the inbox while an append is under way;
2. a turn of the core takes them in and changes the saga in memory; from here on nobody may look at it;
3. its events are appended;
4. those who asked are answered, those who follow are told;
5. what is outstanding is brought under way.

When an append fails, nobody knows whether it is durable: the saga is read back from the journal and the replies are
taken in again, which changes nothing where they were recorded after all.

This module must not decide anything about the saga; that is the core's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from coordinator.core import limits, retry
from coordinator.core.decide import Forbidden
from coordinator.core.inputs import Input
from coordinator.core.outstanding import outstanding
from coordinator.core.state import IllegalEvent, Saga, fold
from coordinator.core.turn import record, turn
from coordinator.engine.definitions import LoadedDefinition
from coordinator.engine.dispatch import Dispatcher
from coordinator.engine.errors import SequenceMismatch
from coordinator.engine.index import index_of, listed
from coordinator.engine.transitions import log_transitions
from coordinator.engine.world import World
from coordinator.journal.errors import JournalError, JournalUnavailable, UnreadableSaga
from coordinator.journal.port import Append
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_FAILED

log = logging.getLogger(__name__)

T = TypeVar("T")


class Stopped(Exception):
    """The driver drives its saga no longer: whoever wants something of the saga asks the engine again."""


@dataclass(slots=True)
class _Item:
    """An input and, where somebody waits for what it leads to, whom to tell."""

    given: Input | None
    asked: asyncio.Future[None] | None = None
    expected_sequence: int = 0

    def settle(self, error: Exception | None = None) -> None:
        """Tell who asked."""
        if self.asked is None or self.asked.done():
            return
        if error is None:
            self.asked.set_result(None)
        else:
            self.asked.set_exception(error)


class Driver:
    """Drives one saga, on one event loop. `gone` is called once, when it is not needed any more."""

    def __init__(self, saga: Saga, definition: LoadedDefinition, world: World, gone: Callable[[Driver], None]) -> None:
        self.saga_id = saga.saga_id
        self._saga = saga
        self._definition = definition
        self._world = world
        self._gone = gone
        self._dispatcher = Dispatcher(definition.program, world, self.give, self._now_ns)
        # A clock that was set back while nobody ran must not hold the saga at its last event.
        self._skew_ns = max(0, saga.last_time_ns - world.clock.now_ns())
        self._listed = listed(saga)
        self._inbox: list[_Item] = []
        self._readers: list[Callable[[Exception | None], None]] = []
        self._troubles = 0
        self._pumping = False
        self._draining = False
        self._stopped = False

    # --- What others ask of it ---

    def give(self, given: Input | None) -> None:
        """Take an input in, or only look again, as soon as what is under way is durable."""
        self._put(_Item(given))

    async def ask(self, given: Input, expected_sequence: int = 0) -> None:
        """Take an input in, and return when what follows from it is durable.

        Forbidden where the saga's state does not allow it; SequenceMismatch where the saga does not stand at
        `expected_sequence`, if that is set; JournalUnavailable where it may or may not have become
        durable; Stopped where the driver is gone.
        """
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Item(given, asked, expected_sequence))
        await asked

    async def read(self, look: Callable[[Saga], T]) -> T:
        """What `look` sees of the saga at a moment when all of it is durable (G1). Stopped where the driver is gone."""
        if self._stopped:
            raise Stopped
        if not self._pumping:
            return look(self._saga)
        seen: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def reader(error: Exception | None) -> None:
            if seen.done():
                return
            if error is None:
                seen.set_result(look(self._saga))
            else:
                seen.set_exception(error)

        self._readers.append(reader)
        return await seen

    def begin(self) -> None:
        """What the saga holds is durable: bring under way what is outstanding."""
        self._dispatch()

    def drain(self) -> None:
        """Start nothing more; what is in flight is still recorded when it comes back."""
        self._draining = True
        self._dispatcher.rest()

    @property
    def busy(self) -> bool:
        """Whether something is in flight or being recorded."""
        return self._pumping or self._dispatcher.busy

    def stop(self) -> None:
        """Drive no longer. What is durable stays; whoever waits is sent away."""
        if self._stopped:
            return
        self._stopped = True
        self._dispatcher.rest()
        for item in self._inbox:
            item.settle(Stopped())
        self._inbox.clear()
        self._serve_readers(Stopped())
        self._gone(self)

    # --- The loop ---

    def _put(self, item: _Item) -> None:
        if self._stopped:
            item.settle(Stopped())
            return
        self._inbox.append(item)
        if not self._pumping:
            self._pumping = True
            self._world.tasks.spawn(self._pump())

    async def _pump(self) -> None:
        while self._inbox:
            await self._take_in()
        self._pumping = False

    async def _take_in(self) -> None:
        items, self._inbox = self._inbox, []
        try:
            events = self._turns(items)
        except Exception:  # a defect in the core concerns this saga only: the others go on (rule 11)
            log.exception("saga %s cannot be driven", self.saga_id)
            await self._set_aside(items, "the coordinator failed to decide what follows; its log has the details")
            return
        try:
            await self._append(events)
        except JournalUnavailable as error:
            await self._take_back(items, error)
        except JournalError as error:
            log.error("saga %s is driven here no longer: %s", self.saga_id, error)  # expected (G12)
            self._leave(items, error)
        else:
            self._publish(items, events)

    def _turns(self, items: Sequence[_Item]) -> list[SagaEvent]:
        """Take the inputs in, one after the other; what they lead to is one append."""
        now_ns = self._now_ns()
        events: list[SagaEvent] = []
        for item in items:
            try:
                self._expect(item.expected_sequence)
                events += self._turn(item.given, now_ns)
            except (Forbidden, SequenceMismatch) as refused:
                item.settle(refused)
        return events

    def _expect(self, sequence: int) -> None:
        if sequence and sequence != self._saga.last_sequence:
            raise SequenceMismatch(self.saga_id, sequence, self._saga.last_sequence)

    def _turn(self, given: Input | None, now_ns: int) -> list[SagaEvent]:
        if self._draining:
            return record(self._saga, given, now_ns)
        return turn(self._saga, given, now_ns, self._definition.oracle, self._dispatcher.polled_until_ns)

    async def _append(self, events: Sequence[SagaEvent]) -> None:
        if not events:
            return
        changed = listed(self._saga)
        index = index_of(self._saga) if changed != self._listed else None
        await self._world.journal.append(Append(self.saga_id, events, index))
        self._listed = changed
        self._troubles = 0

    def _publish(self, items: Sequence[_Item], events: Sequence[SagaEvent]) -> None:
        for item in items:
            item.settle()
        self._serve_readers(None)
        if events:
            log_transitions(self._saga, events)
            self._world.changes.publish(self.saga_id)
        if self._saga.ended or self._saga.state == SAGA_STATE_FAILED:
            self.stop()
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        if self._draining:
            return
        now_ns = self._now_ns()
        wanted = outstanding(self._saga, now_ns, self._dispatcher.polled_until_ns)
        self._dispatcher.dispatch(self._saga, wanted, now_ns)

    # --- When the journal fails ---

    async def _take_back(self, items: Sequence[_Item], error: JournalUnavailable) -> None:
        """Read the saga back, since the append may be durable or not, and take the replies in again.

        Who asked is told that it is not known; what was in flight stays in flight.
        """
        for item in items:
            item.settle(error)
        self._troubles += 1
        try:
            self._saga = await self._read_back()
        except JournalError as unreadable:
            await self._set_aside(items, str(unreadable))
            return
        except IllegalEvent as illegal:
            await self._set_aside(items, str(illegal))
            return
        self._listed = ()  # whether the row was written is not known either
        self._inbox[:0] = [item for item in items if item.asked is None] or [_Item(None)]

    async def _read_back(self) -> Saga:
        while True:
            self._serve_readers(JournalUnavailable("the journal cannot be written"))
            delay_ns = _READ_BACK.backoff_ns(self._troubles, self._world.jitter())
            await asyncio.sleep(delay_ns / limits.SECOND_NS)
            try:
                events = await self._world.journal.read(self.saga_id)
            except JournalUnavailable:
                self._troubles += 1
                continue
            return fold(Saga(self.saga_id, self._definition.plan), events)

    async def _set_aside(self, items: Sequence[_Item], reason: str) -> None:
        """Nothing more is appended to a saga that cannot be read or driven; it is shown as it is (rule 11)."""
        try:
            await self._world.journal.quarantine(self.saga_id, reason)
        except JournalError as error:
            log.warning("saga %s could not be marked as unreadable: %s", self.saga_id, error)
        self._world.changes.publish(self.saga_id)
        self._leave(items, UnreadableSaga(self.saga_id, reason))

    def _leave(self, items: Sequence[_Item], error: Exception) -> None:
        for item in items:
            item.settle(error)
        self._serve_readers(error)
        self.stop()

    def _now_ns(self) -> int:
        return max(self._world.clock.now_ns() + self._skew_ns, self._saga.last_time_ns)

    def _serve_readers(self, error: Exception | None) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            reader(error)


_READ_BACK = retry.Policy(
    timeout_ns=0,
    attempts_max=limits.UNLIMITED,
    initial_backoff_ns=50 * limits.MILLISECOND_NS,
    multiplier=2.0,
    backoff_max_ns=5 * limits.SECOND_NS,
)
