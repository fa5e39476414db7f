"""The other side of a step: what stands at its participant, what may still land there, and what has been said of it.

This is the ground truth against which a coordinator is judged. It is fed by what participants do and by the events that
are journaled, never by a saga's own state.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE


class Word(IntEnum):
    """What is journaled of a step's Execute."""

    NONE = 0
    COMPLETED = 1
    REFUSED = 2
    REFUSED_IN_DOUBT = 3
    SKIPPED = 4
    STUCK = 5


class Going(IntEnum):
    """How far a Compensate or a Confirm is."""

    NOT_SENT = 0
    SENT = 1
    DONE = 2
    GIVEN_UP = 3


class Truth(NamedTuple):
    """One step's side of the world. Instants are 0 where they do not apply."""

    effect: bool = False
    """The effect of its Execute stands."""
    confirmed: bool = False
    barred: bool = False
    """It was asked to compensate; with a barrier, no Execute takes effect from then on."""
    begun: bool = False
    """An Execute was sent."""
    doubt: bool = False
    """An Execute attempt ended, nobody could say what it did, and no outcome has been heard since that settles it."""
    word: Word = Word.NONE
    compensation: Going = Going.NOT_SENT
    confirmation: Going = Going.NOT_SENT
    call: int = 0
    """The operation of the call that is in flight; 0 where none is."""
    poll: int = 0
    """The operation that is polled."""
    call_until_ns: int = 0
    """The deadline of the call in flight."""
    late_until_ns: int = 0
    """Until then an Execute that nobody awaits any more may land."""
    poll_at_ns: int = 0
    """When an accepted operation is asked again."""
    poll_until_ns: int = 0
    """The deadline of the poll in flight."""
    attempt: int = 0
    """The number of the attempt that is called or polled."""

    @property
    def done(self) -> bool:
        """Whether what depends on it may begin."""
        return self.word in (Word.COMPLETED, Word.SKIPPED)

    def at_work(self, now_ns: int) -> bool:
        """Whether an Execute may be at work, or may still come to be."""
        called = self.call == OPERATION_EXECUTE and self.call_until_ns > now_ns
        polled = self.poll == OPERATION_EXECUTE and self.poll_until_ns > now_ns
        return called or polled or self.late_until_ns > now_ns

    @property
    def stuck(self) -> bool:
        """Whether it cannot go on, and says so."""
        return self.word == Word.STUCK or self.confirmation == Going.GIVEN_UP

    @property
    def certainly_nothing(self) -> bool:
        """Whether no Execute of it had or will have an effect, as far as anybody was told."""
        return not self.begun or self.word in (Word.REFUSED, Word.SKIPPED)

    @property
    def compensation_over(self) -> bool:
        """Whether nothing more is tried to compensate it."""
        return self.compensation in (Going.DONE, Going.GIVEN_UP)


def heard(truth: Truth, name: str, event: SagaEvent) -> Truth:
    """What is known of a step once an event about it is journaled; `name` is that of the event's field."""
    match name:
        case "attempt_started":
            return _sent(truth, event.attempt_started.operation)
        case "attempt_failed" if event.attempt_failed.operation == OPERATION_EXECUTE:
            return truth._replace(doubt=True)
        case "attempt_lost" if event.attempt_lost.operation == OPERATION_EXECUTE:
            return truth._replace(doubt=True)
        case "step_completed":
            return truth._replace(word=Word.COMPLETED, doubt=False)
        case "step_skipped":
            return truth._replace(word=Word.SKIPPED)
        case "step_rejected":
            return truth._replace(word=Word.REFUSED_IN_DOUBT if event.step_rejected.in_doubt else Word.REFUSED)
        case "step_compensated":
            return truth._replace(compensation=Going.DONE)
        case "step_compensation_failed":
            return truth._replace(compensation=Going.GIVEN_UP)
        case "step_confirmed":
            return truth._replace(confirmation=Going.DONE)
        case "step_stuck":
            return _stuck(truth, event.step_stuck.operation)
    return truth


def _sent(truth: Truth, operation: int) -> Truth:
    if operation == OPERATION_EXECUTE:
        return truth if truth.begun else truth._replace(begun=True)
    if operation == OPERATION_COMPENSATE:
        return truth._replace(compensation=Going.SENT)
    return truth._replace(confirmation=Going.SENT)


def _stuck(truth: Truth, operation: int) -> Truth:
    if operation == OPERATION_CONFIRM:
        return truth._replace(confirmation=Going.GIVEN_UP)
    return truth._replace(word=Word.STUCK)
