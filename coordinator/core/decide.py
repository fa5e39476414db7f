"""What happened, and so what is now a fact.

`decide` turns one input into the facts that follow from it, given the saga's state. It changes nothing: `turn`
applies the facts as events and asks again what is outstanding.

This module must not read a clock, draw a number or evaluate an expression: `now_ns`, the jitter of a reply and the
value of an expression are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from coordinator.core import parent, repair
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    Accepted,
    Begun,
    CancelRequested,
    Done,
    Input,
    InputFailed,
    KeysGranted,
    KeysRefused,
    OutputKnown,
    ParentConfirmed,
    ParentWentBack,
    PauseRequested,
    Recovered,
    Refused,
    Replied,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
    Skipped,
    Unknown,
)
from coordinator.core.instants import earliest, put_instant, to_duration, to_timestamp
from coordinator.core.outstanding import (
    NO_POLLS,
    AttemptDue,
    Due,
    OverdueDue,
    PointOfNoReturnDue,
    StartDue,
    Stranded,
    TurnBackDue,
    WayBackDone,
    outstanding,
)
from coordinator.core.state import Progress, Saga, StepRecord
from saga.v1.event_pb2 import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CompensationStarted,
    PointOfNoReturnPassed,
    SagaCompensated,
    SagaCompleted,
    SagaFailed,
    SagaOverdue,
    SagaPaused,
    SagaResumed,
    SagaRetried,
    SagaStarted,
    StepCompensated,
    StepCompensationFailed,
    StepCompleted,
    StepConfirmed,
    StepPending,
    StepRejected,
    StepResolved,
    StepSkipped,
    StepStuck,
)
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_DEADLOCK,
    FAILURE_KIND_EXPRESSION_FAILED,
    FAILURE_KIND_REJECTED,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    STEP_KIND_PIVOT,
    STEP_STATE_PENDING,
    Failure,
    Operation,
    SagaState,
)

# Every message of SagaEvent's oneof, ready to be wrapped.
Fact: TypeAlias = (
    SagaStarted
    | AttemptStarted
    | AttemptFailed
    | AttemptLost
    | StepPending
    | StepSkipped
    | StepCompleted
    | StepRejected
    | StepCompensated
    | StepCompensationFailed
    | StepConfirmed
    | StepStuck
    | PointOfNoReturnPassed
    | CompensationStarted
    | SagaOverdue
    | SagaCompleted
    | SagaCompensated
    | SagaFailed
    | SagaPaused
    | SagaResumed
    | SagaRetried
    | StepResolved
)

# What a client or an operator asks for; each says who.
Asked: TypeAlias = CancelRequested | PauseRequested | ResumeRequested | RetryRequested | ResolveRequested
# What comes from other sagas.
Told: TypeAlias = KeysGranted | KeysRefused | ParentWentBack | ParentConfirmed


def decide(
    saga: Saga, given: Input | Due, now_ns: int, polled_until_ns: Mapping[str, int] = NO_POLLS
) -> list[tuple[Fact, str]]:
    """The facts that follow from one input, each with its actor.

    `polled_until_ns` is as `outstanding` takes it. The saga is not changed. Forbidden where it is not allowed.
    """
    match given:
        case Replied():
            facts: Sequence[Fact] = _replied(saga, given, now_ns, polled_until_ns)
        case Reported():
            facts = _reported(saga, given, now_ns, polled_until_ns)
        case Recovered():
            facts = _recovered(saga, now_ns)
        case CancelRequested() | PauseRequested() | ResumeRequested() | RetryRequested() | ResolveRequested():
            return [(fact, given.actor) for fact in _asked(saga, given, now_ns)]
        case KeysGranted() | KeysRefused() | ParentWentBack() | ParentConfirmed():
            facts = _told(saga, given, now_ns)
        case _:
            facts = [_due(saga, given, now_ns)]
    return [(fact, "") for fact in facts]


def _asked(saga: Saga, given: Asked, now_ns: int) -> Sequence[Fact]:
    """What follows from the word of a client or an operator."""
    match given:
        case CancelRequested():
            return _cancelled(saga, given)
        case PauseRequested():
            return repair.pause(saga, given)
        case ResumeRequested():
            return repair.resume(saga, given)
        case RetryRequested():
            return repair.retry(saga, given)
        case ResolveRequested():
            return repair.resolve(saga, given, now_ns)


def _told(saga: Saga, given: Told, now_ns: int) -> Sequence[Fact]:
    """What follows from other sagas: of those that share a key with this one, or of its parent."""
    match given:
        case KeysGranted():
            return [_started(saga, now_ns)] if outstanding(saga, now_ns).keys else []
        case KeysRefused():
            return [CompensationStarted(cause=_DEADLOCK)] if saga.state == SAGA_STATE_PENDING else []
        case ParentWentBack():
            return parent.went_back(saga, given)
        case ParentConfirmed():
            return parent.confirmed(saga, given)


def _due(saga: Saga, given: Input | Due, now_ns: int) -> Fact:
    """The one fact that follows from something that was due."""
    match given:
        case StartDue():
            return _started(saga, now_ns)
        case Begun():
            return _first_execute(saga, saga.step(given.step), given, now_ns)
        case Skipped():
            return StepSkipped(step=given.step)
        case InputFailed():
            failure = Failure(kind=FAILURE_KIND_EXPRESSION_FAILED, step=given.step, message=given.message)
            return StepStuck(step=given.step, operation=OPERATION_EXECUTE, failure=failure)
        case AttemptDue():
            return _next_attempt(saga, saga.step(given.step), given.operation, now_ns)
        case PointOfNoReturnDue():
            return PointOfNoReturnPassed()
        case TurnBackDue():
            return CompensationStarted(cause=given.cause)
        case OverdueDue():
            return SagaOverdue()
        case OutputKnown():
            return _completed_saga(given)
        case WayBackDone():
            return SagaCompensated()
        case Stranded():
            return SagaFailed(failure=_why_stranded(saga))
    raise TypeError(f"{given!r} is not an input of the core")


def _started(saga: Saga, now_ns: int) -> SagaStarted:
    timeout_ns = now_ns + saga.timeout_ns if saga.timeout_ns is not None else None
    deadline_ns = earliest(timeout_ns, saga.deadline_ns)
    return SagaStarted(deadline=to_timestamp(deadline_ns) if deadline_ns is not None else None)


_DEADLOCK: Final = Failure(
    kind=FAILURE_KIND_DEADLOCK,
    reason="DEADLOCK",
    message="who holds an exclusive key of this saga waits, directly or not, for what its own root holds",
)


# --- Attempts ---------------------------------------------------------------------------------------------------------


def _first_execute(saga: Saga, step: StepRecord, begun: Begun, now_ns: int) -> AttemptStarted:
    step_deadline_ns = None
    if step.plan.timeout_ns is not None and not step.plan.must_go_on:
        step_deadline_ns = now_ns + step.plan.timeout_ns
    started = _attempt(saga, step, OPERATION_EXECUTE, now_ns, step_deadline_ns)
    started.input.CopyFrom(begun.input)
    put_instant(started.step_deadline, step_deadline_ns)
    return started


def _next_attempt(saga: Saga, step: StepRecord, operation: Operation.ValueType, now_ns: int) -> AttemptStarted:
    return _attempt(saga, step, operation, now_ns, step.deadline_ns)


def _attempt(
    saga: Saga, step: StepRecord, operation: Operation.ValueType, now_ns: int, step_deadline_ns: int | None
) -> AttemptStarted:
    progress = step.progress.get(operation)
    end_ns = now_ns + step.plan.policies[operation].timeout_ns
    if operation == OPERATION_EXECUTE and not step.plan.must_go_on:  # that one is not helped by a deadline
        end_ns = earliest(end_ns, step_deadline_ns, saga.deadline_ns) or end_ns
    number = progress.attempts + 1 if progress else 1
    started = AttemptStarted(step=step.plan.name, operation=operation, attempt=number)
    put_instant(started.deadline, end_ns)
    return started


# --- Replies ----------------------------------------------------------------------------------------------------------


def _replied(saga: Saga, replied: Replied, now_ns: int, polled_until_ns: Mapping[str, int]) -> list[Fact]:
    """What a reply establishes; nothing where it answers no attempt that is open, as a late duplicate does."""
    step = saga.step(replied.step)
    progress = step.progress.get(replied.operation)
    if progress is None or progress.attempts != replied.attempt:
        return []
    if not (progress.open or progress.poll_after_ns is not None):
        return []
    polled_ns = polled_until_ns.get(replied.step, 0)
    if replied.operation != OPERATION_EXECUTE or progress.open or polled_ns <= now_ns:
        return _read(saga, step, progress, replied, now_ns, None)
    facts = _read(saga, step, progress, replied, now_ns, polled_ns)
    # Another poll is still at work. Polls are not journaled; from here on nobody would know of it (G8).
    return [_lost(step, OPERATION_EXECUTE, progress, polled_ns), *facts] if facts else []


def _read(
    saga: Saga, step: StepRecord, progress: Progress, replied: Replied, now_ns: int, polled_ns: int | None
) -> list[Fact]:
    """The contract's table; `polled_ns` says until when another poll of the step may be at work."""
    match replied.reply:
        case Done():
            return [_done(replied, replied.reply)]
        case Refused():
            return _refused(step, progress, replied, replied.reply, now_ns, polled_ns)
        case Accepted():
            return _accepted(progress, replied, replied.reply)
        case Unknown():
            return _unknown(saga, step, progress, replied, replied.reply, now_ns)


