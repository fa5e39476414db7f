"""What an operator or a participant may say of a saga, beside answering calls: pause, resume, retry, resolve, report.

Each either follows from the saga's state as facts, or is Forbidden with the reason and with what would be possible
instead. This module must not change the saga.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    Done,
    PauseRequested,
    Refused,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
)
from coordinator.core.instants import to_timestamp
from coordinator.core.state import STEP, Progress, Saga, StepRecord
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
    Resolution,
    SagaPaused,
    SagaResumed,
    SagaRetried,
    StepResolved,
)
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    STEP_STATE_COMPENSATED,
    STEP_STATE_COMPENSATION_FAILED,
    STEP_STATE_COMPLETED,
    STEP_STATE_CONFIRMED,
    STEP_STATE_CONFIRMING,
    STEP_STATE_REJECTED,
    SagaState,
    StepState,
)

RESOLUTION_WORDS: Final[Mapping[Resolution.ValueType, str]] = {
    RESOLUTION_COMPLETED: "completed",
    RESOLUTION_NO_EFFECT: "no effect",
    RESOLUTION_COMPENSATED: "compensated",
    RESOLUTION_CONFIRMED: "confirmed",
}


def pause(saga: Saga, request: PauseRequested) -> list[SagaPaused]:
    """Stop new dispatches. A saga that is paused is left as it is."""
    if saga.ended or saga.state == SAGA_STATE_FAILED:
        raise Forbidden(
            f"the saga stands {_name(saga)}", "a saga can be paused while it is PENDING, RUNNING or COMPENSATING"
        )
    return [] if saga.paused else [SagaPaused(reason=request.reason)]


def resume(saga: Saga, request: ResumeRequested) -> list[SagaResumed]:
    """Take a pause back."""
    if saga.ended:
        raise Forbidden(f"the saga stands {_name(saga)}", "nothing has to be resumed")
    if not saga.paused:
        raise Forbidden("the saga is not paused", "nothing has to be resumed")
    return [SagaResumed(reason=request.reason)]


def retry(saga: Saga, request: RetryRequested) -> list[SagaRetried]:
    """Try again now what waits for its next attempt or has come to nothing, with a fresh budget."""
    if saga.ended:
        raise Forbidden(f"the saga stands {_name(saga)}", "a saga can be retried until it has ended")
    waits = any(
        progress.next_ns is not None for index in saga.active for progress in saga.steps[index].progress.values()
    )
    if not (waits or saga.stuck or saga.compensation_failed):
        raise Forbidden("nothing waits to be tried again", _instead(saga))
    return [SagaRetried(reason=request.reason, state=_goes_on(saga))]


def _instead(saga: Saga) -> str:
    """What is possible of a saga of which nothing can be tried again."""
    if saga.state == SAGA_STATE_PENDING:
        return "it begins by itself; a saga can be cancelled before it does"
    if saga.held:
        return "its parent confirms it or has it compensated"
    for step in saga.steps:
        if any(progress.needs_attention for progress in step.progress.values()):
            return f"see what keeps step `{step.plan.name}`, which its participant says does not go on by itself"
    return "wait for what is in flight"


def resolve(saga: Saga, request: ResolveRequested, now_ns: int) -> list[StepResolved]:
    """Take an operator's word for what happened to a step that nobody else can settle (rule 8)."""
    try:
        step = saga.step(request.step)
    except KeyError:
        raise Forbidden(f"there is no step `{request.step}`", "name a step of the definition") from None
    if saga.ended:
        raise Forbidden(f"the saga stands {_name(saga)}", "a step can be resolved until the saga has ended")
    _demand_at_rest(step, now_ns)
    allowed = _resolutions(saga, step)
    if request.resolution not in allowed:
        words = " or ".join(f"`{RESOLUTION_WORDS[each]}`" for each in allowed)
        possible = f"it can be resolved as {words}" if words else "nothing of it has to be resolved"
        state = StepState.Name(step.state).removeprefix("STEP_STATE_")
        word = RESOLUTION_WORDS.get(request.resolution, "nothing")
        raise Forbidden(f"step `{request.step}` in {state} cannot be resolved as {word}", possible)
    return [
        StepResolved(
            step=request.step,
            reason=request.reason,
            resolution=request.resolution,
            output=request.output,
            hold_until=to_timestamp(request.hold_until_ns) if request.hold_until_ns is not None else None,
            state=_goes_on(saga),
        )
    ]


