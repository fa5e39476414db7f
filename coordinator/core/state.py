"""A saga's state: what its events add up to.

`apply` folds one event into a saga, `fold` a whole journal. Everything that a saga may do stands in two tables,
`SAGA` and `STEP`: which happening is legal in which state, and which state follows. What the tables do not name
raises `IllegalEvent` and changes nothing. docs/states.md is generated from them.

The rules, in prose:

- A saga is PENDING until it starts, RUNNING while it goes forward, COMPENSATING once it has turned back. COMPLETED and
  COMPENSATED are its ends; FAILED stands until an operator takes it on.
- Execute starts in a RUNNING saga only, Compensate in a COMPENSATING one, Confirm behind the point of no return. What
  was in flight when the saga turned back is still recorded.
- A step whose Execute ended without an answer is UNKNOWN, never REJECTED: only a reply body says what happened (G5).
- Behind the point of no return nothing turns a saga back (G6).
- A saga that runs as a step of another, and can be compensated as a whole, has no such point until its parent says so:
  with holds it stays RUNNING until its parent confirms it, and what has COMPLETED is turned back by its parent alone.

This module must not decide anything: it says what is, `decide` what has happened, `outstanding` what must be under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.core.definition import Plan, StepPlan
from coordinator.core.frontier import Frontier
from coordinator.core.instants import earliest, from_duration, from_timestamp
from coordinator.core.retry import Policy
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CompensationStarted,
    ParentStep,
    SagaCompleted,
    SagaCreated,
    SagaEvent,
    SagaFailed,
    SagaStarted,
    StepCompensated,
    StepCompensationFailed,
    StepCompleted,
    StepConfirmed,
    StepPending,
    StepRejected,
    StepResolved,
    StepStuck,
)
from saga.v1.types_pb2 import (
    FAILURE_KIND_LOST,
    FAILURE_KIND_REJECTED,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    SAGA_STATE_UNSPECIFIED,
    STEP_KIND_RESERVABLE,
    STEP_STATE_COMPENSATED,
    STEP_STATE_COMPENSATING,
    STEP_STATE_COMPENSATION_FAILED,
    STEP_STATE_COMPLETED,
    STEP_STATE_CONFIRMED,
    STEP_STATE_CONFIRMING,
    STEP_STATE_EXECUTING,
    STEP_STATE_PENDING,
    STEP_STATE_REJECTED,
    STEP_STATE_SKIPPED,
    STEP_STATE_UNKNOWN,
    STEP_STATE_WAITING,
    Failure,
    Operation,
    SagaState,
    StepState,
)

# What can happen to a step, and the state that follows. "Going back" marks what happens while the saga compensates.
STEP: Final[Mapping[StepState.ValueType, Mapping[str, StepState.ValueType]]] = {
    STEP_STATE_WAITING: {
        "skipped": STEP_STATE_SKIPPED,
        "execute started": STEP_STATE_EXECUTING,
        "input failed": STEP_STATE_WAITING,
        "resolved completed": STEP_STATE_COMPLETED,
        "retried": STEP_STATE_WAITING,
    },
    STEP_STATE_EXECUTING: {
        "execute started": STEP_STATE_EXECUTING,
        "execute failed, another attempt follows": STEP_STATE_EXECUTING,
        "execute failed": STEP_STATE_UNKNOWN,
        "execute lost, another attempt follows": STEP_STATE_EXECUTING,
        "execute lost": STEP_STATE_UNKNOWN,
        "execute pending": STEP_STATE_PENDING,
        "completed": STEP_STATE_COMPLETED,
        "rejected": STEP_STATE_REJECTED,
        "rejected, an earlier attempt in doubt": STEP_STATE_UNKNOWN,
        "saga turned back": STEP_STATE_UNKNOWN,
    },
    STEP_STATE_PENDING: {
        "execute pending": STEP_STATE_PENDING,
        "execute failed, another attempt follows": STEP_STATE_EXECUTING,
        "execute failed": STEP_STATE_UNKNOWN,
        "execute lost, another attempt follows": STEP_STATE_PENDING,
        "execute lost": STEP_STATE_PENDING,
        "completed": STEP_STATE_COMPLETED,
        "rejected": STEP_STATE_REJECTED,
        "rejected, an earlier attempt in doubt": STEP_STATE_UNKNOWN,
        "saga turned back": STEP_STATE_PENDING,
        "compensate started": STEP_STATE_COMPENSATING,
        "resolved completed": STEP_STATE_COMPLETED,
        "resolved no effect": STEP_STATE_REJECTED,
    },
    STEP_STATE_UNKNOWN: {
        "compensate started": STEP_STATE_COMPENSATING,
        "stuck": STEP_STATE_UNKNOWN,
        "retried": STEP_STATE_EXECUTING,
        "resolved completed": STEP_STATE_COMPLETED,
        "resolved no effect": STEP_STATE_REJECTED,
        "resolved compensated": STEP_STATE_COMPENSATED,
    },
    STEP_STATE_COMPLETED: {
        "compensate started": STEP_STATE_COMPENSATING,
        "confirm started": STEP_STATE_CONFIRMING,
    },
    STEP_STATE_COMPENSATING: {
        "compensate started": STEP_STATE_COMPENSATING,
        "compensate failed, another attempt follows": STEP_STATE_COMPENSATING,
        "compensate failed": STEP_STATE_COMPENSATING,
        "compensate lost": STEP_STATE_COMPENSATING,
        "compensate pending": STEP_STATE_COMPENSATING,
        "compensated": STEP_STATE_COMPENSATED,
        "compensation failed": STEP_STATE_COMPENSATION_FAILED,
    },
    STEP_STATE_CONFIRMING: {
        "confirm started": STEP_STATE_CONFIRMING,
        "confirm failed, another attempt follows": STEP_STATE_CONFIRMING,
        "confirm failed": STEP_STATE_CONFIRMING,
        "confirm lost": STEP_STATE_CONFIRMING,
        "confirm pending": STEP_STATE_CONFIRMING,
        "confirmed": STEP_STATE_CONFIRMED,
        "stuck": STEP_STATE_CONFIRMING,
        "retried": STEP_STATE_CONFIRMING,
        "resolved confirmed": STEP_STATE_CONFIRMED,
    },
    STEP_STATE_REJECTED: {},
    STEP_STATE_SKIPPED: {},
    STEP_STATE_COMPENSATED: {},
    STEP_STATE_COMPENSATION_FAILED: {
        "retried": STEP_STATE_COMPENSATING,
        "resolved no effect": STEP_STATE_COMPENSATED,
        "resolved compensated": STEP_STATE_COMPENSATED,
    },
    STEP_STATE_CONFIRMED: {},
}

# What can happen to a saga, and the state that follows.
SAGA: Final[Mapping[SagaState.ValueType, Mapping[str, SagaState.ValueType]]] = {
    SAGA_STATE_UNSPECIFIED: {
        "created": SAGA_STATE_PENDING,
    },
    SAGA_STATE_PENDING: {
        "started": SAGA_STATE_RUNNING,
        "turned back": SAGA_STATE_COMPENSATING,
        "paused": SAGA_STATE_PENDING,
        "resumed": SAGA_STATE_PENDING,
    },
    SAGA_STATE_RUNNING: {
        "a step goes forward": SAGA_STATE_RUNNING,
        "a step is answered": SAGA_STATE_RUNNING,
        "point of no return passed": SAGA_STATE_RUNNING,
        "overdue": SAGA_STATE_RUNNING,
        "turned back": SAGA_STATE_COMPENSATING,
        "completed": SAGA_STATE_COMPLETED,
        "failed": SAGA_STATE_FAILED,
        "paused": SAGA_STATE_RUNNING,
        "resumed": SAGA_STATE_RUNNING,
        "an operator helps it forward": SAGA_STATE_RUNNING,
    },
    SAGA_STATE_COMPENSATING: {
        "a step is answered": SAGA_STATE_COMPENSATING,
        "a step goes back": SAGA_STATE_COMPENSATING,
        "paused": SAGA_STATE_COMPENSATING,
        "resumed": SAGA_STATE_COMPENSATING,
        "an operator helps it back": SAGA_STATE_COMPENSATING,
        "compensated": SAGA_STATE_COMPENSATED,
        "failed": SAGA_STATE_FAILED,
    },
    SAGA_STATE_COMPLETED: {
        "turned back": SAGA_STATE_COMPENSATING,
    },
    SAGA_STATE_COMPENSATED: {},
    SAGA_STATE_FAILED: {
        "resumed": SAGA_STATE_FAILED,
        "an operator helps it forward": SAGA_STATE_RUNNING,
        "an operator helps it back": SAGA_STATE_COMPENSATING,
    },
}

ENDED: Final = frozenset((SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED))
_SETTLED: Final = frozenset(
    (
        STEP_STATE_WAITING,
        STEP_STATE_SKIPPED,
        STEP_STATE_REJECTED,
        STEP_STATE_COMPENSATED,
        STEP_STATE_COMPENSATION_FAILED,
    )
)
_UNSETTLED: Final = frozenset((STEP_STATE_PENDING, STEP_STATE_UNKNOWN, STEP_STATE_COMPENSATION_FAILED))
_OPERATION_WORD: Final = {
    OPERATION_EXECUTE: "execute",
    OPERATION_COMPENSATE: "compensate",
    OPERATION_CONFIRM: "confirm",
}
_RESOLUTION_WORD: Final = {
    RESOLUTION_COMPLETED: "completed",
    RESOLUTION_NO_EFFECT: "no effect",
    RESOLUTION_COMPENSATED: "compensated",
    RESOLUTION_CONFIRMED: "confirmed",
}
# The operation that has come to nothing in a step that is stuck; of one that still waits, its expressions have.
_STUCK_OPERATION: Final = {
    STEP_STATE_UNKNOWN: OPERATION_EXECUTE,
    STEP_STATE_COMPENSATION_FAILED: OPERATION_COMPENSATE,
    STEP_STATE_CONFIRMING: OPERATION_CONFIRM,
}
_HAVE_COMPLETED: Final = frozenset((STEP_STATE_COMPLETED, STEP_STATE_CONFIRMING, STEP_STATE_CONFIRMED))


class IllegalEvent(Exception):
    """The event cannot follow on the saga's state; nothing was changed."""