def _done(replied: Replied, done: Done) -> Fact:
    if replied.operation == OPERATION_COMPENSATE:
        return StepCompensated(step=replied.step, attempt=replied.attempt, noop=done.noop)
    if replied.operation == OPERATION_CONFIRM:
        return StepConfirmed(step=replied.step, attempt=replied.attempt)
    completed = StepCompleted(step=replied.step, attempt=replied.attempt)
    if done.output is not None:
        completed.output.CopyFrom(done.output)
    put_instant(completed.hold_until, done.hold_until_ns)
    return completed


def _accepted(progress: Progress, replied: Replied, accepted: Accepted) -> list[Fact]:
    if progress.poll_after_ns is not None and progress.needs_attention == accepted.needs_attention:
        return []  # a poll that was answered "not yet"
    return [
        StepPending(
            step=replied.step,
            operation=replied.operation,
            attempt=replied.attempt,
            poll_after=to_duration(accepted.poll_after_ns),
            message=accepted.message,
            needs_attention=accepted.needs_attention,
        )
    ]


def _refused(
    step: StepRecord, progress: Progress, replied: Replied, refused: Refused, now_ns: int, polled_ns: int | None
) -> list[Fact]:
    failure = Failure(
        kind=FAILURE_KIND_REJECTED,
        step=replied.step,
        operation=replied.operation,
        reason=refused.reason,
        message=refused.message,
        metadata=dict(refused.metadata),
    )
    if replied.operation == OPERATION_COMPENSATE:
        return [StepCompensationFailed(step=replied.step, attempt=replied.attempt, failure=failure)]
    if replied.operation == OPERATION_CONFIRM:
        return [StepStuck(step=replied.step, operation=OPERATION_CONFIRM, failure=failure)]
    if step.plan.forward_only:
        return _try_again(step, progress, replied, failure, True, now_ns)
    in_doubt = (step.in_doubt or polled_ns is not None) and not refused.covers_earlier
    if step.plan.kind == STEP_KIND_PIVOT:
        working_until_ns = max(step.unanswered_until_ns, polled_ns or 0)
        if in_doubt and now_ns < working_until_ns:
            # An attempt on its way may still take effect: the refusal is believed when that is over (G6).
            return _try_again(step, progress, replied, failure, True, now_ns, working_until_ns)
        in_doubt = False
    return [StepRejected(step=replied.step, attempt=replied.attempt, failure=failure, in_doubt=in_doubt)]