def _demand_at_rest(step: StepRecord, now_ns: int) -> None:
    if any(progress.open for progress in step.progress.values()):
        raise Forbidden(f"a call of step `{step.plan.name}` is in flight", "wait for its answer")
    if now_ns < step.unanswered_until_ns:
        raise Forbidden(
            f"a call of step `{step.plan.name}` that nobody answered may still be at work",
            "wait until its deadline has passed; the saga's waits say until when",
        )


def _resolutions(saga: Saga, step: StepRecord) -> list[Resolution.ValueType]:
    """What can be stated of the step, given the table, and given what could follow."""
    if not step.unsettled:
        return []
    found = [each for each, word in RESOLUTION_WORDS.items() if f"resolved {word}" in STEP[step.state]]
    if saga.backward is None:
        # Forward: what must go on cannot have had no effect, and nothing is compensated.
        forward_only = step.plan.forward_only
        found = [
            each
            for each in found
            if each != RESOLUTION_COMPENSATED and not (each == RESOLUTION_NO_EFFECT and forward_only)
        ]
    elif not step.plan.compensatable:
        found = [each for each in found if each != RESOLUTION_COMPENSATED]
    return found


# --- Reports ----------------------------------------------------------------------------------------------------------

# The states of a step in which an operation is known to have taken effect, and to have been refused.
_KNOWN: Final = {
    OPERATION_EXECUTE: ((STEP_STATE_COMPLETED, STEP_STATE_CONFIRMING, STEP_STATE_CONFIRMED), (STEP_STATE_REJECTED,)),
    OPERATION_COMPENSATE: ((STEP_STATE_COMPENSATED,), (STEP_STATE_COMPENSATION_FAILED,)),
    OPERATION_CONFIRM: ((STEP_STATE_CONFIRMED,), ()),
}


def reportable(saga: Saga, reported: Reported) -> Progress | None:
    """The operation whose outcome the report tells; None where the same outcome is recorded already (rule 7)."""
    step = saga.step(reported.step)
    progress = step.progress.get(reported.operation)
    if progress is None:
        raise Forbidden(f"the operation of step `{reported.step}` was never started", "report what was asked for")
    effective, refused = _KNOWN[reported.operation]
    if step.state in (*effective, *refused):
        if _same(step, progress, reported, effective=step.state in effective):
            return None
        state = StepState.Name(step.state).removeprefix("STEP_STATE_")
        raise Forbidden(f"step `{reported.step}` is {state}", "the first outcome that was recorded stands")
    if reported.operation == OPERATION_EXECUTE and saga.backward is not None:
        raise Forbidden("the saga goes back, and the step is compensated", "report the outcome of its compensation")
    if not progress.under_way:
        raise Forbidden(f"nothing of step `{reported.step}` is under way", "RetrySaga or ResolveStep take it on")
    return progress


def _same(step: StepRecord, progress: Progress, reported: Reported, *, effective: bool) -> bool:
    if isinstance(reported.reply, Done):
        same_output = reported.operation != OPERATION_EXECUTE or reported.reply.output == step.output
        return effective and same_output
    if isinstance(reported.reply, Refused) and progress.last_failure is not None:
        return not effective and reported.reply.reason == progress.last_failure.reason
    return False


def _goes_on(saga: Saga) -> SagaState.ValueType:
    return SAGA_STATE_RUNNING if saga.backward is None else SAGA_STATE_COMPENSATING


def _name(saga: Saga) -> str:
    return SagaState.Name(saga.state).removeprefix("SAGA_STATE_")