@dataclass(slots=True)
class Progress:
    """How one operation of one step goes."""

    policy: Policy
    attempts: int = 0
    """Attempts started so far; the number of the last one. Never restarted."""
    spent: int = 0
    """Attempts that count against the policy's budget."""
    open: bool = False
    """The last attempt is journaled and not answered."""
    deadline_ns: int = 0
    """When the last attempt's call ends, answered or not."""
    next_ns: int | None = None
    """When the next attempt is due; None where the last one is open, or none follows."""
    poll_after_ns: int | None = None
    """The participant accepted the operation; it is asked again that often."""
    pending_message: str = ""
    needs_attention: bool = False
    """The participant says that the operation it accepted does not go on without an operator."""
    last_failure: Failure | None = None
    started_ns: int = 0
    ended_ns: int | None = None
    started_sequence: int = 0
    """The event that began the last attempt."""

    @property
    def under_way(self) -> bool:
        """Whether something is in flight, planned, or accepted by the participant."""
        return self.open or self.next_ns is not None or self.poll_after_ns is not None


@dataclass(slots=True)
class StepRecord:
    """A step of a saga."""

    plan: StepPlan
    state: StepState.ValueType = STEP_STATE_WAITING
    progress: dict[Operation.ValueType, Progress] = field(default_factory=dict)
    input: Any | None = None
    output: Any | None = None
    hold_until_ns: int | None = None
    deadline_ns: int | None = None
    """By when Execute must be done, all attempts together."""
    unanswered_until_ns: int = 0
    """Until when an Execute attempt that nobody answered may still be at work (G8)."""
    in_doubt: bool = False
    """An Execute attempt ended, and what it did is not known (G5)."""
    stuck: Failure | None = None
    """It must go forward and cannot."""
    compensation_failure: Failure | None = None

    @property
    def settled(self) -> bool:
        """Nothing is in flight, and there is nothing left to compensate."""
        execute = self.progress.get(OPERATION_EXECUTE)
        in_flight = execute is not None and execute.open
        return not in_flight and (self.state in _SETTLED or not self.plan.compensatable)

    @property
    def unsettled(self) -> bool:
        """It cannot go on by itself, or has not been heard of: an operator may say what happened (rule 8)."""
        return self.stuck is not None or self.state in _UNSETTLED