def _unknown(
    saga: Saga, step: StepRecord, progress: Progress, replied: Replied, unknown: Unknown, now_ns: int
) -> list[Fact]:
    if replied.operation == OPERATION_EXECUTE:
        return _unknown_execute(saga, step, progress, replied, unknown, now_ns)
    if progress.poll_after_ns is not None:
        return []  # asked again at the next poll
    return _try_again(step, progress, replied, unknown.failure, unknown.answered, now_ns)


def _unknown_execute(
    saga: Saga, step: StepRecord, progress: Progress, replied: Replied, unknown: Unknown, now_ns: int
) -> list[Fact]:
    going_on = saga.state == SAGA_STATE_RUNNING
    must_go_on = step.plan.must_go_on
    if progress.poll_after_ns is not None and (unknown.retryable or must_go_on):
        return []  # asked again at the next poll
    if going_on and (must_go_on or (unknown.retryable and progress.poll_after_ns is None)):
        return _try_again(step, progress, replied, unknown.failure, unknown.answered, now_ns)
    return [_failed(replied, unknown.failure, unknown.answered)]


def _try_again(
    step: StepRecord,
    progress: Progress,
    replied: Replied,
    failure: Failure,
    answered: bool,
    now_ns: int,
    not_before_ns: int = 0,
) -> list[Fact]:
    """The attempt failed: another follows after its backoff, or the step has run out of attempts."""
    if not progress.policy.exhausted(progress.spent):
        failed = _failed(replied, failure, answered)
        backoff_ns = progress.policy.backoff_ns(max(progress.spent, 1), replied.jitter)
        next_ns = max(now_ns + backoff_ns, not_before_ns)
        failed.next_attempt_time.CopyFrom(to_timestamp(next_ns))
        failed.backoff.CopyFrom(to_duration(next_ns - now_ns))
        return [failed]
    spent: list[Fact] = [_failed(replied, failure, answered)]
    if replied.operation == OPERATION_COMPENSATE:
        spent.append(StepCompensationFailed(step=replied.step, attempt=replied.attempt, failure=failure))
    elif replied.operation == OPERATION_CONFIRM or step.plan.must_go_on:
        spent.append(StepStuck(step=replied.step, operation=replied.operation, failure=failure))
    return spent


