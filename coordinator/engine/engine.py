"""The engine: starts sagas, finds who drives one, takes up what a stopped coordinator left, and stops in good order.

Drivers exist for unfinished sagas only. Whatever concerns a saga that nobody drives is read from the journal. This
module must not decide what a saga does next; that is the core's, and the drivers'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from google.protobuf.any_pb2 import Any
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from coordinator import failpoints
from coordinator.core import limits
from coordinator.core.decide import decide
from coordinator.core.definition import Problem
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    CancelRequested,
    Done,
    Input,
    PauseRequested,
    Recovered,
    Refused,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
    Unknown,
)
from coordinator.core.instants import to_timestamp
from coordinator.core.keys import Blocked
from coordinator.core.state import ENDED, IllegalEvent, Saga, apply, fold, state_after
from coordinator.core.turn import turn
from coordinator.dataflow.pinned import UnreadableDefinitionError
from coordinator.engine import admission
from coordinator.engine.children import Children, WithChildren
from coordinator.engine.definitions import Definitions
from coordinator.engine.driver import Driver, Stopped
from coordinator.engine.errors import (
    DefinitionDeprecated,
    DefinitionNotFound,
    EngineError,
    InvalidRequest,
    OverLimit,
    SagaRetired,
    SequenceMismatch,
    ShuttingDown,
    StartedDifferently,
)
from coordinator.engine.index import index_of
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.requests import operation_of
from coordinator.engine.transitions import log_transitions
from coordinator.engine.world import World
from coordinator.failpoints import Failpoint
from coordinator.journal.errors import JournalError, JournalUnavailable, SagaExists, SagaNotFound, UnreadableSaga
from coordinator.journal.port import Append, Page, SagaCursor, SagaIndex
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
    ParentStep,
    SagaCreated,
    SagaEvent,
)
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import (
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_UNSPECIFIED,
    SagaState,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
_States: TypeAlias = frozenset[SagaState.ValueType]
Steering: TypeAlias = PauseRequested | ResumeRequested | RetryRequested | ResolveRequested


@dataclass(frozen=True, slots=True)
class Started:
    """A saga that a request stands for; `created` says whether this request started it."""

    saga_id: str
    created: bool


class Engine:
    """Drives the sagas of one journal."""

    def __init__(
        self, world: World, definitions: Definitions, unfinished_max: int = limits.UNFINISHED_SAGAS_MAX
    ) -> None:
        self.definitions = definitions
        self.children = Children(self, definitions, world.clock, world.new_uid)
        self._world = world = replace(world, caller=WithChildren(world.caller, self.children))
        self._journal = world.journal
        self._unfinished_max = unfinished_max
        self._drivers: dict[str, Driver] = {}
        self._taking_up: dict[str, asyncio.Future[None]] = {}
        self._draining = False
        self.stopping: Final = asyncio.Event()
        """Set once nothing new is taken."""

    # --- Starting ---

    async def start(self, request: StartSagaRequest) -> Started:
        """Start a saga; returns when that is durable (G1). The same id with the same request is the same saga (G10).

        Raises what `errors` lists, and JournalUnavailable where the saga may or may not have been started.
        """
        try:
            definition = await self._admit(request)
            versions = await self.definitions.action_versions(definition)
            uid = self._world.new_uid(self._world.clock.now_ns())
            created = admission.created(request, definition, uid, versions)
        except EngineError:
            if request.saga_id and await self._is_the_same(request):
                return Started(request.saga_id, created=False)
            raise
        saga_id = request.saga_id or uid
        try:
            await self.begin(saga_id, definition, created)
        except SagaExists:
            if await self._is_the_same(request):
                return Started(saga_id, created=False)
            raise
        await _reach(Failpoint.START_BEFORE_ANSWER, saga_id)
        return Started(saga_id, created=True)

    async def begin(
        self, saga_id: str, definition: LoadedDefinition, created: SagaCreated, given: Input | None = None
    ) -> None:
        """Begin a saga with its first event, and take an input in at once; returns when that is durable. SagaExists."""
        if self._draining:
            raise ShuttingDown
        now_ns = self._world.clock.now_ns()
        saga = Saga(saga_id, definition.plan)
        first = SagaEvent(saga_id=saga_id, sequence=1, time=to_timestamp(now_ns), saga_created=created)
        apply(saga, first)
        events = [first, *turn(saga, given, now_ns, definition.oracle).events]
        # In a task of its own: a caller that is gone must not leave a saga behind that nobody drives.
        creating = self._world.tasks.spawn(self._create(saga, events, definition))
        creating.add_done_callback(_seen)
        await asyncio.shield(creating)

    def demand_room(self) -> None:
        """OverLimit where so many sagas are unfinished that no more are taken; those that others need always begin."""
        if self.unfinished >= self._unfinished_max:
            message = f"{self._unfinished_max} sagas are unfinished, and no more are taken"
            raise OverLimit(message, limits.ADMISSION_RETRY_AFTER_NS)

    async def _admit(self, request: StartSagaRequest) -> LoadedDefinition:
        if self._draining:
            raise ShuttingDown
        self.demand_room()
        definition = await self.definitions.newest(request.definition, request.version)
        if definition.stored.deprecated:
            raise DefinitionDeprecated(request.definition, definition.stored.version)
        return definition

    async def _create(self, saga: Saga, events: Sequence[SagaEvent], definition: LoadedDefinition) -> None:
        await self._until_free(saga.saga_id)
        with self._taking(saga.saga_id):
            try:
                await _reach(Failpoint.START_BEFORE_APPEND, saga.saga_id)
                await self._journal.append(Append(saga.saga_id, events, index_of(saga)))
                await _reach(Failpoint.START_AFTER_APPEND, saga.saga_id)
            except JournalUnavailable:
                self._world.tasks.spawn(self._take_up_when_possible(saga.saga_id))  # it may be durable all the same
                raise
            log_transitions(saga, events)
            self._add(Driver(saga, definition, self._world, self)).give(None)

    async def _is_the_same(self, request: StartSagaRequest) -> bool:
        """Whether a saga of that id was started with this request; False where there is none.

        StartedDifferently; SagaRetired where only a tombstone of it is left.
        """
        try:
            saga = await self.read(request.saga_id, _itself)
        except SagaNotFound:
            tombstone = await self._journal.find_tombstone(request.saga_id)
            if tombstone is not None:
                state = SagaState.Name(tombstone.state).removeprefix("SAGA_STATE_")
                raise SagaRetired(request.saga_id, state) from None
            return False
        definition = await self.definitions.pinned(saga.plan.name, saga.plan.version)
        if admission.digest(request, definition) != saga.request_digest:
            raise StartedDifferently(request.saga_id)
        if not saga.ended:
            await self._driver(request.saga_id)
        return True

    # --- For sagas that run as steps of others ---

    async def retired(self, saga_id: str) -> SagaState.ValueType | None:
        """How a saga ended of which only a tombstone is left; None where there is none."""
        tombstone = await self._journal.find_tombstone(saga_id)
        return tombstone.state if tombstone is not None else None

    async def root_of(self, context: StepContext) -> str:
        """The outermost saga of this coordinator above the step; empty where its saga runs elsewhere."""
        parent = await self._journal.find(context.saga_id)
        if parent is None or parent.uid != context.saga_uid:
            return ""
        return parent.root_saga_id or parent.saga_id

    async def tell(self, saga_id: str, given: Input) -> None:
        """Have a saga take in the word of its parent, also one that has ended. Forbidden, SagaNotFound."""
        await self._ask(saga_id, given, 0, also=_STANDING)

    def tell_with_keys(self, saga: Saga, given: Input) -> None:
        """Have a saga that has ended take in the word of its parent, once it holds its exclusive keys again."""

        def tell(_granted: Input) -> None:
            self._world.tasks.spawn(self._tell_when_possible(saga.saga_id, given))

        self._world.exclusion.want_again(saga, tell, self._world.clock.now_ns())

    async def _tell_when_possible(self, saga_id: str, given: Input) -> None:
        with suppress(EngineError, JournalError, Forbidden):  # its parent asks again
            await self.tell(saga_id, given)

    def tell_parent(self, parent: ParentStep) -> None:
        """There is news of the saga that runs as that step."""
        driver = self._drivers.get(parent.saga_id)
        if driver is not None:
            driver.hasten(parent.step)

    def blocked(self, saga_id: str) -> list[Blocked]:
        """The exclusive keys that the saga waits for."""
        return self._world.exclusion.blocked(saga_id)

    # --- Reading ---

    async def read(self, saga_id: str, look: Callable[[Saga], T]) -> T:
        """What `look` sees of a saga; everything that it sees is durable (G1). SagaNotFound, UnreadableSaga."""
        while (driver := self._drivers.get(saga_id)) is not None:
            try:
                return await driver.read(look)
            except Stopped:
                continue
        index = await self._journal.find(saga_id)
        if index is None:
            raise SagaNotFound(saga_id)
        if index.quarantined and index.failure is not None:
            raise UnreadableSaga(saga_id, index.failure.message)
        saga, _ = await self._fold(index)
        return look(saga)

    async def wait(self, saga_id: str, timeout_s: float) -> bool:
        """Wait until the saga stands COMPLETED, COMPENSATED or FAILED; False where the time is over before.

        Errors as `look_when_standing`, but a saga that cannot be read is shown as FAILED.
        """
        try:
            return await self.look_when_standing(saga_id, lambda _saga: True, timeout_s) is not None
        except UnreadableSaga:
            return True

    async def look_when_standing(self, saga_id: str, look: Callable[[Saga], T], timeout_s: float) -> T | None:
        """What `look` sees of the saga once it stands COMPLETED, COMPENSATED or FAILED; None where the time is over.

        SagaNotFound, UnreadableSaga; ShuttingDown where the coordinator stops first.
        """
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            with self._world.changes.await_standing(saga_id, look) as standing:
                seen = await self.read(saga_id, lambda saga: [look(saga)] if saga.stands else [])
                if not seen and self._draining:
                    raise ShuttingDown
                try:
                    async with asyncio.timeout_at(until):
                        seen = seen or await standing
                except TimeoutError:
                    return None
            if seen:
                return seen[0]

    async def watch(
        self, saga_id: str, after_sequence: int
    ) -> AsyncGenerator[tuple[SagaEvent, SagaState.ValueType], None]:
        """The events behind `after_sequence` as they become durable, each with the saga's state after it.

        Ends with the saga; stays open while it stands FAILED. SagaNotFound, UnreadableSaga; ShuttingDown where the
        coordinator stops first.
        """
        state: SagaState.ValueType = SAGA_STATE_UNSPECIFIED
        read_up_to = 0
        with self._world.changes.follow(saga_id) as changed:
            while True:
                changed.clear()
                events = await self._journal.read(saga_id, read_up_to, limits.WATCH_BUFFER_EVENTS)
                for event in events:
                    state = state_after(state, event)
                    read_up_to = event.sequence
                    if event.sequence > after_sequence:
                        yield event, state
                if state in ENDED and len(events) < limits.WATCH_BUFFER_EVENTS:  # a child that completed may go back
                    return
                if not events:
                    if self._draining:
                        raise ShuttingDown
                    await changed.wait()

    async def _fold(self, index: SagaIndex) -> tuple[Saga, LoadedDefinition]:
        """The saga as the journal has it."""
        with _readable(index.saga_id):
            definition = await self.definitions.pinned(index.definition, index.version)
            events = await self._journal.read(index.saga_id)
            return fold(Saga(index.saga_id, definition.plan), events), definition

    # --- Steering ---

    async def cancel(self, saga_id: str, request: CancelRequested, expected_sequence: int = 0) -> None:
        """Turn a saga back. Forbidden where its state does not allow it; SequenceMismatch, SagaNotFound."""
        await self._ask(saga_id, request, expected_sequence)

    async def steer(self, saga_id: str, request: Steering, expected_sequence: int = 0) -> None:
        """Do as an operator asks; also to a saga that stands FAILED. Errors as `cancel`."""
        if isinstance(request, ResolveRequested):
            await self._demand_agreement(saga_id, request)
        await self._ask(saga_id, request, expected_sequence, also=_FAILED)

    async def preview(
        self, saga_id: str, request: Steering, look: Callable[[Saga], T], expected_sequence: int = 0
    ) -> T:
        """What `look` would see of the saga once `request` was granted; nothing is recorded. Errors as `cancel`."""
        index = await self._journal.find(saga_id)
        if index is None:
            raise SagaNotFound(saga_id)
        saga, definition = await self._fold(index)
        if expected_sequence and saga.last_sequence != expected_sequence:
            raise SequenceMismatch(saga_id, expected_sequence, saga.last_sequence)
        if isinstance(request, ResolveRequested):
            await self._demand_agreement(saga_id, request)
        now_ns = max(self._world.clock.now_ns(), saga.last_time_ns)
        turn(saga, request, now_ns, definition.oracle)
        return look(saga)

    async def _demand_agreement(self, saga_id: str, request: ResolveRequested) -> None:
        """Forbidden where a step is a saga of this coordinator, and that saga itself says something else."""
        child = await self._child_of(saga_id, request.step)
        if child is None or child.quarantined or child.state == _AGREES[request.resolution]:
            return
        stands = SagaState.Name(child.state).removeprefix("SAGA_STATE_")
        raise Forbidden(
            f"step `{request.step}` is the saga `{child.saga_id}`, which stands {stands}",
            "cancel, retry or resolve that one: the step follows it",
        )

    async def _child_of(self, saga_id: str, step: str) -> SagaIndex | None:
        """The saga that runs here as the step; None where none does."""
        steps = await self.read(saga_id, lambda saga: {each.name: each.in_process for each in saga.plan.steps})
        return await self._journal.find(f"{saga_id}/{step}") if steps.get(step) else None

    async def report(self, saga_id: str, step: str, key: str, reply: Done | Refused | Unknown) -> None:
        """Take in what a participant reports of an operation of its own accord (rule 7).

        InvalidRequest where the key is none of the step's, or the output is not of the action's type. Errors as
        `cancel`.
        """
        if (child := await self._child_of(saga_id, step)) is not None:
            raise Forbidden(f"step `{step}` is the saga `{child.saga_id}`", "it reports by itself what becomes of it")
        operation = await self.read(saga_id, lambda saga: operation_of(saga, step, key))
        if operation is None:
            expected = "the key that the call came with"
            raise InvalidRequest([Problem("idempotency_key", f"not a key of a step `{step}` of this saga", expected)])
        if operation == OPERATION_EXECUTE and isinstance(reply, Done):
            await self.check_output(saga_id, step, reply.output or Any())
        await self._ask(saga_id, Reported(step, operation, reply), 0)

    async def check_output(self, saga_id: str, step: str, output: Any | None) -> None:
        """InvalidRequest where that is no output of the step."""
        if output is None:
            return
        saga = await self.read(saga_id, _itself)
        definition = await self.definitions.pinned(saga.plan.name, saga.plan.version)
        names = {each.name for each in saga.plan.steps}
        if step in names and (objection := definition.program.accepts_output(step, output)) is not None:
            expected = f"a `{definition.program.output_type(step)}`"
            raise InvalidRequest([Problem("completed.output", objection, expected)])

    async def _ask(self, saga_id: str, given: Input, expected_sequence: int, *, also: _States = frozenset()) -> None:
        if self._draining:
            raise ShuttingDown
        while (driver := await self._driver(saga_id, also=also)) is not None:
            await _reach(Failpoint.ASK_BEFORE, saga_id)
            try:
                await driver.ask(given, expected_sequence)
            except Stopped:
                continue
            await _reach(Failpoint.ASK_AFTER, saga_id)
            return
        saga = await self.read(saga_id, _itself)
        if decide(saga, given, self._world.clock.now_ns()):  # of a saga that nobody has to drive it is mostly Forbidden
            raise ShuttingDown

    # --- Who drives which saga ---

    async def _driver(self, saga_id: str, *, also: _States = frozenset()) -> Driver | None:
        """Who drives the saga; somebody is found where nobody does.

        None where it stands, having ended or FAILED, in another state than those of `also`.
        """
        await self._until_free(saga_id)
        driver = self._drivers.get(saga_id)
        return driver if driver is not None else await self._take_up(saga_id, also)

    async def _take_up(self, saga_id: str, also: _States) -> Driver | None:
        with self._taking(saga_id):
            index = await self._journal.find(saga_id)
            if index is None:
                raise SagaNotFound(saga_id)
            stands = index.state in _STANDING
            if (stands and (index.quarantined or index.state not in also)) or self._draining:
                return None
            try:
                driver = await self._driver_of(index)
            except UnreadableSaga as error:
                log.error("a saga is set aside: %s", error)  # the error says all there is to say
                await self._journal.quarantine(saga_id, error.reason)
                self._world.changes.disturb(saga_id)
                return None
            if not stands:
                await _reach(Failpoint.RECOVERY_BEFORE_LOST, saga_id)
                driver.give(Recovered())
            return self._add(driver)

    async def _driver_of(self, index: SagaIndex) -> Driver:
        saga, definition = await self._fold(index)
        with _readable(index.saga_id):
            return Driver(saga, definition, self._world, self)

    async def _take_up_when_possible(self, saga_id: str) -> bool:
        """Find somebody to drive the saga, however long the journal cannot be used; False where nobody has to."""
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(JournalUnavailable), wait=_WAIT_FOR_JOURNAL):
            with attempt:
                await _reach(Failpoint.RECOVERY_BEFORE_SAGA, saga_id)
                try:
                    return await self._driver(saga_id) is not None
                except SagaNotFound:
                    return False
        raise AssertionError("tenacity retries without end")

    async def _until_free(self, saga_id: str) -> None:
        """Wait while somebody else finds a driver for the saga."""
        while (taking_up := self._taking_up.get(saga_id)) is not None:
            await asyncio.shield(taking_up)

    @contextmanager
    def _taking(self, saga_id: str) -> Iterator[None]:
        """Nobody else finds a driver for the saga meanwhile."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._taking_up[saga_id] = done
        try:
            yield
        finally:
            del self._taking_up[saga_id]
            done.set_result(None)

    def _add(self, driver: Driver) -> Driver:
        self._drivers[driver.saga_id] = driver
        if self._draining:
            driver.drain()
        return driver

    def gone(self, driver: Driver) -> None:
        """The driver is not needed any more."""
        self._drivers.pop(driver.saga_id, None)

    # --- The engine's own life ---

    async def open(self) -> None:
        """Take in who holds and who waits for exclusive keys; to be done before anything else (rule 6)."""
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(JournalUnavailable), wait=_WAIT_FOR_JOURNAL):
            with attempt:
                await failpoints.reached(Failpoint.RECOVERY_BEFORE_KEYS, error=JournalUnavailable)
                await self._world.exclusion.restore(self._journal, self._world.clock.now_ns())

    async def recover(self) -> int:
        """Take up every saga that a stopped coordinator left unfinished; returns how many.

        Others can be started meanwhile; a saga that somebody asks for is taken up first. One that cannot be read is set
        aside, and the others go on (rule 11).
        """
        taken_up = 0
        after: SagaCursor | None = None
        while not self._draining:
            page = await self._unfinished_page(after)
            for batch in _batches(page.items, limits.RECOVERY_CONCURRENCY):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._take_up_when_possible(index.saga_id)) for index in batch]
                taken_up += sum(task.result() for task in tasks)
            after = page.next
            if after is None:
                break
        return taken_up

    async def _unfinished_page(self, after: SagaCursor | None) -> Page[SagaIndex, SagaCursor]:
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(JournalUnavailable), wait=_WAIT_FOR_JOURNAL):
            with attempt:
                await failpoints.reached(Failpoint.RECOVERY_BEFORE_PAGE, error=JournalUnavailable)
                return await self._journal.unfinished(after, limits.RECOVERY_PAGE)
        raise AssertionError("tenacity retries without end")

    async def drain(self, timeout_s: float) -> bool:
        """Decide on nothing more, and wait until what is in flight is recorded; False where the time is over before."""
        self._draining = True
        self.stopping.set()
        self._world.exclusion.close()
        self._world.changes.disturb_all()
        for driver in list(self._drivers.values()):
            driver.drain()
        await failpoints.reached(Failpoint.DRAIN_BEGIN)
        drained = await self._world.tasks.join(timeout_s)
        await failpoints.reached(Failpoint.DRAIN_END)
        return drained

    async def close(self) -> None:
        """Let go of everything. What is durable is taken up by the next coordinator."""
        self._draining = True
        self.stopping.set()
        self._world.exclusion.close()
        for driver in list(self._drivers.values()):
            driver.stop()
        await self._world.tasks.cancel()

    @property
    def unfinished(self) -> int:
        """How many sagas are driven now, or are about to be."""
        return len(self._drivers) + len(self._taking_up)


