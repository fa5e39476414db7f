"""From one input to the point where nothing more is due.

`turn` is the loop round the core's three functions: `decide` says what has happened, `apply` makes it the saga's
state, `outstanding` says what is due then. All events of a turn are one append, so what a reply establishes and the
intent it leads to are never apart on disk.

This module must not read a clock, draw a number or evaluate an expression: `now_ns` and the answers of an `Oracle`
are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.core.decide import Fact, decide
from coordinator.core.inputs import Begun, Input, InputFailed, OutputKnown, Skipped
from coordinator.core.instants import put_instant
from coordinator.core.outstanding import NO_POLLS, Due, EvaluationDue, OutputDue, Outstanding, outstanding
from coordinator.core.state import Saga, StepRecord, apply
from saga.v1 import event_pb2
from saga.v1.event_pb2 import (
    AttemptFailed,
    AttemptLost,
    SagaEvent,
    StepCompensated,
    StepCompensationFailed,
    StepCompleted,
    StepConfirmed,
    StepPending,
    StepRejected,
    StepStuck,
)
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation


class Oracle(Protocol):
    """Answers what the core must not find out by itself."""

    def evaluate(self, saga: Saga, step: StepRecord) -> Begun | Skipped | InputFailed:
        """Evaluate the step's condition and input."""

    def evaluate_output(self, saga: Saga) -> OutputKnown:
        """Evaluate the saga's output."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn has led to: its events, in order and already applied, and what they want under way when durable."""

    events: Sequence[SagaEvent]
    wanted: Outstanding


def turn(
    saga: Saga,
    given: Input | None,
    now_ns: int,
    oracle: Oracle,
    polled_until_ns: Mapping[str, int] = NO_POLLS,
) -> Turn:
    """Take an input in, or only the time, and do what has become due, until nothing more is.

    `now_ns` must not be before the saga's last event; `polled_until_ns` is as `outstanding` takes it. Forbidden is
    raised, and nothing is changed, where the input is not allowed.
    """
    events = _taken_in(saga, given, now_ns, polled_until_ns)
    while (wanted := outstanding(saga, now_ns, polled_until_ns)).due:
        for item in wanted.due:
            _record(saga, decide(saga, _answer(saga, item, oracle), now_ns), now_ns, events)
            if saga.setback is not None:
                break  # nothing more is started on the way to turning back
    return Turn(events, wanted)


def record(saga: Saga, given: Input | None, now_ns: int, polled_until_ns: Mapping[str, int] = NO_POLLS) -> Turn:
    """Take an input in, and do nothing of what has become due: for a coordinator that is about to stop."""
    events = _taken_in(saga, given, now_ns, polled_until_ns)
    return Turn(events, outstanding(saga, now_ns, polled_until_ns))


def _taken_in(saga: Saga, given: Input | None, now_ns: int, polled_until_ns: Mapping[str, int]) -> list[SagaEvent]:
    events: list[SagaEvent] = []
    if given is not None:
        _record(saga, decide(saga, given, now_ns, polled_until_ns), now_ns, events)
    return events


def _answer(saga: Saga, due: Due, oracle: Oracle) -> Input | Due:
    if isinstance(due, EvaluationDue):
        return oracle.evaluate(saga, saga.step(due.step))
    if isinstance(due, OutputDue):
        return oracle.evaluate_output(saga)
    return due


def _record(saga: Saga, decided: Sequence[tuple[Fact, str]], now_ns: int, events: list[SagaEvent]) -> None:
    """Give the facts their place in the saga, and apply them."""
    for fact, actor in decided:
        event = SagaEvent(
            saga_id=saga.saga_id,
            sequence=saga.last_sequence + 1,
            caused_by_sequence=_cause(saga, fact, events),
            actor=actor,
        )
        # Filled in place: a message that is handed to the constructor is copied by way of its bytes.
        put_instant(event.time, now_ns)
        getattr(event, _FIELD[type(fact)]).CopyFrom(fact)
        apply(saga, event)
        events.append(event)


def _cause(saga: Saga, fact: Fact, events: Sequence[SagaEvent]) -> int:
    """An outcome follows from its attempt; everything else from what the turn began with."""
    operation = _outcome_of(fact)
    if operation is not None:
        progress = saga.step(fact.step).progress.get(operation)  # type: ignore[union-attr]  # an outcome has a step
        if progress is not None:
            return progress.started_sequence
    return events[0].sequence if events else 0


def _outcome_of(fact: Fact) -> Operation.ValueType | None:
    if isinstance(fact, (AttemptFailed, AttemptLost, StepPending, StepStuck)):
        return fact.operation
    return _OUTCOMES.get(type(fact))


_OUTCOMES = {
    StepCompleted: OPERATION_EXECUTE,
    StepRejected: OPERATION_EXECUTE,
    StepCompensated: OPERATION_COMPENSATE,
    StepCompensationFailed: OPERATION_COMPENSATE,
    StepConfirmed: OPERATION_CONFIRM,
}

# The message of each fact and the field of the event that carries it: `StepCompleted` is carried by `step_completed`.
_FIELD = {
    getattr(event_pb2, "".join(word.title() for word in field.name.split("_"))): field.name
    for field in SagaEvent.DESCRIPTOR.oneofs_by_name["event"].fields
}
