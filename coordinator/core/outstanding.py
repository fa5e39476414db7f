"""What must be under way, given the facts.

`outstanding` derives from a saga's state alone what is due now, which calls must be in flight, what is to be polled
and when to look again. It is asked after every append and after a restart alike, so recovery is not a special path.
What is due is answered by `decide` with events; calls and polls are the engine's to make, once their events are on
disk.

This module must not change the saga, and must not remember anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from coordinator.core.state import Progress, Saga, StepRecord
from saga.v1.types_pb2 import (
    FAILURE_KIND_DEADLINE_PASSED,
    FAILURE_KIND_HOLD_LAPSING,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    STEP_STATE_WAITING,
    Failure,
    Operation,
)


@dataclass(frozen=True, slots=True)
class StartDue:
    """The saga is to begin."""


@dataclass(frozen=True, slots=True)
class EvaluationDue:
    """The step's turn has come: its condition and input are to be evaluated."""

    step: str


@dataclass(frozen=True, slots=True)
class AttemptDue:
    """Another attempt, or the first Compensate or Confirm, is to be begun."""

    step: str
    operation: Operation.ValueType


@dataclass(frozen=True, slots=True)
class PointOfNoReturnDue:
    """The last step that can be refused is done."""


@dataclass(frozen=True, slots=True)
class TurnBackDue:
    """The saga cannot go on and still can go back."""

    cause: Failure


@dataclass(frozen=True, slots=True)
class OverdueDue:
    """The deadline passed where the saga cannot go back."""


@dataclass(frozen=True, slots=True)
class OutputDue:
    """Every step is done: the saga's output is to be evaluated, and it completes."""


@dataclass(frozen=True, slots=True)
class WayBackDone:
    """Nothing is left to compensate, or nothing that could be."""


@dataclass(frozen=True, slots=True)
class Stranded:
    """Nothing more can be done without an operator."""


Due: TypeAlias = (
    StartDue
    | EvaluationDue
    | AttemptDue
    | PointOfNoReturnDue
    | TurnBackDue
    | OverdueDue
    | OutputDue
    | WayBackDone
    | Stranded
)


@dataclass(frozen=True, slots=True)
class Call:
    """A journaled attempt that must be in flight."""

    step: str
    operation: Operation.ValueType
    attempt: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Poll:
    """An accepted operation that is asked again, `every_ns` after each answer."""

    step: str
    operation: Operation.ValueType
    attempt: int
    every_ns: int
    timeout_ns: int


@dataclass(slots=True)
class Outstanding:
    """What a saga needs. `wake_ns` is when to look again if nothing happens before; None where only an input helps."""

    due: list[Due] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    keys: bool = False
    """Its exclusive keys are to be asked for; it starts when they are granted."""
    wake_ns: int | None = None

    def wake(self, instant_ns: int | None) -> None:
        """Look again at that instant, at the latest."""
        if instant_ns is not None and (self.wake_ns is None or instant_ns < self.wake_ns):
            self.wake_ns = instant_ns

    @property
    def idle(self) -> bool:
        """Whether nothing is due, in flight, or planned."""
        return not (self.due or self.calls or self.polls or self.keys or self.wake_ns is not None)


NO_POLLS: Final[Mapping[str, int]] = MappingProxyType({})


def outstanding(saga: Saga, now_ns: int, polled_until_ns: Mapping[str, int] = NO_POLLS) -> Outstanding:
    """What must be under way at that instant.

    `polled_until_ns` names the steps of which a poll of Execute may still be at work, and until when: polls are not
    journaled, and a step must not be compensated under one (G8).
    """
    out = Outstanding()
    if saga.state == SAGA_STATE_RUNNING:
        _going_forward(saga, now_ns, out)
    elif saga.state == SAGA_STATE_COMPENSATING:
        _going_back(saga, now_ns, polled_until_ns, out)
    elif saga.state == SAGA_STATE_PENDING:
        _before_the_start(saga, now_ns, out)
    if saga.paused:
        _hold_back(out)
    return out


def _hold_back(out: Outstanding) -> None:
    """Of a paused saga nothing new is dispatched or polled; what is in flight, deadlines and reports go on (rule 8)."""
    out.due = [due for due in out.due if not isinstance(due, StartDue | EvaluationDue | AttemptDue)]
    out.polls.clear()
    out.keys = False


def _before_the_start(saga: Saga, now_ns: int, out: Outstanding) -> None:
    if saga.deadline_ns is not None and saga.deadline_ns <= now_ns:
        out.due.append(TurnBackDue(_DEADLINE_PASSED))
        return
    out.wake(saga.deadline_ns)
    if saga.start_ns > now_ns:
        out.wake(saga.start_ns)
    elif saga.exclusive_keys:
        out.keys = True
    else:
        out.due.append(StartDue())


