"""The engine: what can be asked of a coordinator, from a saga's start on, and the coordinator's own life.

Whatever changes an unfinished saga goes to its driver; a saga that nobody drives is read from the journal. This module
must not decide what a saga does next; that is the core's, and the drivers'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
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
    Refused,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
    Unknown,
)
from coordinator.core.instants import put_instant
from coordinator.core.keys import Blocked
from coordinator.core.state import ENDED, Saga, apply, state_after
from coordinator.core.turn import Turn, turn
from coordinator.engine import admission
from coordinator.engine.children import Children, WithChildren
from coordinator.engine.definitions import Definitions
from coordinator.engine.driver import Stopped
from coordinator.engine.drivers import FAILED, STANDING, Drivers, States
from coordinator.engine.errors import (
    DefinitionDeprecated,
    EngineError,
    InvalidRequest,
    OverLimit,
    Overloaded,
    SagaRetired,
    SequenceMismatch,
    ShuttingDown,
    StartedDifferently,
)
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.loading import Loading
from coordinator.engine.requests import operation_of
from coordinator.engine.world import World
from coordinator.failpoints import Failpoint
from coordinator.journal.errors import JournalError, JournalUnavailable, SagaExists, SagaNotFound, UnreadableSaga
from coordinator.journal.port import Page, SagaCursor, SagaIndex
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
    SagaCreated,
    SagaEvent,
)
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import (
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
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
        own_children = Children(self, definitions, world.clock, world.new_uid, limits.OWN_CHILD_POLL_MAX_NS)
        self._world = world = replace(world, caller=WithChildren(world.caller, own_children))
        self._journal = world.journal
        self._unfinished_max = unfinished_max
        self._loading = Loading(world.journal, definitions)
        self._drivers = Drivers(world, self._loading)

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
        except Overloaded:  # whether it was started before is not looked up: that would be more to do
            raise
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
        if self._drivers.draining:
            raise ShuttingDown
        now_ns = self._world.clock.now_ns()
        saga = Saga(saga_id, definition.plan)
        first = SagaEvent(saga_id=saga_id, sequence=1)
        put_instant(first.time, now_ns)
        first.saga_created.CopyFrom(created)
        apply(saga, first)
        taken = turn(saga, given, now_ns, definition.oracle)
        begun = Turn([first, *taken.events], taken.wanted)
        # In a task of its own: a caller that is gone must not leave a saga behind that nobody drives.
        creating = self._world.tasks.spawn(self._drivers.begin(saga, begun, definition))
        creating.add_done_callback(_seen)
        await asyncio.shield(creating)

    def demand_room(self) -> None:
        """OverLimit where so many sagas are unfinished that no more are taken; those that others need always begin."""
        if self.unfinished >= self._unfinished_max:
            message = f"{self._unfinished_max} sagas are unfinished, and no more are taken"
            raise OverLimit(message, limits.ADMISSION_RETRY_AFTER_NS)

    async def _admit(self, request: StartSagaRequest) -> LoadedDefinition:
        if self._drivers.draining:
            raise ShuttingDown
        self.demand_room()
        definition = await self.definitions.newest(request.definition, request.version)
        if definition.stored.deprecated:
            raise DefinitionDeprecated(request.definition, definition.stored.version)
        self._demand_pace(definition)
        return definition

    def _demand_pace(self, definition: LoadedDefinition) -> None:
        """Overloaded where a participant that the saga needs cannot keep up; sagas that do not need it are taken."""
        for name in definition.plan.participants:
            behind_s = self._world.behind_s(name)
            if behind_s * limits.SECOND_NS > limits.BEHIND_MAX_NS:
                raise Overloaded(f"calls to `{name}` have waited {behind_s:.1f} s for a place")

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
            await self._drivers.see_to(request.saga_id)
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
        await self._ask(saga_id, given, 0, also=STANDING)

    def tell_with_keys(self, saga: Saga, given: Input) -> None:
        """Have a saga that has ended take in the word of its parent, once it holds its exclusive keys again."""

        def tell(_saga_id: str, _granted: Input) -> None:
            self._world.tasks.spawn(self._tell_when_possible(saga.saga_id, given))

        self._world.exclusion.want_again(saga, tell, self._world.clock.now_ns())

    async def _tell_when_possible(self, saga_id: str, given: Input) -> None:
        with suppress(EngineError, JournalError, Forbidden):  # its parent asks again
            await self.tell(saga_id, given)

    def blocked(self, saga_id: str) -> list[Blocked]:
        """The exclusive keys that the saga waits for."""
        return self._world.exclusion.blocked(saga_id)

    # --- Reading ---

    async def read(self, saga_id: str, look: Callable[[Saga], T]) -> T:
        """What `look` sees of a saga; everything that it sees is durable (G1). SagaNotFound, UnreadableSaga."""
        while (driver := self._drivers.driving(saga_id)) is not None:
            try:
                return await driver.read(look)
            except Stopped:
                continue
        index = await self._journal.find(saga_id)
        if index is None:
            raise SagaNotFound(saga_id)
        if index.quarantined and index.failure is not None:
            raise UnreadableSaga(saga_id, index.failure.message)
        saga, _ = await self._loading.one(index)
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
                if not seen and self._drivers.draining:
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
                    if self._drivers.draining:
                        raise ShuttingDown
                    await changed.wait()

    # --- Steering ---

    async def cancel(self, saga_id: str, request: CancelRequested, expected_sequence: int = 0) -> None:
        """Turn a saga back. Forbidden where its state does not allow it; SequenceMismatch, SagaNotFound."""
        await self._ask(saga_id, request, expected_sequence)

    async def steer(self, saga_id: str, request: Steering, expected_sequence: int = 0) -> None:
        """Do as an operator asks; also to a saga that stands FAILED. Errors as `cancel`."""
        if isinstance(request, ResolveRequested):
            await self._demand_agreement(saga_id, request)
        await self._ask(saga_id, request, expected_sequence, also=FAILED)

    async def preview(
        self, saga_id: str, request: Steering, look: Callable[[Saga], T], expected_sequence: int = 0
    ) -> T:
        """What `look` would see of the saga once `request` was granted; nothing is recorded. Errors as `cancel`."""
        index = await self._journal.find(saga_id)
        if index is None:
            raise SagaNotFound(saga_id)
        saga, definition = await self._loading.one(index)
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

    async def _ask(self, saga_id: str, given: Input, expected_sequence: int, *, also: States = frozenset()) -> None:
        if self._drivers.draining:
            raise ShuttingDown
        while (driver := await self._drivers.find(saga_id, also=also)) is not None:
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

    # --- The engine's own life ---

    async def open(self) -> None:
        """Take in who holds and who waits for exclusive keys; to be done before anything else (rule 6)."""
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(JournalUnavailable), wait=_WAIT_FOR_JOURNAL):
            with attempt:
                await failpoints.reached(Failpoint.RECOVERY_BEFORE_KEYS, error=JournalUnavailable)
                await self._world.exclusion.restore(self._journal, self._world.clock.now_ns())

    async def recover(self) -> int:
        """Have every saga driven that a stopped coordinator left unfinished; returns how many it left.

        Others can be started meanwhile; a saga that somebody asks for is taken up first. One that cannot be read is set
        aside, and the others go on (rule 11).
        """
        count = 0
        after: SagaCursor | None = None
        while not self._drivers.draining:
            page = await self._unfinished_page(after)
            count += sum(map(self._drivers.take_up_later, page.items))
            after = page.next
            if after is None:
                break
        await self._drivers.caught_up()
        return count

    async def _unfinished_page(self, after: SagaCursor | None) -> Page[SagaIndex, SagaCursor]:
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(JournalUnavailable), wait=_WAIT_FOR_JOURNAL):
            with attempt:
                await failpoints.reached(Failpoint.RECOVERY_BEFORE_PAGE, error=JournalUnavailable)
                return await self._journal.unfinished(after, limits.RECOVERY_PAGE)
        raise AssertionError("tenacity retries without end")

    async def drain(self, timeout_s: float) -> bool:
        """Decide on nothing more, and wait until what is in flight is recorded; False where the time is over before."""
        self._drivers.drain()
        self._world.exclusion.close()
        self._world.changes.disturb_all()
        await failpoints.reached(Failpoint.DRAIN_BEGIN)
        drained = await self._world.tasks.join(timeout_s)
        await failpoints.reached(Failpoint.DRAIN_END)
        return drained

    async def close(self) -> None:
        """Let go of everything. What is durable is taken up by the next coordinator."""
        self._world.exclusion.close()
        self._drivers.stop()
        await self._world.tasks.cancel()

    @property
    def stopping(self) -> asyncio.Event:
        """Set once nothing new is taken."""
        return self._drivers.stopping

    @property
    def unfinished(self) -> int:
        """How many sagas are driven, rest, or are about to be."""
        return len(self._drivers)

    @property
    def resting(self) -> int:
        """How many of them rest: nothing of them is kept in memory but when to look at them."""
        return self._drivers.resting


_AGREES: Final = {
    RESOLUTION_COMPLETED: SAGA_STATE_COMPLETED,
    RESOLUTION_CONFIRMED: SAGA_STATE_COMPLETED,
    RESOLUTION_NO_EFFECT: SAGA_STATE_COMPENSATED,
    RESOLUTION_COMPENSATED: SAGA_STATE_COMPENSATED,
}
"""Where a child stands of which an operator states that."""

_WAIT_FOR_JOURNAL: Final = wait_exponential(multiplier=0.05, max=5)


def _seen(task: asyncio.Task[None]) -> None:
    """What it raised is its caller's to tell, and nobody's where that one is gone."""
    if not task.cancelled():
        task.exception()


def _reach(point: Failpoint, saga_id: str) -> Awaitable[None]:
    return failpoints.reached(point, error=JournalUnavailable, sagas=(saga_id,))


def _itself(saga: Saga) -> Saga:
    return saga
