"""Facts in a few words, and sagas built from them: for tests that must not go through `decide`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from coordinator.core.instants import to_duration, to_timestamp
from coordinator.core.state import Saga, apply
from saga.v1 import event_pb2
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.event_pb2 import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CompensationStarted,
    PointOfNoReturnPassed,
    Resolution,
    SagaCompensated,
    SagaCompleted,
    SagaCreated,
    SagaEvent,
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
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Failure,
    Operation,
    SagaState,
)
from tests.coordinator.core.sagas import at, ns, plan

EXECUTE, COMPENSATE, CONFIRM = OPERATION_EXECUTE, OPERATION_COMPENSATE, OPERATION_CONFIRM
Op: TypeAlias = Operation.ValueType

_FIELDS = {
    getattr(event_pb2, "".join(word.title() for word in field.name.split("_"))): field.name
    for field in SagaEvent.DESCRIPTOR.oneofs_by_name["event"].fields
}


@dataclass(frozen=True)
class After:
    """In a list of facts: the next one happens so many seconds after the saga was created."""

    seconds: float


def event(saga: Saga, fact: Message, seconds: float) -> SagaEvent:
    """The fact as the saga's next event."""
    return SagaEvent(
        saga_id=saga.saga_id,
        sequence=saga.last_sequence + 1,
        time=to_timestamp(at(seconds)),
        **{_FIELDS[type(fact)]: fact},  # type: ignore[arg-type]  # the table pairs them
    )


def saga_of(definition: SagaDefinition, facts: Sequence[Message | After]) -> Saga:
    """A saga that was created and has seen these facts."""
    saga = Saga("saga-1", plan(definition))
    seconds = 0.0
    for fact in (created(), *facts):
        if isinstance(fact, After):
            seconds = fact.seconds
        else:
            apply(saga, event(saga, fact, seconds))
    return saga


def created() -> SagaCreated:
    return SagaCreated(uid="uid-1", definition="shop", version=1, input=Any(value=b"order"))


def begun(deadline: float | None = None) -> SagaStarted:
    return SagaStarted(deadline=to_timestamp(at(deadline)) if deadline is not None else None)


def attempt(step: str, number: int = 1, operation: Op = EXECUTE, until: float = 10) -> AttemptStarted:
    return AttemptStarted(step=step, operation=operation, attempt=number, deadline=to_timestamp(at(until)))


def failed(
    step: str, number: int = 1, operation: Op = EXECUTE, *, again: float | None = None, answered: bool = False
) -> AttemptFailed:
    return AttemptFailed(
        step=step,
        operation=operation,
        attempt=number,
        failure=Failure(kind=FAILURE_KIND_UNAVAILABLE),
        answered=answered,
        next_attempt_time=to_timestamp(at(again)) if again is not None else None,
    )


def lost(step: str, number: int = 1, operation: Op = EXECUTE, *, until: float | None = None) -> AttemptLost:
    deadline = to_timestamp(at(until)) if until is not None else None
    return AttemptLost(step=step, operation=operation, attempt=number, deadline=deadline)


def accepted(step: str, number: int = 1, operation: Op = EXECUTE) -> StepPending:
    return StepPending(step=step, operation=operation, attempt=number, poll_after=to_duration(ns(5)))


def skipped(step: str) -> StepSkipped:
    return StepSkipped(step=step)


def completed(step: str, number: int = 1, hold: float | None = None) -> StepCompleted:
    hold_until = to_timestamp(at(hold)) if hold is not None else None
    return StepCompleted(step=step, attempt=number, output=Any(value=b"output"), hold_until=hold_until)


def rejected(step: str, number: int = 1, *, in_doubt: bool = False) -> StepRejected:
    return StepRejected(step=step, attempt=number, failure=Failure(kind=FAILURE_KIND_REJECTED), in_doubt=in_doubt)


def compensated(step: str, number: int = 1) -> StepCompensated:
    return StepCompensated(step=step, attempt=number)


def compensation_failed(step: str, number: int = 1) -> StepCompensationFailed:
    return StepCompensationFailed(step=step, attempt=number, failure=Failure(kind=FAILURE_KIND_REJECTED))


def confirmed(step: str, number: int = 1) -> StepConfirmed:
    return StepConfirmed(step=step, attempt=number)


def stuck(step: str, operation: Op = EXECUTE) -> StepStuck:
    return StepStuck(step=step, operation=operation, failure=Failure(kind=FAILURE_KIND_UNAVAILABLE))


def paused() -> SagaPaused:
    return SagaPaused(reason="a look first")


def resumed() -> SagaResumed:
    return SagaResumed(reason="looked")


def retried(state: SagaState.ValueType) -> SagaRetried:
    return SagaRetried(reason="the bug is fixed", state=state)


def resolved(step: str, resolution: Resolution.ValueType, state: SagaState.ValueType) -> StepResolved:
    return StepResolved(step=step, resolution=resolution, reason="the bank says so", state=state)


def no_return() -> PointOfNoReturnPassed:
    return PointOfNoReturnPassed()


def turned_back() -> CompensationStarted:
    return CompensationStarted(cause=Failure(kind=FAILURE_KIND_CANCELLED))


def overdue() -> SagaOverdue:
    return SagaOverdue()


def saga_completed() -> SagaCompleted:
    return SagaCompleted()


def saga_compensated() -> SagaCompensated:
    return SagaCompensated()


def saga_failed() -> SagaFailed:
    return SagaFailed(failure=Failure(kind=FAILURE_KIND_UNAVAILABLE))
