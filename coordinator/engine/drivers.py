"""Who drives which saga: starts drivers, lets sagas rest that only wait, and takes up what a coordinator left.

An unfinished saga is driven, rests, or is just being taken up; never two of these. Of a saga that rests little is kept
(`resting`); it is read back when it is due, when somebody asks for it, or when there is news for it. Many that are due
at once, as after a restart, are read back in batches, and no faster than those before them get on: participants are not
flooded, and new sagas and readers are served meanwhile.

This module must not decide what a saga does; that is the core's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from coordinator import failpoints
from coordinator.core import limits
from coordinator.core.inputs import Input, Recovered
from coordinator.core.state import ENDED, Saga
from coordinator.core.turn import Turn
from coordinator.engine.driver import Driver
from coordinator.engine.index import index_of
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.loading import Loading, readable
from coordinator.engine.resting import Rest, Resting
from coordinator.engine.transitions import log_transitions
from coordinator.engine.world import World
from coordinator.failpoints import Failpoint
from coordinator.journal.errors import JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.port import Append, SagaIndex
from saga.v1.event_pb2 import ParentStep
from saga.v1.types_pb2 import SAGA_STATE_FAILED, SAGA_STATE_PENDING, SagaState

log = logging.getLogger(__name__)

States: TypeAlias = frozenset[SagaState.ValueType]

FAILED: Final[States] = frozenset((SAGA_STATE_FAILED,))
STANDING: Final[States] = ENDED | FAILED
"""Where a saga is that nobody has to drive."""


@dataclass(slots=True)
class _TakingUp:
    """A saga that is being taken up; `rest` is what is kept of it as long as no driver has it."""

    rest: Rest | None
    done: asyncio.Future[None]


class Drivers:
    """The unfinished sagas of one engine."""

    def __init__(self, world: World, loading: Loading) -> None:
        self._world = world
        self._journal = world.journal
        self._loading = loading
        self._driven: dict[str, Driver] = {}
        self._taking_up: dict[str, _TakingUp] = {}
        self._resting = Resting(world.clock, self._wake)
        self._waking: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self.stopping: Final = asyncio.Event()
        """Set once nothing new is taken up or decided."""

    def __len__(self) -> int:
        """How many sagas are unfinished."""
        return len(self._driven) + len(self._taking_up) + len(self._resting)

    @property
    def resting(self) -> int:
        """How many of them rest."""
        return len(self._resting)

    @property
    def draining(self) -> bool:
        """Whether nothing new is taken up or decided any more."""
        return self.stopping.is_set()

    # --- Finding them ---

    def driving(self, saga_id: str) -> Driver | None:
        """Who drives the saga at this moment; None where nobody does."""
        return self._driven.get(saga_id)

    async def find(self, saga_id: str, *, also: States = frozenset()) -> Driver | None:
        """Who drives the saga; it is taken up where nobody does. SagaNotFound, JournalUnavailable.

        None where it stands, having ended or FAILED, in another state than those of `also`, or where this coordinator
        stops.
        """
        await self._until_free(saga_id)
        driver = self._driven.get(saga_id)
        return driver if driver is not None else await self._take_up(saga_id, also)

    async def see_to(self, saga_id: str) -> None:
        """Have an unfinished saga driven whenever that is due. Errors as `find`."""
        if saga_id not in self._resting:
            await self.find(saga_id)

    async def begin(self, saga: Saga, first: Turn, definition: LoadedDefinition) -> None:
        """Begin a saga with its first turn; returns when that is durable. SagaExists, JournalUnavailable."""
        await self._until_free(saga.saga_id)
        with self._taking({saga.saga_id: self._resting.take(saga.saga_id)}) as taking:
            try:
                await _reach(Failpoint.START_BEFORE_APPEND, saga.saga_id)
                await self._journal.append(Append(saga.saga_id, first.events, index_of(saga)))
                await _reach(Failpoint.START_AFTER_APPEND, saga.saga_id)
            except JournalUnavailable:
                if saga.saga_id not in self._driven:  # it may be durable all the same
                    taking[saga.saga_id].rest = taking[saga.saga_id].rest or self._left()
                raise
            log_transitions(saga, first.events)
            self._add(Driver(saga, definition, self._world, self)).begin(first.wanted)
            taking[saga.saga_id].rest = None

    # --- What a driver tells, and what others tell it ---

    def gone(self, driver: Driver) -> None:
        """The driver is not needed any more."""
        self._driven.pop(driver.saga_id, None)
        if len(self._driven) < limits.DRIVEN_SAGAS:
            self._room.set()

    def rests(self, driver: Driver, rest: Rest) -> None:
        """The driver is gone because its saga only waits."""
        self.gone(driver)
        self._resting.put(driver.saga_id, rest)

    def tell_parent(self, parent: ParentStep) -> None:
        """There is news of the saga that runs as that step."""
        driver = self._driven.get(parent.saga_id)
        if driver is not None:
            driver.hasten(parent.step)
        else:
            self._stir(parent.saga_id, parent.step)

    def keys_settled(self, saga_id: str, given: Input) -> None:
        """The saga holds its exclusive keys, or never will."""
        driver = self._driven.get(saga_id)
        if driver is not None:
            driver.give(given)
        else:
            self._stir(saga_id)  # it asks once more then, and is told again

    def _stir(self, saga_id: str, step: str = "") -> None:
        """There is news for a saga that nobody drives; where it is being taken up, that can fail."""
        taking = self._taking_up.get(saga_id)
        if taking is None:
            self._resting.stir(saga_id, step)
        elif taking.rest is not None:
            taking.rest.stir(self._world.clock.now_ns(), step)

    # --- Taking up one ---

    async def _take_up(self, saga_id: str, also: States) -> Driver | None:
        with self._taking({saga_id: self._resting.take(saga_id)}) as taken:
            taking = taken[saga_id]
            index = await self._journal.find(saga_id)
            if index is None:
                taking.rest = None
                raise SagaNotFound(saga_id)
            if self.draining:
                return None
            if index.state in STANDING and (index.quarantined or index.state not in also):
                taking.rest = None
                return None
            try:
                saga, definition = await self._loading.one(index)
                return await self._drive(saga, definition, taking)
            except UnreadableSaga as error:
                log.error("a saga is set aside: %s", error)  # the error says all there is to say
                await self._journal.quarantine(saga_id, error.reason)
                taking.rest = None
                self._world.changes.disturb(saga_id)
                self.tell_parent(ParentStep(saga_id=index.parent_saga_id, step=saga_id.rpartition("/")[2]))
                return None

    async def _drive(self, saga: Saga, definition: LoadedDefinition, taking: _TakingUp) -> Driver:
        """Drive a saga that was read back. UnreadableSaga where that cannot be."""
        left = taking.rest is None or taking.rest.left
        with readable(saga.saga_id):
            driver = Driver(saga, definition, self._world, self, None if left else taking.rest)
        if not left:
            driver.give(None)
        elif saga.state not in STANDING:
            await _reach(Failpoint.RECOVERY_BEFORE_LOST, saga.saga_id)
            driver.give(Recovered())
        taking.rest = None
        return self._add(driver)

    @contextmanager
    def _taking(self, rests: Mapping[str, Rest | None]) -> Iterator[Mapping[str, _TakingUp]]:
        """Nobody else takes the sagas up meanwhile. Those of which a rest is left in the end rest as before."""
        loop = asyncio.get_running_loop()
        taken = {saga_id: _TakingUp(rest, loop.create_future()) for saga_id, rest in rests.items()}
        self._taking_up |= taken
        try:
            yield taken
        finally:
            for saga_id, taking in taken.items():
                del self._taking_up[saga_id]
                if taking.rest is not None:
                    self._resting.put(saga_id, taking.rest)
                taking.done.set_result(None)

    async def _until_free(self, saga_id: str) -> None:
        """Wait while somebody else takes the saga up."""
        while (taking := self._taking_up.get(saga_id)) is not None:
            await asyncio.shield(taking.done)

    def _add(self, driver: Driver) -> Driver:
        self._driven[driver.saga_id] = driver
        if self.draining:
            driver.drain()
        return driver

    # --- Taking up many ---

    def take_up_later(self, index: SagaIndex) -> bool:
        """Have a saga driven that a stopped coordinator left unfinished; False where nobody has to."""
        if index.state in STANDING:
            return False
        taking = self._taking_up.get(index.saga_id)
        if taking is not None:  # that can fail
            taking.rest = taking.rest or self._left()
        elif index.saga_id not in self._driven and index.saga_id not in self._resting:
            self._resting.put(index.saga_id, self._left(index))
        return True

    async def caught_up(self) -> None:
        """Wait until all that is due has been taken up, as far as the journal can be read."""
        self._wake()
        assert self._waking is not None
        await asyncio.shield(self._waking)

    def _left(self, index: SagaIndex | None = None) -> Rest:
        """What is kept of a saga that nobody has driven here: it is due, but for one whose start is yet to come.

        Where the clock was set back since it was created, its row does not say when that is by its own clock (rule 4).
        """
        now_ns = self._world.clock.now_ns()
        if index is None or index.state != SAGA_STATE_PENDING or index.create_time_ns > now_ns:
            return Rest(now_ns, left=True)
        return Rest(index.start_time_ns, left=True)

    def _wake(self) -> None:
        """Sagas that rest are due."""
        if self._waking is None or self._waking.done():
            self._waking = self._world.tasks.spawn(self._take_up_due())

    async def _take_up_due(self) -> None:
        try:
            while not self.draining and (due := self._resting.take_due(limits.TAKE_UP_BATCH)):
                alone = await self._take_up_together(due)
                if alone and not sum([await self._take_up_alone(saga_id) for saga_id in alone]):
                    await asyncio.sleep(_PAUSE_S)  # the journal cannot be read
                await self._until_room()
        finally:
            self._resting.watch()

    async def _take_up_together(self, rests: Mapping[str, Rest]) -> Sequence[str]:
        """Take up sagas with one read; returns those of which that cannot be done, and which rest as before."""
        with self._taking(rests) as taken:
            try:
                for saga_id in taken:
                    await _reach(Failpoint.RECOVERY_BEFORE_SAGA, saga_id)
                for saga_id, (saga, definition) in (await self._loading.many(list(rests))).items():
                    if saga.state in STANDING:
                        taken[saga_id].rest = None
                    elif not self.draining:
                        await self._drive(saga, definition, taken[saga_id])
            except Exception:  # each of those that are left says by itself what is wrong
                log.debug("sagas could not be taken up together", exc_info=True)
            return [saga_id for saga_id, taking in taken.items() if taking.rest is not None]

    async def _take_up_alone(self, saga_id: str) -> bool:
        """Take up a saga, or let it rest a little longer; whatever is wrong with it, it must not hold up others."""
        try:
            await self.find(saga_id)
        except SagaNotFound:
            return True
        except JournalUnavailable:
            self._resting.postpone(saga_id, limits.JOURNAL_PROBE_INTERVAL_NS)
            return False
        except Exception:
            log.exception("saga %s could not be taken up", saga_id)
            self._resting.postpone(saga_id, limits.JOURNAL_PROBE_INTERVAL_NS)
            return False
        return True

    async def _until_room(self) -> None:
        """Wait while many sagas are driven; not for long, as those may all wait for one that does not answer."""
        await asyncio.sleep(0)
        if len(self._driven) >= limits.DRIVEN_SAGAS:
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._room.wait()

    # --- Stopping ---

    def drain(self) -> None:
        """Have all drivers decide on nothing more; what rests goes on resting."""
        self.stopping.set()
        self._resting.close()
        for driver in list(self._driven.values()):
            driver.drain()

    def stop(self) -> None:
        """Drive no saga any longer."""
        self.stopping.set()
        self._resting.close()
        for driver in list(self._driven.values()):
            driver.stop()


_PAUSE_S: Final = limits.TAKE_UP_PAUSE_NS / limits.SECOND_NS


def _reach(point: Failpoint, saga_id: str) -> Awaitable[None]:
    return failpoints.reached(point, error=JournalUnavailable, sagas=(saga_id,))
