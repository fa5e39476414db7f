"""Drives one saga: decide, append durably, publish, dispatch; then the next input (rule 3, G1).

The order is the point of this module. Nothing is called, answered or shown before the events that justify it are on
stable storage:

1. inputs wait in the inbox while an append is under way;
2. a turn of the core takes them in and changes the saga in memory; from here on nobody may look at it;
3. its events are appended;
4. those who asked are answered, those who follow are told;
5. what is outstanding is brought under way.

When an append fails, nobody knows whether it is durable: the saga is read back from the journal, which has all of its
events or none, and where it has none the replies are taken in again.

This module must not decide anything about the saga; that is the core's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from coordinator import failpoints
from coordinator.core import limits, retry
from coordinator.core.definition import BUILT_IN
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import Input
from coordinator.core.outstanding import Outstanding
from coordinator.core.state import IllegalEvent, Saga, fold
from coordinator.core.turn import record, turn
from coordinator.engine.dispatch import Dispatcher
from coordinator.engine.errors import SequenceMismatch
from coordinator.engine.index import index_of, listed
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.resting import Rest
from coordinator.engine.transitions import log_transitions
from coordinator.engine.world import World
from coordinator.failpoints import Failpoint
from coordinator.journal.errors import JournalError, JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.port import Append
from saga.v1.event_pb2 import ParentStep, SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_FAILED, SAGA_STATE_PENDING

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
    refusal: Exception | None = None
    """Why it was not taken in; told only when what it follows from is durable (G1)."""
    is_taken_in: bool = False
    """The turn that it leads to was taken, and is durable."""

    def settle(self, error: Exception | None = None) -> None:
        """Tell who asked."""
        if self.asked is None or self.asked.done():
            return
        outcome = error or self.refusal
        if outcome is None:
            self.asked.set_result(None)
        else:
            self.asked.set_exception(outcome)


class Owner(Protocol):
    """Who keeps the drivers."""

    def gone(self, driver: Driver) -> None:
        """The driver is not needed any more; said once."""

    def rests(self, driver: Driver, rest: Rest) -> None:
        """The driver is gone because its saga only waits: `rest` says until when, and what to give its next driver."""

    def keys_settled(self, saga_id: str, given: Input) -> None:
        """The saga holds the exclusive keys that it asked for, or never will."""

    def tell_parent(self, parent: ParentStep) -> None:
        """There is news of the saga that runs as that step."""


class Driver:
    """Drives one saga, on one event loop. `rest` is what was kept of it since its last driver on this coordinator."""

    def __init__(
        self, saga: Saga, definition: LoadedDefinition, world: World, owner: Owner, rest: Rest | None = None
    ) -> None:
        self.saga_id = saga.saga_id
        self._saga = saga
        self._definition = definition
        self._world = world
        self._owner = owner
        self._dispatcher = Dispatcher(definition.program, world, self.give, self._now_ns, rest)
        # A clock that was set back while nobody ran must not hold the saga at its last event.
        self._skew_ns = max(0, saga.last_time_ns - world.clock.now_ns()) if rest is None else rest.skew_ns
        self._wanted = Outstanding()
        """What must be under way, as of the last turn: what has become due since is woken up for, not passed over."""
        self._listed = listed(saga)
        self._told_parent = _news(saga)
        if rest is None:
            self._look_at_children()
        self._inbox: list[_Item] = []
        self._readers: list[Callable[[Exception | None], None]] = []
        self._troubles = 0
        self._pumping = False
        self._draining = False
        self._stopped = False

    def _look_at_children(self) -> None:
        """While nobody drove the saga they may have come to an end, and told nobody."""
        for index in self._saga.active:
            if self._saga.plan.steps[index].participant == BUILT_IN:
                self._dispatcher.hasten(self._saga.plan.steps[index].name)

    # --- What others ask of it ---

    def begin(self, wanted: Outstanding) -> None:
        """Bring under way what the saga's first turn wants, which is durable."""
        self._wanted = wanted
        self._put(_Item(None, is_taken_in=True))

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

    def hasten(self, step: str) -> None:
        """There may be news of a step that is polled: poll it now."""
        self._dispatcher.hasten(step)
        self.give(None)

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
            try:
                if error is not None:
                    raise error
                seen.set_result(look(self._saga))
            except Exception as raised:  # what goes wrong here is the reader's
                seen.set_exception(raised)

        self._readers.append(reader)
        return await seen

    def drain(self) -> None:
        """Decide on nothing more; what is in flight is still recorded when it comes back."""
        self._draining = True
        self._dispatcher.look_no_more()

    def stop(self) -> None:
        """Drive no longer. What is durable stays; whoever waits is sent away."""
        if self._stopped:
            return
        self._stopped = True
        self._dispatcher.let_go()
        self._ask_for_keys(wanted=False)
        for item in self._inbox:
            item.settle(Stopped())
        self._inbox.clear()
        self._serve_readers(Stopped())
        self._owner.gone(self)

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
            items, self._inbox = self._inbox, []
            try:
                await self._take_in(items)
            except UnreadableSaga as error:
                await self._set_aside(items, error.reason)
            except JournalError as error:
                log.error("saga %s is driven here no longer: %s", self.saga_id, error)  # expected (G12)
                self._leave(items, error)
            except Exception:  # a defect concerns this saga only: the others go on (rule 11)
                log.exception("saga %s cannot be driven", self.saga_id)
                await self._set_aside(items, "the coordinator failed to drive it; its log has the details")
        self._pumping = False

    async def _take_in(self, items: Sequence[_Item]) -> None:
        events = self._turns(items)
        try:
            await self._append(events)
        except JournalUnavailable as error:
            await self._take_back(items, events, error)
        else:
            self._publish(items, events)

    def _turns(self, items: Sequence[_Item]) -> list[SagaEvent]:
        """Take the inputs in, one after the other; what they lead to is one append."""
        now_ns = self._now_ns()
        events: list[SagaEvent] = []
        for item in items:
            if item.is_taken_in:
                continue
            try:
                self._expect(item.expected_sequence)
                events += self._turn(item.given, now_ns)
            except (Forbidden, SequenceMismatch) as refused:
                item.refusal = refused
                events += self._turn(None, now_ns)  # what has become due meanwhile is not
        return events

    def _expect(self, sequence: int) -> None:
        if sequence and sequence != self._saga.last_sequence:
            raise SequenceMismatch(self.saga_id, sequence, self._saga.last_sequence)

    def _turn(self, given: Input | None, now_ns: int) -> Sequence[SagaEvent]:
        polled_until_ns = self._dispatcher.polled_until_ns
        if self._draining:
            taken = record(self._saga, given, now_ns, polled_until_ns)
        else:
            taken = turn(self._saga, given, now_ns, self._definition.oracle, polled_until_ns)
        self._wanted = taken.wanted
        return taken.events

    async def _append(self, events: Sequence[SagaEvent]) -> None:
        if not events:
            return
        changed = listed(self._saga)
        index = index_of(self._saga) if changed != self._listed else None
        await self._reach(Failpoint.APPEND_BEFORE, events)
        await self._world.journal.append(Append(self.saga_id, events, index))
        await self._reach(Failpoint.APPEND_AFTER, events)
        self._listed = changed
        self._troubles = 0

    def _reach(self, point: Failpoint, events: Sequence[SagaEvent]) -> Awaitable[None]:
        return failpoints.reached(point, error=JournalUnavailable, sagas=(self.saga_id,), events=_names(events))

    def _publish(self, items: Sequence[_Item], events: Sequence[SagaEvent]) -> None:
        for item in items:
            item.settle()
        self._serve_readers(None)
        if events:
            self._tell(events)
        if self._saga.ended:
            self._world.exclusion.ended(self._saga)
            self.stop()
        elif self._saga.state == SAGA_STATE_FAILED:
            self.stop()
        else:
            self._dispatch()

    def _tell(self, events: Sequence[SagaEvent]) -> None:
        log_transitions(self._saga, events)
        self._world.changes.publish(self.saga_id)
        if self._saga.stands:
            self._world.changes.publish_standing(self._saga)
        if self._saga.parent is not None and (news := _news(self._saga)) != self._told_parent:
            self._told_parent = news
            self._owner.tell_parent(self._saga.parent)

    def _dispatch(self) -> None:
        if self._draining:  # an attempt that is journaled and never made would be lost, and have spent its budget
            self._dispatcher.call(self._saga, self._wanted.calls, self._now_ns())
        else:
            self._dispatcher.dispatch(self._saga, self._wanted, self._now_ns(), news=bool(self._inbox))
            self._ask_for_keys(wanted=self._wanted.keys)
            if not self._inbox:
                self._rest_if_it_waits()

    def _rest_if_it_waits(self) -> None:
        """Let go of a saga that has been quiet for a while, and will be: it is read back when it is due or asked for.

        Before its start nothing is expected, so that while is not waited for.
        """
        if self._dispatcher.busy:
            return
        now_ns, wake_ns = self._now_ns(), self._dispatcher.wake_ns
        long_ns = self._world.rest_after_ns * (1 + self._saga.last_sequence // limits.REST_EVENTS)
        if wake_ns is not None and wake_ns - now_ns < long_ns:
            return
        quiet_ns = self._saga.last_time_ns + long_ns
        if now_ns < quiet_ns and not self._before_its_start(now_ns):
            self._dispatcher.look_at(quiet_ns, now_ns)
            return
        self._stopped = True
        self._owner.rests(self, self._dispatcher.rest(self._skew_ns, now_ns))

    def _before_its_start(self, now_ns: int) -> bool:
        return self._saga.state == SAGA_STATE_PENDING and self._saga.start_ns > now_ns

    def _ask_for_keys(self, *, wanted: bool) -> None:
        if not self._saga.exclusive_keys:
            return
        if wanted:
            self._world.exclusion.want(self._saga, self._owner.keys_settled)
        elif self._saga.state == SAGA_STATE_PENDING:
            self._world.exclusion.forgo(self._saga)
        else:
            self._world.exclusion.started(self._saga)

    # --- When the journal fails ---

    async def _take_back(self, items: Sequence[_Item], events: Sequence[SagaEvent], error: JournalUnavailable) -> None:
        """Read the saga back, and where the events are not durable take the replies in again.

        Who asked is told that it is not known; what was in flight stays in flight.
        """
        for item in items:
            item.settle(error)
        await self._pause(error)
        self._saga = await self._read_back()
        self._listed = ()  # whether the row was written is not known either
        again: list[_Item] = []
        if self._saga.last_sequence >= events[-1].sequence:
            self._tell(events)
        else:
            again = [item for item in items if item.asked is None and not item.is_taken_in]
        self._inbox[:0] = again or [_Item(None)]

    async def _read_back(self) -> Saga:
        events = await self._insist(self._read)
        try:
            return fold(Saga(self.saga_id, self._definition.plan), events)
        except IllegalEvent as illegal:
            raise UnreadableSaga(self.saga_id, str(illegal)) from illegal

    async def _read(self) -> Sequence[SagaEvent]:
        await failpoints.reached(Failpoint.RELOAD_BEFORE_READ, error=JournalUnavailable, sagas=(self.saga_id,))
        return await self._world.journal.read(self.saga_id)

    async def _set_aside(self, items: Sequence[_Item], reason: str) -> None:
        """Nothing more is appended to a saga that cannot be read or driven; it is shown as it is (rule 11)."""
        for item in items:
            item.settle(UnreadableSaga(self.saga_id, reason))
        try:
            with suppress(SagaNotFound):
                await self._insist(lambda: self._world.journal.quarantine(self.saga_id, reason))
        finally:
            self._world.changes.disturb(self.saga_id)
            if self._saga.parent is not None:
                self._owner.tell_parent(self._saga.parent)
            self.stop()

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the journal answers, however long that takes."""
        while True:
            try:
                return await ask()
            except JournalUnavailable as error:
                await self._pause(error)

    async def _pause(self, error: JournalUnavailable) -> None:
        """Send away who waits, and give the journal time."""
        for item in self._inbox:
            item.settle(error)
        self._inbox = [item for item in self._inbox if item.asked is None]
        self._serve_readers(error)
        self._troubles += 1
        await asyncio.sleep(_PATIENCE.backoff_ns(self._troubles, self._world.jitter()) / limits.SECOND_NS)

    def _leave(self, items: Sequence[_Item], error: Exception) -> None:
        for item in items:
            item.settle(error)
        self.stop()

    def _now_ns(self) -> int:
        return max(self._world.clock.now_ns() + self._skew_ns, self._saga.last_time_ns)

    def _serve_readers(self, error: Exception | None) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            reader(error)


def _names(events: Sequence[SagaEvent]) -> Iterator[str]:
    return (event.WhichOneof("event") or "" for event in events)


def _news(saga: Saga) -> tuple[object, ...]:
    """What a parent wants to know of its child at once, and not at its next poll."""
    return saga.ended, saga.held, saga.state == SAGA_STATE_FAILED, saga.needs_attention


_PATIENCE = retry.pauses(50 * limits.MILLISECOND_NS, 5 * limits.SECOND_NS)