class Saga:
    """A saga as its events left it. Only `apply` changes it.

    Besides the facts it keeps indexes over its steps (`forward`, `backward`, `active`, …), so that looking for what
    to do next costs what is under way and not what the saga holds.
    """

    def __init__(self, saga_id: str, plan: Plan) -> None:
        self.saga_id = saga_id
        self.plan = plan
        self.uid = ""
        self.state: SagaState.ValueType = SAGA_STATE_UNSPECIFIED
        self.labels: dict[str, str] = {}
        self.request_digest = b""
        self.parent: ParentStep | None = None
        """The step that it runs as."""
        self.root_saga_id = saga_id
        """The outermost saga above it on this coordinator; itself for most."""
        self.exclusive_keys: tuple[str, ...] = ()
        self.action_versions: dict[str, int] = {}
        """Which versions its steps call, of actions that have any."""
        self.input = Any()
        self.output: Any | None = None
        self.failure: Failure | None = None
        """The first cause of turning back or of standing FAILED, never overwritten."""
        self.setback: Failure | None = None
        """Why a step cannot be done, where that has not turned the saga back yet."""
        self.created_ns = 0
        self.start_ns = 0
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.timeout_ns: int | None = None
        self.deadline_ns: int | None = None
        self.last_sequence = 0
        self.last_time_ns = 0
        self.past_no_return = False
        self.overdue = False
        self.paused = False
        """An operator has stopped new dispatches."""
        self.steps = [StepRecord(step) for step in plan.steps]
        self.forward = Frontier([s.predecessors for s in plan.steps], [s.successors for s in plan.steps])
        """Ready: steps that wait and whose predecessors are all done."""
        self.backward: Frontier | None = None
        """Ready: steps whose successors, directly or not, are all settled; from turning back on."""
        self.active: set[int] = set()
        """Steps with an operation in flight, planned, or accepted by the participant."""
        self.to_confirm: set[int] = set()
        self.stuck: set[int] = set()
        self.troubled: set[int] = set()
        """Steps that must go forward and have failed many times."""
        self.return_path: list[int] = []
        """The steps that were started, in that order; on the way back the settled ones are taken off its end."""
        self.refusable_left = plan.refusable_count
        self.earliest_hold_ns: int | None = None

    def step(self, name: str) -> StepRecord:
        """The step of that name; KeyError where there is none."""
        return self.steps[self.plan.step(name).index]

    @property
    def parent_decides(self) -> bool:
        """Whether it is its parent that confirms it or takes it back when all its steps are done."""
        return self.parent is not None and self.plan.revocable

    @property
    def held(self) -> bool:
        """Whether all its steps are done and it waits for its parent to confirm it or to take it back."""
        done = self.state == SAGA_STATE_RUNNING and self.refusable_left == 0 and not self.past_no_return
        return done and self.parent_decides and self.plan.reserves

    @property
    def turned_back(self) -> bool:
        """Whether it goes back, or has."""
        return self.backward is not None

    @property
    def committed(self) -> bool:
        """Whether nothing may turn it back: behind the point of no return, or the pivot's outcome is open (G6)."""
        if self.past_no_return or self.plan.pivot is None:
            return self.past_no_return
        pivot = self.steps[self.plan.pivot.index]
        return pivot.state in (STEP_STATE_EXECUTING, STEP_STATE_PENDING, STEP_STATE_UNKNOWN, STEP_STATE_COMPLETED)

    @property
    def ended(self) -> bool:
        """Whether it stands COMPLETED or COMPENSATED."""
        return self.state in ENDED

    @property
    def stands(self) -> bool:
        """Whether it stands COMPLETED, COMPENSATED or FAILED, and goes on, if at all, only when told to."""
        return self.ended or self.state == SAGA_STATE_FAILED

    @property
    def arrived(self) -> bool:
        """Whether every step is done and every hold confirmed."""
        final = self.past_no_return or (self.parent_decides and not self.plan.reserves)
        return final and not (self.forward.unresolved or self.active or self.to_confirm or self.stuck)

    @property
    def returned(self) -> bool:
        """Whether every step is settled on the way back."""
        return self.backward is not None and not (self.backward.unresolved or self.active)

    @property
    def needs_attention(self) -> bool:
        """Whether an operator should look at it."""
        return self.state == SAGA_STATE_FAILED or bool(self.troubled) or bool(self.stuck)

    @property
    def compensation_failed(self) -> StepRecord | None:
        """The first step that could not be compensated."""
        return next((step for step in self.steps if step.state == STEP_STATE_COMPENSATION_FAILED), None)