def _failed(replied: Replied, failure: Failure, answered: bool) -> AttemptFailed:
    return AttemptFailed(
        step=replied.step, operation=replied.operation, attempt=replied.attempt, failure=failure, answered=answered
    )


def _reported(saga: Saga, reported: Reported, now_ns: int, polled_until_ns: Mapping[str, int]) -> list[Fact]:
    """What a report establishes: read as a reply to the last attempt, and accepted once (rule 7)."""
    progress = repair.reportable(saga, reported)
    if progress is None:
        return []
    replied = Replied(reported.step, reported.operation, progress.attempts, reported.reply)
    step = saga.step(reported.step)
    polled_ns = polled_until_ns.get(reported.step, 0)
    return _read(saga, step, progress, replied, now_ns, polled_ns if polled_ns > now_ns else None)


# --- Recovery, cancel, the ends ---------------------------------------------------------------------------------------


def _recovered(saga: Saga, now_ns: int) -> list[Fact]:
    """Whatever was in flight is not known any more.

    A poll is not journaled, so one may have been in flight for every PENDING step, also where the saga has turned back
    since (G8). Of a call within the process nothing is at work any more.
    """
    lost: list[Fact] = []
    for step in saga.steps:
        for operation, progress in step.progress.items():
            if progress.open:
                lost.append(_lost(step, operation, progress, now_ns if step.plan.in_process else None))
            elif step.state == STEP_STATE_PENDING and not step.plan.in_process:
                lost.append(_lost(step, OPERATION_EXECUTE, progress, now_ns + progress.policy.timeout_ns))
    return lost


def _lost(step: StepRecord, operation: Operation.ValueType, progress: Progress, until_ns: int | None) -> AttemptLost:
    """Of the last attempt, or a poll of it: until then it may be at work; None: until the attempt's deadline."""
    return AttemptLost(
        step=step.plan.name,
        operation=operation,
        attempt=progress.attempts,
        deadline=to_timestamp(until_ns) if until_ns is not None else None,
    )


def _cancelled(saga: Saga, request: CancelRequested) -> list[Fact]:
    if saga.state == SAGA_STATE_COMPENSATING:
        return []
    if saga.state not in (SAGA_STATE_PENDING, SAGA_STATE_RUNNING):
        state = SagaState.Name(saga.state).removeprefix("SAGA_STATE_")
        raise Forbidden(f"the saga stands {state}", "a saga can be cancelled while it is PENDING or RUNNING")
    if saga.past_no_return:
        raise Forbidden("the saga has passed its point of no return", "it goes on until it is COMPLETED")
    if saga.committed:
        raise Forbidden(
            f"the pivot `{saga.plan.pivot.name if saga.plan.pivot else ''}` is under way and its outcome is not known",
            "cancel again once the pivot was rejected",
        )
    if saga.held and saga.parent is not None:
        raise Forbidden("all its steps are done, and its parent decides", f"cancel its parent `{saga.parent.saga_id}`")
    return [CompensationStarted(cause=Failure(kind=FAILURE_KIND_CANCELLED, message=request.reason))]


def _completed_saga(known: OutputKnown) -> SagaCompleted:
    if not known.failure_message:
        return SagaCompleted(output=known.output)
    return SagaCompleted(
        output_failure=Failure(kind=FAILURE_KIND_EXPRESSION_FAILED, message=f"output: {known.failure_message}")
    )


def _why_stranded(saga: Saga) -> Failure:
    failed = saga.compensation_failed
    if failed is not None and failed.compensation_failure is not None:
        return failed.compensation_failure
    stuck = saga.steps[min(saga.stuck)].stuck
    assert stuck is not None
    return stuck
