"""Judges what is left when everything is well again and every saga had time to end.

Every acknowledged saga is there and has ended, for a reason that it deserves; the books, the banks' barriers and the
journal all say what the coordinator says, and what clients were shown is still so. Pure: `aftermath` collects it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from participant_sdk.barrier.rules import State
from saga.v1.coordinator_pb2 import Saga
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_DEADLINE_PASSED,
    FAILURE_KIND_LOST,
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    SAGA_STATE_COMPLETED,
    FailureKind,
    SagaState,
)
from tests.chaos.ledger import Ledger, Problem, Wrong
from tests.chaos.observations import ENDED, Observations
from tests.chaos.transfers import Wish
from tests.support.settled import STANDS, overlapping, turns_by_key

_CUT_OFF: Final = frozenset({FAILURE_KIND_UNAVAILABLE, FAILURE_KIND_TIMED_OUT, FAILURE_KIND_LOST})


class BarrierRow(NamedTuple):
    """How a bank's barrier knows a step."""

    saga_uid: str
    step: str
    state: State


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is left, from every place that has a say."""

    sagas: Sequence[Saga]
    """As ListSagas has them."""
    started_again: Mapping[str, str]
    """The uids that starting acknowledged sagas once more was answered with."""
    events: Mapping[str, Sequence[SagaEvent]]
    """The journal, by saga, read from its file."""
    journal_problems: Sequence[str]
    """What `saga journal verify` finds."""
    barriers: Sequence[BarrierRow]


def problems(left: Aftermath, ledger: Ledger, known: Observations) -> Iterator[Problem]:
    """Yield everything that is wrong."""
    found = {saga.saga_id: saga for saga in left.sagas}
    yield from _problems_of_starts(left, found, known)
    for saga in left.sagas:
        yield from _problems_of_end(saga, known)
    for saga_id in known.wishes:
        yield from ledger.problems_at_end(saga_id, found[saga_id].state if saga_id in found else None)
    if ledger.in_flight_minor:
        yield Problem(Wrong.LOST, "", f"{ledger.in_flight_minor} are in flight, and nothing is under way")
    yield from _problems_of_barriers(left)
    yield from _problems_of_turns(left)
    yield from (Problem(Wrong.UNTRUE, "", f"journal: {text}") for text in left.journal_problems)
    if left.events.keys() != found.keys():
        yield Problem(Wrong.UNTRUE, "", f"listed or journaled, not both: {left.events.keys() ^ found.keys()}")
    yield from known.compare(left.events)


def _problems_of_starts(left: Aftermath, found: Mapping[str, Saga], known: Observations) -> Iterator[Problem]:
    """G1, G3, G10: what was acknowledged is there, as it was acknowledged; and nothing that nobody asked for is."""
    for saga_id, uid in known.uids.items():
        if saga_id not in found:
            yield Problem(Wrong.LOST, saga_id, "its start was acknowledged, and it is not listed")
        elif found[saga_id].uid != uid:
            yield Problem(Wrong.DOUBLED, saga_id, f"{uid} was acknowledged, {found[saga_id].uid} is listed")
        if left.started_again.get(saga_id, uid) != uid:
            yield Problem(Wrong.DOUBLED, saga_id, "started once more it was another")
    yield from (Problem(Wrong.UNTRUE, each, "nobody asked for it") for each in found.keys() - known.wishes.keys())
    if len(found) != len(left.sagas):
        yield Problem(Wrong.DOUBLED, "", "a saga is listed twice")


def _problems_of_end(saga: Saga, known: Observations) -> Iterator[Problem]:
    """G3, G5: it has ended, and for a reason that it deserves."""
    state = SagaState.Name(saga.state)
    if saga.state not in ENDED:
        yield Problem(Wrong.LOST, saga.saga_id, f"it has not ended: it is {state}")
        return
    if known.ended.get(saga.saga_id, saga.state) != saga.state:
        yield Problem(Wrong.UNTRUE, saga.saga_id, f"another end was shown than {state}")
    wish = known.wishes.get(saga.saga_id)
    if wish is None:
        return
    if saga.state == SAGA_STATE_COMPLETED:
        if not wish.may_complete:
            yield Problem(Wrong.UNTRUE, saga.saga_id, f"it is {state}, and no bank can have agreed")
    elif not _is_deserved(saga, wish, known):
        kind = FailureKind.Name(saga.failure.kind)
        yield Problem(Wrong.UNTRUE, saga.saga_id, f"it went back for no reason: {kind} {saga.failure.reason}")


def _is_deserved(saga: Saga, wish: Wish, known: Observations) -> bool:
    match saga.failure.kind:
        case kind if kind == FAILURE_KIND_REJECTED:
            return saga.failure.reason in wish.refusals
        case kind if kind == FAILURE_KIND_CANCELLED:
            return wish.saga_id in known.cancelled
        case kind if kind == FAILURE_KIND_DEADLINE_PASSED:
            return wish.timeout is not None
        case kind:
            return kind in _CUT_OFF


def _problems_of_barriers(left: Aftermath) -> Iterator[Problem]:
    """G4, G8: no bank has done more or less of a saga than its end says, and none still owes an answer."""
    by_uid = {saga.uid: saga for saga in left.sagas}
    for row in left.barriers:
        saga = by_uid.get(row.saga_uid)
        if saga is None:
            yield Problem(Wrong.UNTRUE, "", f"a bank has worked for {row.saga_uid}, which is not listed")
        elif row.state not in STANDS.get(saga.state, {row.state}):
            state = SagaState.Name(saga.state)
            yield Problem(Wrong.UNTRUE, saga.saga_id, f"it is {state}, its step {row.step} is {row.state} at the bank")


def _problems_of_turns(left: Aftermath) -> Iterator[Problem]:
    """Rule 6: transfers that share an account took turns. Those that never began had none."""
    begun = (saga for saga in left.sagas if any(each.HasField("saga_started") for each in left.events[saga.saga_id]))
    keys = overlapping(turns_by_key(begun))
    yield from (Problem(Wrong.UNTRUE, "", f"two sagas had {key} at the same time") for key in keys)


def counts_of_attempts(left: Aftermath) -> Counter[str]:
    """Return what the journal says of attempts: `retries` are those beyond an operation's first."""
    counts = Counter[str]()
    for event in (event for events in left.events.values() for event in events):
        match event.WhichOneof("event"):
            case "attempt_started":
                counts["made"] += 1
                counts["retries"] += event.attempt_started.attempt > 1
            case "attempt_lost":
                counts["lost in a crash, and asked again"] += 1
            case "attempt_failed":
                counts["failed"] += 1
    return counts