def fold(saga: Saga, events: Iterable[SagaEvent]) -> Saga:
    """Apply the events in their order; returns the saga. IllegalEvent where one cannot follow."""
    for event in events:
        apply(saga, event)
    return saga


def apply(saga: Saga, event: SagaEvent) -> None:
    """Fold one event into the saga.

    IllegalEvent, and nothing is changed, where the event cannot follow on its state.
    """
    if event.sequence != saga.last_sequence + 1:
        raise _illegal(saga, event, f"sequence {saga.last_sequence + 1} is due")
    time_ns = from_timestamp(event.time)
    _require(time_ns >= saga.last_time_ns, saga, event, "it is older than the event before it")
    name = event.WhichOneof("event")
    handler = _HANDLERS.get(name or "")
    if handler is None:
        raise IllegalEvent(f"{saga.saga_id} #{event.sequence}: the event is of a type that this program does not know")
    handler(saga, event, time_ns)
    saga.last_sequence = event.sequence
    saga.last_time_ns = time_ns


def state_after(state: SagaState.ValueType, event: SagaEvent) -> SagaState.ValueType:
    """The state of a saga after an event that is known to be legal, for readers that do not fold."""
    name = event.WhichOneof("event") or ""
    if name in _SAYS_STATE:
        said: SagaState.ValueType = getattr(event, name).state
        return said
    return _STATE_AFTER.get(name, state)


_STATE_AFTER: Final = {
    "saga_created": SAGA_STATE_PENDING,
    "saga_started": SAGA_STATE_RUNNING,
    "compensation_started": SAGA_STATE_COMPENSATING,
    "saga_completed": SAGA_STATE_COMPLETED,
    "saga_compensated": SAGA_STATE_COMPENSATED,
    "saga_failed": SAGA_STATE_FAILED,
}
_SAYS_STATE: Final = ("saga_retried", "step_resolved")


# --- Of the saga as a whole -------------------------------------------------------------------------------------------