_FAILED: Final[_States] = frozenset((SAGA_STATE_FAILED,))
_STANDING: Final[_States] = ENDED | _FAILED
"""Where a saga is that nobody has to drive."""

_AGREES: Final = {
    RESOLUTION_COMPLETED: SAGA_STATE_COMPLETED,
    RESOLUTION_CONFIRMED: SAGA_STATE_COMPLETED,
    RESOLUTION_NO_EFFECT: SAGA_STATE_COMPENSATED,
    RESOLUTION_COMPENSATED: SAGA_STATE_COMPENSATED,
}
"""Where a child stands of which an operator states that."""

_WAIT_FOR_JOURNAL = wait_exponential(multiplier=0.05, max=5)


def _seen(task: asyncio.Task[None]) -> None:
    """What it raised is its caller's to tell, and nobody's where that one is gone."""
    if not task.cancelled():
        task.exception()


def _reach(point: Failpoint, saga_id: str) -> Awaitable[None]:
    return failpoints.reached(point, error=JournalUnavailable, sagas=(saga_id,))


def _itself(saga: Saga) -> Saga:
    return saga


@contextmanager
def _readable(saga_id: str) -> Iterator[None]:
    """Whatever goes wrong inside means that this saga cannot be read, and concerns no other (rule 11)."""
    try:
        yield
    except JournalError:
        raise
    except (DefinitionNotFound, UnreadableDefinitionError, IllegalEvent) as error:
        raise UnreadableSaga(saga_id, str(error)) from error
    except Exception as error:
        log.exception("saga %s cannot be read", saga_id)
        raise UnreadableSaga(saga_id, "the coordinator failed to read it; its log has the details") from error


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