def _going_forward(saga: Saga, now_ns: int, out: Outstanding) -> None:
    if saga.refusable_left == 0 and not saga.past_no_return:  # before anything else: whatever the clock says (G6)
        if not saga.parent_decides:
            out.due.append(PointOfNoReturnDue())
        elif saga.arrived:
            out.due.append(OutputDue())
        return
    if not saga.committed and (cause := _why_turn_back(saga, now_ns, out)) is not None:
        out.due.append(TurnBackDue(cause))
        return
    if saga.committed and not saga.overdue and saga.deadline_ns is not None:
        if saga.deadline_ns <= now_ns:
            out.due.append(OverdueDue())
        else:
            out.wake(saga.deadline_ns)
    for index in sorted(saga.forward.ready):
        step = saga.steps[index]
        if step.state == STEP_STATE_WAITING and step.stuck is None:
            out.due.append(EvaluationDue(step.plan.name))
    out.due.extend(AttemptDue(saga.steps[i].plan.name, OPERATION_CONFIRM) for i in sorted(saga.to_confirm))
    _attempts(saga, now_ns, out)
    if saga.arrived:
        out.due.append(OutputDue())
    elif saga.stuck and not (out.due or saga.active):
        out.due.append(Stranded())


_DEADLINE_PASSED: Final = Failure(kind=FAILURE_KIND_DEADLINE_PASSED, message="the saga's deadline passed")


def _why_turn_back(saga: Saga, now_ns: int, out: Outstanding) -> Failure | None:
    """The cause, where there is one now; otherwise plans to look again when there may be one."""
    if saga.setback is not None:
        return saga.setback
    if saga.deadline_ns is not None and saga.deadline_ns <= now_ns:
        return _DEADLINE_PASSED
    out.wake(saga.deadline_ns)
    for index in sorted(saga.active):
        step = saga.steps[index]
        if step.deadline_ns is not None and step.deadline_ns <= now_ns:
            return Failure(
                kind=FAILURE_KIND_DEADLINE_PASSED,
                step=step.plan.name,
                operation=OPERATION_EXECUTE,
                message="the step's deadline passed",
            )
        out.wake(step.deadline_ns)
    if saga.earliest_hold_ns is not None:
        return _why_not_hold(saga, saga.earliest_hold_ns - saga.plan.hold_margin_ns, now_ns, out)
    return None


def _why_not_hold(saga: Saga, turn_ns: int, now_ns: int, out: Outstanding) -> Failure | None:
    """A saga goes back in good time before its earliest hold lapses, and starts no pivot that may outlast it."""
    pivot = saga.plan.pivot
    if pivot is not None and pivot.index in saga.forward.ready:
        now_ns += pivot.policies[OPERATION_EXECUTE].timeout_ns
    if now_ns >= turn_ns:
        return Failure(
            kind=FAILURE_KIND_HOLD_LAPSING, message="the earliest hold would lapse before the saga is through"
        )
    out.wake(turn_ns)
    return None


def _attempts(saga: Saga, now_ns: int, out: Outstanding) -> None:
    """What the operations under way need: a call in flight, the next attempt, or a poll."""
    for index in sorted(saga.active):
        step = saga.steps[index]
        for operation, progress in step.progress.items():
            if progress.under_way:
                _attempt(step, operation, progress, now_ns, out)


def _attempt(
    step: StepRecord, operation: Operation.ValueType, progress: Progress, now_ns: int, out: Outstanding
) -> None:
    name = step.plan.name
    if progress.open:
        out.calls.append(Call(name, operation, progress.attempts, progress.deadline_ns))
    elif progress.poll_after_ns is not None:
        timeout_ns = progress.policy.timeout_ns
        out.polls.append(Poll(name, operation, progress.attempts, progress.poll_after_ns, timeout_ns))
    elif progress.next_ns is not None and progress.next_ns <= now_ns:
        out.due.append(AttemptDue(name, operation))
    else:
        out.wake(progress.next_ns)


def _going_back(saga: Saga, now_ns: int, polled_until_ns: Mapping[str, int], out: Outstanding) -> None:
    assert saga.backward is not None
    _attempts(saga, now_ns, out)
    for step in _next_on_the_way_back(saga):
        if step.plan.index in saga.active or OPERATION_COMPENSATE in step.progress:
            continue
        free_ns = max(step.unanswered_until_ns, polled_until_ns.get(step.plan.name, 0))
        if free_ns <= now_ns:
            out.due.append(AttemptDue(step.plan.name, OPERATION_COMPENSATE))
        else:
            out.wake(free_ns)
    if saga.plan.one_at_a_time:
        _keep_one(saga, out)
    if saga.returned:
        out.due.append(Stranded() if saga.compensation_failed else WayBackDone())


def _keep_one(saga: Saga, out: Outstanding) -> None:
    """Strictly one compensation at a time, the last step first, also where an operator has several tried again."""

    def first_start_ns(due: AttemptDue) -> int:
        return saga.step(due.step).progress[OPERATION_EXECUTE].started_ns

    attempts = [each for each in out.due if isinstance(each, AttemptDue)]
    kept = [] if out.calls or out.polls else sorted(attempts, key=first_start_ns)[-1:]
    out.due = [each for each in out.due if each not in attempts or each in kept]


def _next_on_the_way_back(saga: Saga) -> list[StepRecord]:
    """The steps whose turn it is to be compensated: all that the graph sets free, or the last that was started."""
    if saga.plan.one_at_a_time:
        return [saga.steps[index] for index in saga.return_path[-1:]]
    assert saga.backward is not None
    return [saga.steps[index] for index in sorted(saga.backward.ready)]
