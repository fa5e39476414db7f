"""What can happen next, and how it is called.

A `Move` is one thing that happens to a saga: a participant answers, time passes, somebody cancels, the coordinator
dies. Moves that hurt are counted as failures, so that an exploration can be bounded by how many of them a path has.

The participants here keep the contract. They answer truthfully: a refusal only where no effect stands. With a barrier
a refusal covers earlier attempts, and a Compensate bars every later Execute.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from google.protobuf.any_pb2 import Any

from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.core.limits import SECOND_NS
from coordinator.explore.truth import Truth
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_READ_ONLY,
    Failure,
    Operation,
    StepKind,
)

POLL_AFTER_NS: Final = SECOND_NS
OUTPUT: Final = Any(value=b"output")
TIMED_OUT: Final = Unknown(Failure(kind=FAILURE_KIND_TIMED_OUT), retryable=True, answered=False)


class Deed(Enum):
    """What can happen."""

    COMPLETE = "completed"
    REFUSE = "refused"
    ACCEPT = "pending"
    ABORT = "no answer that says what happened"
    ABORT_AFTER = "takes effect, and no answer says so"
    BREAK = "an answer that makes no sense"
    LOSE = "the connection is lost"
    LAND = "takes effect unheard"
    TICK = "time passes"
    SLOW = "no answer in time"
    CANCEL = "a cancel"
    CRASH = "the coordinator dies and comes back"
    START = "the saga starts"


REPLIES: Final = (Deed.COMPLETE, Deed.REFUSE, Deed.ACCEPT, Deed.ABORT, Deed.ABORT_AFTER, Deed.BREAK, Deed.LOSE)
"""What a call can be answered with, in the order in which it is tried."""

HEALTHY: Final = frozenset((Deed.COMPLETE, Deed.LAND, Deed.TICK, Deed.START))
"""What happens where nothing fails."""


class Move(NamedTuple):
    """One thing that happens."""

    deed: Deed
    step: int = -1
    operation: Operation.ValueType = OPERATION_EXECUTE
    stopping: bool = False
    """The coordinator records the answer, and stops before it acts on it."""
    told: str = ""
    """What the saga's data turned out to be, a letter for each step that was `asked`: see `world`."""
    asked: tuple[int, ...] = ()


class Flight(NamedTuple):
    """A call or a poll on its way."""

    step: int
    operation: Operation.ValueType
    attempt: int
    deadline_ns: int
    poll: bool


def replies(flight: Flight, kind: StepKind.ValueType, truth: Truth, barriered: bool) -> Iterator[Deed]:
    """What the participant can do with a call."""
    yield Deed.COMPLETE
    if flight.operation == OPERATION_EXECUTE:
        if not truth.effect or flight.poll:  # out of PENDING, a refusal cleans up what was begun
            yield Deed.REFUSE
        if can_land(kind, truth, barriered):
            yield Deed.ABORT_AFTER
    else:
        yield Deed.REFUSE
        yield Deed.ABORT_AFTER
    yield Deed.ACCEPT
    yield Deed.ABORT
    if flight.operation == OPERATION_EXECUTE:
        yield Deed.BREAK
        if not flight.poll:
            yield Deed.LOSE


def can_land(kind: StepKind.ValueType, truth: Truth, barriered: bool) -> bool:
    """Whether an Execute that gets through now would take effect."""
    return not (truth.effect or kind == STEP_KIND_READ_ONLY or (barriered and truth.barred))


def answer(
    flight: Flight, deed: Deed, kind: StepKind.ValueType, truth: Truth, barriered: bool, now_ns: int, hold_ns: int
) -> tuple[Truth, Reply]:
    """What the participant does, and what the coordinator hears."""
    truth = over(flight, truth)
    match flight.operation:
        case operation if operation == OPERATION_EXECUTE:
            return _execute(flight, deed, kind, truth, barriered, now_ns, hold_ns)
        case operation if operation == OPERATION_COMPENSATE:
            truth = truth._replace(barred=True)
            done = truth._replace(effect=False)
        case _:
            done = truth._replace(confirmed=True)
    match deed:
        case Deed.COMPLETE:
            return done, Done(noop=flight.operation == OPERATION_COMPENSATE and not truth.effect)
        case Deed.REFUSE:
            return truth, Refused("LAPSED" if flight.operation == OPERATION_CONFIRM else "TOO_LATE")
        case Deed.ABORT_AFTER:
            return done, without_outcome(deed)
        case _:
            return truth, without_outcome(deed)


def _execute(
    flight: Flight, deed: Deed, kind: StepKind.ValueType, truth: Truth, barriered: bool, now_ns: int, hold_ns: int
) -> tuple[Truth, Reply]:
    landed = truth._replace(effect=True) if can_land(kind, truth, barriered) else truth
    match deed:
        case Deed.COMPLETE if landed.effect or kind == STEP_KIND_READ_ONLY:
            return landed, Done(OUTPUT, now_ns + hold_ns if hold_ns else None)
        case Deed.COMPLETE | Deed.REFUSE:  # barred, in the first case
            # With a barrier nothing that was sent so far takes effect any more.
            late_ns = 0 if barriered else truth.late_until_ns
            return truth._replace(effect=False, late_until_ns=late_ns), Refused("NO", covers_earlier=barriered)
        case Deed.ACCEPT | Deed.ABORT_AFTER:  # what is accepted may have taken effect already
            return landed, without_outcome(deed)
        case Deed.LOSE:
            return abandon(flight, truth), without_outcome(deed)
        case _:
            return truth, without_outcome(deed)


def abandon(flight: Flight, truth: Truth) -> Truth:
    """Nobody awaits the call any more; an Execute may land until its deadline."""
    truth = over(flight, truth)
    if flight.operation == OPERATION_EXECUTE and flight.deadline_ns > truth.late_until_ns:
        truth = truth._replace(late_until_ns=flight.deadline_ns)
    return truth


def over(flight: Flight, truth: Truth) -> Truth:
    """The call is not in flight any more."""
    return truth._replace(poll_until_ns=0) if flight.poll else truth._replace(call=0, call_until_ns=0)


_WITHOUT_OUTCOME: Final[dict[Deed, Reply]] = {
    Deed.ACCEPT: Accepted(POLL_AFTER_NS),
    Deed.ABORT: Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=True),
    Deed.ABORT_AFTER: Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=True),
    Deed.BREAK: Unknown(Failure(kind=FAILURE_KIND_CALL_REFUSED), retryable=False, answered=True),
    Deed.LOSE: Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=False),
}


def without_outcome(deed: Deed) -> Reply:
    """A reply that says nothing of the outcome."""
    return _WITHOUT_OUTCOME[deed]