def _saga_created(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    created: SagaCreated = event.saga_created
    state = _next_saga_state(saga, event, "created")
    pinned = (saga.plan.name, saga.plan.version)
    if (created.definition, created.version) != pinned:
        raise _illegal(saga, event, f"the plan is of {pinned}")
    saga.state = state
    saga.uid = created.uid
    saga.input = created.input
    saga.labels = dict(created.labels)
    saga.request_digest = created.request_digest
    saga.created_ns = time_ns
    saga.start_ns = from_timestamp(created.start_time) if created.HasField("start_time") else time_ns
    saga.timeout_ns = from_duration(created.timeout) if created.HasField("timeout") else None
    saga.deadline_ns = from_timestamp(created.deadline) if created.HasField("deadline") else None
    saga.parent = created.parent if created.HasField("parent") else None
    saga.root_saga_id = created.root_saga_id or saga.saga_id
    saga.exclusive_keys = tuple(created.exclusive_keys)
    saga.action_versions = dict(created.action_versions)


def _saga_started(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    started: SagaStarted = event.saga_started
    saga.state = _next_saga_state(saga, event, "started")
    saga.started_ns = time_ns
    saga.deadline_ns = from_timestamp(started.deadline) if started.HasField("deadline") else None


def _point_of_no_return_passed(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    state = _next_saga_state(saga, event, "point of no return passed")
    _require(saga.refusable_left == 0 and not saga.past_no_return, saga, event, "a step can still be refused")
    saga.state = state
    saga.past_no_return = True
    saga.to_confirm = {
        step.plan.index
        for step in saga.steps
        if step.plan.kind == STEP_KIND_RESERVABLE and step.state == STEP_STATE_COMPLETED
    }


def _saga_overdue(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    state = _next_saga_state(saga, event, "overdue")
    _require(saga.committed and not saga.overdue, saga, event, "it can still go back, or is marked")
    saga.state = state
    saga.overdue = True


def _compensation_started(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    started: CompensationStarted = event.compensation_started
    state = _next_saga_state(saga, event, "turned back")
    _require(not saga.committed, saga, event, "it cannot go back any more (G6)")
    _require(not saga.ended or saga.parent_decides, saga, event, "it has ended")
    saga.state = state
    saga.failure = started.cause
    saga.setback = saga.output = saga.ended_ns = None
    for index in sorted(saga.active):
        step = saga.steps[index]
        progress = step.progress[OPERATION_EXECUTE]
        if not progress.open:
            step.state = STEP[step.state]["saga turned back"]
            _rest(saga, step, progress)
    saga.backward = Frontier([s.successors for s in saga.plan.steps], [s.predecessors for s in saga.plan.steps])
    _clear(saga, saga.backward, list(saga.backward.ready))


def _saga_completed(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    completed: SagaCompleted = event.saga_completed
    state = _next_saga_state(saga, event, "completed")
    _require(saga.arrived, saga, event, "a step is not done")
    saga.state = state
    saga.ended_ns = time_ns
    saga.output = completed.output if completed.HasField("output") else None
    saga.failure = completed.output_failure if completed.HasField("output_failure") else None


def _saga_compensated(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    state = _next_saga_state(saga, event, "compensated")
    _require(saga.returned and not saga.compensation_failed, saga, event, "a step is not compensated")
    saga.state = state
    saga.ended_ns = time_ns


def _saga_failed(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    failed: SagaFailed = event.saga_failed
    state = _next_saga_state(saga, event, "failed")
    going_back = saga.state == SAGA_STATE_COMPENSATING
    stranded = saga.returned and saga.compensation_failed if going_back else saga.stuck and not saga.active
    _require(bool(stranded), saga, event, "it can still go on")
    saga.state = state
    if saga.failure is None:
        saga.failure = failed.failure


# --- Of an operator ---------------------------------------------------------------------------------------------------


def _saga_paused(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    state = _next_saga_state(saga, event, "paused")
    _require(not saga.paused, saga, event, "it is paused already")
    saga.state = state
    saga.paused = True


def _saga_resumed(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    state = _next_saga_state(saga, event, "resumed")
    _require(saga.paused, saga, event, "it is not paused")
    saga.state = state
    saga.paused = False


def _saga_retried(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    saga_state = _helped(saga, event, event.saga_retried.state)
    saga.state = saga_state
    for index in sorted(saga.active):
        for progress in saga.steps[index].progress.values():
            if progress.next_ns is not None:
                _renew(progress, time_ns)
    for step in saga.steps:
        if step.plan.index in saga.stuck or step.state == STEP_STATE_COMPENSATION_FAILED:
            _reopen(saga, step, time_ns)


def _step_resolved(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    resolved: StepResolved = event.step_resolved
    step = _step(saga, event, resolved.step)
    saga_state = _helped(saga, event, resolved.state)
    state = _next_step_state(saga, event, step, f"resolved {_RESOLUTION_WORD.get(resolved.resolution, '?')}")
    in_flight = any(progress.open for progress in step.progress.values())
    _require(not in_flight, saga, event, "a call of it is in flight")
    _require(step.unsettled, saga, event, "nobody has to settle it")
    done_before = step.state in _HAVE_COMPLETED
    saga.state, step.state = saga_state, state
    step.stuck = step.compensation_failure = None
    saga.stuck.discard(step.plan.index)
    for progress in step.progress.values():
        if progress.under_way or progress.ended_ns is None:
            _end(saga, step, progress, time_ns)
    if state == STEP_STATE_COMPLETED:
        step.output = resolved.output if resolved.HasField("output") else None
        step.hold_until_ns = from_timestamp(resolved.hold_until) if resolved.HasField("hold_until") else None
        _hold(saga, step)
        step.in_doubt = False
        if saga.state == SAGA_STATE_RUNNING and not done_before:
            _done(saga, step)
    elif state == STEP_STATE_REJECTED:
        _set_back(saga, Failure(kind=FAILURE_KIND_REJECTED, step=resolved.step, message=resolved.reason))
    _clear_if_settled(saga, step)


def _helped(saga: Saga, event: SagaEvent, said: SagaState.ValueType) -> SagaState.ValueType:
    """The state in which the saga goes on: back once it has turned back, otherwise forward."""
    direction = "forward" if saga.backward is None else "back"
    state = _next_saga_state(saga, event, f"an operator helps it {direction}")
    _require(state == said, saga, event, f"it goes on in {SagaState.Name(state)}")
    return state


def _reopen(saga: Saga, step: StepRecord, time_ns: int) -> None:
    """The step is tried again now: its expressions, or the operation that has come to nothing."""
    operation = _STUCK_OPERATION.get(step.state)
    step.state = STEP[step.state]["retried"]
    step.stuck = step.compensation_failure = None
    saga.stuck.discard(step.plan.index)
    if operation is not None:
        _renew(step.progress[operation], time_ns)
        saga.active.add(step.plan.index)


def _renew(progress: Progress, time_ns: int) -> None:
    """A fresh budget; the numbering goes on."""
    progress.spent = 0
    progress.next_ns = time_ns
    progress.ended_ns = None


# --- Of a step's attempts ---------------------------------------------------------------------------------------------


def _attempt_started(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    started: AttemptStarted = event.attempt_started
    step, operation = _step(saga, event, started.step), started.operation
    forward = operation != OPERATION_COMPENSATE
    saga_state = _next_saga_state(saga, event, "a step goes forward" if forward else "a step goes back")
    state = _next_step_state(saga, event, step, f"{_word(operation)} started")
    progress = step.progress.get(operation) or Progress(step.plan.policies[operation], started_ns=time_ns)
    _require(not progress.open, saga, event, "the attempt before it is still open")
    if started.attempt != progress.attempts + 1:
        raise _illegal(saga, event, f"attempt {progress.attempts + 1} is due")
    _require(operation != OPERATION_CONFIRM or saga.past_no_return, saga, event, "the saga can still go back")
    _require(_is_its_turn(saga, step, operation, time_ns), saga, event, "it is not its turn")
    saga.state, step.state, step.progress[operation] = saga_state, state, progress
    progress.attempts += 1
    progress.spent += 1
    progress.open = True
    progress.deadline_ns = from_timestamp(started.deadline)
    progress.next_ns = None
    progress.started_sequence = event.sequence
    saga.active.add(step.plan.index)
    saga.to_confirm.discard(step.plan.index)
    if operation == OPERATION_EXECUTE and progress.attempts == 1:
        step.input = started.input
        step.deadline_ns = from_timestamp(started.step_deadline) if started.HasField("step_deadline") else None
        saga.return_path.append(step.plan.index)


def _attempt_failed(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    failed: AttemptFailed = event.attempt_failed
    step, operation = _step(saga, event, failed.step), failed.operation
    saga_state = _next_saga_state(saga, event, "a step is answered")
    follows = ", another attempt follows" if failed.HasField("next_attempt_time") else ""
    state = _next_step_state(saga, event, step, f"{_word(operation)} failed{follows}")
    progress = _answered(saga, event, step, operation, failed.attempt)
    saga.state, step.state = saga_state, state
    progress.last_failure = failed.failure
    _in_doubt(step, operation, 0 if failed.answered else progress.deadline_ns)
    _rest(saga, step, progress)
    if follows:
        progress.next_ns = from_timestamp(failed.next_attempt_time)
        saga.active.add(step.plan.index)
    elif operation == OPERATION_EXECUTE and not _must_go_on(step, operation):
        _set_back(saga, failed.failure)
    if _must_go_on(step, operation) and progress.attempts >= limits.ATTENTION_AFTER_ATTEMPTS:
        saga.troubled.add(step.plan.index)
    _clear_if_settled(saga, step)


def _attempt_lost(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    lost: AttemptLost = event.attempt_lost
    step, operation = _step(saga, event, lost.step), lost.operation
    saga_state = _next_saga_state(saga, event, "a step is answered")
    progress = step.progress.get(operation)
    follows = _another_follows(saga, step, progress) if operation == OPERATION_EXECUTE and progress else False
    state = _next_step_state(
        saga, event, step, f"{_word(operation)} lost{', another attempt follows' if follows else ''}"
    )
    was_pending = step.state == STEP_STATE_PENDING
    if was_pending:  # what was lost is a poll, which is no attempt of its own
        progress = _last_attempt(saga, event, step, operation, lost.attempt)
    else:
        progress = _answered(saga, event, step, operation, lost.attempt)
        _require(progress.open, saga, event, f"attempt {lost.attempt} of `{lost.step}` is not open")
    saga.state, step.state = saga_state, state
    _in_doubt(step, operation, from_timestamp(lost.deadline) if lost.HasField("deadline") else progress.deadline_ns)
    if was_pending:
        return
    progress.last_failure = Failure(
        kind=FAILURE_KIND_LOST,
        step=lost.step,
        operation=operation,
        message="the coordinator stopped while the call was in flight",
    )
    if operation != OPERATION_EXECUTE or _must_go_on(step, operation):
        progress.spent -= 1
    _rest(saga, step, progress)
    if follows or operation != OPERATION_EXECUTE:
        progress.next_ns = time_ns
        saga.active.add(step.plan.index)
    else:
        _set_back(saga, progress.last_failure)
    _clear_if_settled(saga, step)


def _step_pending(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    pending: StepPending = event.step_pending
    step, operation = _step(saga, event, pending.step), pending.operation
    saga_state = _next_saga_state(saga, event, "a step is answered")
    state = _next_step_state(saga, event, step, f"{_word(operation)} pending")
    progress = _answered(saga, event, step, operation, pending.attempt)
    accepted = progress.open or progress.poll_after_ns is not None
    _require(accepted, saga, event, f"attempt {pending.attempt} of `{pending.step}` is not open")
    saga.state, step.state = saga_state, state
    progress.open = False
    _mark(saga, step, progress, needs_attention=pending.needs_attention)
    progress.pending_message = pending.message
    progress.poll_after_ns = from_duration(pending.poll_after)
    if saga.state == SAGA_STATE_COMPENSATING and operation == OPERATION_EXECUTE:
        _rest(saga, step, progress)  # it is compensated, not polled
    _clear_if_settled(saga, step)


# --- Of a step's outcomes ---------------------------------------------------------------------------------------------


def _step_skipped(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    step = _step(saga, event, event.step_skipped.step)
    saga_state = _next_saga_state(saga, event, "a step goes forward")
    state = _next_step_state(saga, event, step, "skipped")
    _require(step.plan.index in saga.forward.ready, saga, event, "it is not its turn")
    saga.state, step.state = saga_state, state
    _done(saga, step)


def _step_completed(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    completed: StepCompleted = event.step_completed
    step = _step(saga, event, completed.step)
    saga_state = _next_saga_state(saga, event, "a step is answered")
    state = _next_step_state(saga, event, step, "completed")
    progress = _answered(saga, event, step, OPERATION_EXECUTE, completed.attempt)
    saga.state, step.state = saga_state, state
    step.output = completed.output if completed.HasField("output") else None
    step.hold_until_ns = from_timestamp(completed.hold_until) if completed.HasField("hold_until") else None
    _hold(saga, step)
    step.in_doubt = False
    _end(saga, step, progress, time_ns)
    if saga.state == SAGA_STATE_RUNNING:
        _done(saga, step)
    _clear_if_settled(saga, step)


def _step_rejected(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    rejected: StepRejected = event.step_rejected
    step = _step(saga, event, rejected.step)
    saga_state = _next_saga_state(saga, event, "a step is answered")
    doubt = ", an earlier attempt in doubt" if rejected.in_doubt else ""
    state = _next_step_state(saga, event, step, f"rejected{doubt}")
    progress = _answered(saga, event, step, OPERATION_EXECUTE, rejected.attempt)
    saga.state, step.state = saga_state, state
    step.in_doubt = rejected.in_doubt
    progress.last_failure = rejected.failure
    _end(saga, step, progress, time_ns)
    _set_back(saga, rejected.failure)
    _clear_if_settled(saga, step)


def _step_compensated(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    compensated: StepCompensated = event.step_compensated
    step = _step(saga, event, compensated.step)
    saga_state = _next_saga_state(saga, event, "a step is answered")
    state = _next_step_state(saga, event, step, "compensated")
    progress = _answered(saga, event, step, OPERATION_COMPENSATE, compensated.attempt)
    saga.state, step.state = saga_state, state
    _end(saga, step, progress, time_ns)
    _clear_if_settled(saga, step)


def _step_compensation_failed(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    failed: StepCompensationFailed = event.step_compensation_failed
    step = _step(saga, event, failed.step)
    saga_state = _next_saga_state(saga, event, "a step is answered")
    state = _next_step_state(saga, event, step, "compensation failed")
    progress = _last_attempt(saga, event, step, OPERATION_COMPENSATE, failed.attempt)
    saga.state, step.state = saga_state, state
    step.compensation_failure = progress.last_failure = failed.failure
    _end(saga, step, progress, time_ns)
    _clear_if_settled(saga, step)


def _step_confirmed(saga: Saga, event: SagaEvent, time_ns: int) -> None:
    confirmed: StepConfirmed = event.step_confirmed
    step = _step(saga, event, confirmed.step)
    saga_state = _next_saga_state(saga, event, "a step is answered")
    state = _next_step_state(saga, event, step, "confirmed")
    progress = _answered(saga, event, step, OPERATION_CONFIRM, confirmed.attempt)
    saga.state, step.state = saga_state, state
    _end(saga, step, progress, time_ns)


def _step_stuck(saga: Saga, event: SagaEvent, _time_ns: int) -> None:
    stuck: StepStuck = event.step_stuck
    step = _step(saga, event, stuck.step)
    if step.state == STEP_STATE_WAITING:
        _input_failed(saga, event, step, stuck)
        return
    saga_state = _next_saga_state(saga, event, "a step is answered")
    state = _next_step_state(saga, event, step, "stuck")
    progress = step.progress.get(stuck.operation)
    _require(_must_go_on(step, stuck.operation), saga, event, "going back is an answer to its failure")
    if progress is None:
        raise IllegalEvent(f"{saga.saga_id} #{event.sequence}: `{stuck.step}` was not attempted")
    saga.state, step.state = saga_state, state
    step.stuck = progress.last_failure = stuck.failure
    saga.stuck.add(step.plan.index)
    _rest(saga, step, progress)


def _input_failed(saga: Saga, event: SagaEvent, step: StepRecord, stuck: StepStuck) -> None:
    saga_state = _next_saga_state(saga, event, "a step goes forward")
    state = _next_step_state(saga, event, step, "input failed")
    _require(step.plan.index in saga.forward.ready, saga, event, "it is not its turn")
    saga.state, step.state = saga_state, state
    step.stuck = stuck.failure
    if step.plan.forward_only:
        saga.stuck.add(step.plan.index)
    else:
        _set_back(saga, stuck.failure)


_HANDLERS: Final = {
    "saga_created": _saga_created,
    "saga_started": _saga_started,
    "attempt_started": _attempt_started,
    "attempt_failed": _attempt_failed,
    "attempt_lost": _attempt_lost,
    "step_pending": _step_pending,
    "step_skipped": _step_skipped,
    "step_completed": _step_completed,
    "step_rejected": _step_rejected,
    "step_compensated": _step_compensated,
    "step_compensation_failed": _step_compensation_failed,
    "step_confirmed": _step_confirmed,
    "step_stuck": _step_stuck,
    "point_of_no_return_passed": _point_of_no_return_passed,
    "compensation_started": _compensation_started,
    "saga_overdue": _saga_overdue,
    "saga_completed": _saga_completed,
    "saga_compensated": _saga_compensated,
    "saga_failed": _saga_failed,
    "saga_paused": _saga_paused,
    "saga_resumed": _saga_resumed,
    "saga_retried": _saga_retried,
    "step_resolved": _step_resolved,
}


# --- What the handlers share ------------------------------------------------------------------------------------------


def _require(condition: bool, saga: Saga, event: SagaEvent, what: str) -> None:
    """For texts that cost nothing; one that must be put together is left to whoever raises."""
    if not condition:
        raise _illegal(saga, event, what)


def _illegal(saga: Saga, event: SagaEvent, what: str) -> IllegalEvent:
    return IllegalEvent(f"{saga.saga_id} #{event.sequence} {event.WhichOneof('event')}: {what}")


def _next_saga_state(saga: Saga, event: SagaEvent, happening: str) -> SagaState.ValueType:
    following = SAGA[saga.state].get(happening)
    if following is None:
        state = SagaState.Name(saga.state)
        raise IllegalEvent(f"{saga.saga_id} #{event.sequence}: `{happening}` cannot happen to a saga in {state}")
    return following


def _next_step_state(saga: Saga, event: SagaEvent, step: StepRecord, happening: str) -> StepState.ValueType:
    following = STEP[step.state].get(happening)
    if following is None:
        where = f"step `{step.plan.name}` in {StepState.Name(step.state)}"
        raise IllegalEvent(f"{saga.saga_id} #{event.sequence}: `{happening}` cannot happen to {where}")
    return following


def _step(saga: Saga, event: SagaEvent, name: str) -> StepRecord:
    try:
        return saga.step(name)
    except KeyError:
        raise IllegalEvent(f"{saga.saga_id} #{event.sequence}: there is no step `{name}`") from None


def _word(operation: Operation.ValueType) -> str:
    return _OPERATION_WORD.get(operation, "an unknown operation")


def _last_attempt(
    saga: Saga, event: SagaEvent, step: StepRecord, operation: Operation.ValueType, attempt: int
) -> Progress:
    """The progress whose last attempt the event speaks of."""
    progress = step.progress.get(operation)
    if progress is None or progress.attempts != attempt:
        raise IllegalEvent(f"{saga.saga_id} #{event.sequence}: attempt {attempt} of `{step.plan.name}` is not the last")
    return progress


def _answered(saga: Saga, event: SagaEvent, step: StepRecord, operation: Operation.ValueType, attempt: int) -> Progress:
    """The progress whose last attempt the event answers.

    An outcome can also be reported between two attempts (rule 7).
    """
    progress = _last_attempt(saga, event, step, operation, attempt)
    if not progress.under_way:
        raise _illegal(saga, event, f"attempt {attempt} of `{step.plan.name}` is not open")
    return progress


def _is_its_turn(saga: Saga, step: StepRecord, operation: Operation.ValueType, time_ns: int) -> bool:
    """Whether an attempt may start: another one of an operation under way, or the first one where the graph lets it."""
    index = step.plan.index
    if operation in step.progress:
        return step.progress[operation].next_ns is not None
    if operation == OPERATION_EXECUTE:
        return index in saga.forward.ready
    if operation == OPERATION_CONFIRM:
        return index in saga.to_confirm
    unanswered = time_ns < step.unanswered_until_ns  # a late Execute must not land behind its Compensate (G8)
    return saga.backward is not None and index in saga.backward.ready and not step.settled and not unanswered


def _must_go_on(step: StepRecord, operation: Operation.ValueType) -> bool:
    """Whether going back is no answer to a failure: the attempts go on until one succeeds."""
    if operation == OPERATION_EXECUTE:
        return step.plan.must_go_on
    return operation == OPERATION_CONFIRM


def _another_follows(saga: Saga, step: StepRecord, progress: Progress) -> bool:
    """Whether a lost Execute attempt is followed by another."""
    if saga.state != SAGA_STATE_RUNNING:
        return False
    return _must_go_on(step, OPERATION_EXECUTE) or not progress.policy.exhausted(progress.spent)


def _in_doubt(step: StepRecord, operation: Operation.ValueType, until_ns: int) -> None:
    """An Execute attempt ended without saying what it did, and may be at work until then."""
    if operation == OPERATION_EXECUTE:
        step.in_doubt = True
        step.unanswered_until_ns = max(step.unanswered_until_ns, until_ns)


def _hold(saga: Saga, step: StepRecord) -> None:
    """Only a RESERVABLE step holds anything."""
    if step.plan.kind == STEP_KIND_RESERVABLE:
        saga.earliest_hold_ns = earliest(saga.earliest_hold_ns, step.hold_until_ns)


def _set_back(saga: Saga, failure: Failure) -> None:
    if saga.state == SAGA_STATE_RUNNING and saga.setback is None:
        saga.setback = failure


def _rest(saga: Saga, step: StepRecord, progress: Progress) -> None:
    """Nothing of the operation is in flight, planned or pending any more."""
    progress.open = False
    progress.next_ns = None
    progress.poll_after_ns = None
    progress.pending_message = ""
    _mark(saga, step, progress, needs_attention=False)
    saga.active.discard(step.plan.index)


def _mark(saga: Saga, step: StepRecord, progress: Progress, *, needs_attention: bool) -> None:
    """Whether the participant says that an operator is needed."""
    if needs_attention:
        saga.troubled.add(step.plan.index)
    elif progress.needs_attention:
        saga.troubled.discard(step.plan.index)
    progress.needs_attention = needs_attention


def _end(saga: Saga, step: StepRecord, progress: Progress, time_ns: int) -> None:
    """The operation's outcome is known."""
    progress.ended_ns = time_ns
    saga.troubled.discard(step.plan.index)
    _rest(saga, step, progress)


def _done(saga: Saga, step: StepRecord) -> None:
    """The step is behind the saga on its way forward: completed or skipped."""
    saga.forward.resolve(step.plan.index)
    if not step.plan.forward_only:
        saga.refusable_left -= 1


def _clear_if_settled(saga: Saga, step: StepRecord) -> None:
    if saga.backward is not None and step.plan.index in saga.backward.ready:
        _clear(saga, saga.backward, [step.plan.index])


def _clear(saga: Saga, backward: Frontier, candidates: list[int]) -> None:
    """Take the settled steps off the way back, and those that become free by it."""
    for index in candidates:  # grows while it is walked
        if saga.steps[index].settled:
            candidates.extend(backward.resolve(index))
    while saga.return_path and saga.steps[saga.return_path[-1]].settled:
        saga.return_path.pop()
