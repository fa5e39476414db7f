"""The verdict on a round that went well, and on each way in which one may not have."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from participant_sdk.barrier.rules import State
from saga.v1.coordinator_pb2 import Saga
from saga.v1.event_pb2 import AttemptLost, AttemptStarted, SagaCreated, SagaEvent, SagaStarted
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_DEADLINE_PASSED,
    FAILURE_KIND_PROTOCOL_VIOLATION,
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNAVAILABLE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_RUNNING,
    Failure,
)
from tests.chaos import verdict
from tests.chaos.ledger import Books, Ledger, Wrong
from tests.chaos.observations import Observations
from tests.chaos.test_ledger import CREDIT, DEBIT, SETTLEMENT, T, accounts
from tests.chaos.transfers import Follow, Wish
from tests.chaos.verdict import Aftermath, BarrierRow

WISH = Wish(
    definition="transfer_north_to_south",
    transfer=T,
    refusals=frozenset({"INSUFFICIENT_FUNDS"}),
    may_complete=True,
    follow=Follow.WAIT,
    timeout=None,
    cancelled_after_s=None,
    starts_twice=False,
    clashes=False,
    patience_s=None,
    gives_up=False,
)
COMPLETED = Saga(saga_id="t", uid="uid", state=SAGA_STATE_COMPLETED)
EVENTS = [
    SagaEvent(saga_id="t", sequence=1, saga_created=SagaCreated()),
    SagaEvent(saga_id="t", sequence=2, saga_started=SagaStarted()),
]


@dataclass
class Round:
    """A transfer that was made, and everything that there is to say of it."""

    left: Aftermath
    ledger: Ledger
    known: Observations

    def wrongs(self) -> list[Wrong]:
        return [problem.wrong for problem in verdict.problems(self.left, self.ledger, self.known)]

    def with_saga(self, saga: Saga) -> "Round":
        return Round(replace(self.left, sagas=[saga]), self.ledger, self.known)


@pytest.fixture
def played() -> Round:
    known = Observations()
    known.wish(WISH)
    known.see(COMPLETED)
    rows = [BarrierRow("uid", "debit", State.COMPLETED)]
    round_ = Round(Aftermath([COMPLETED], {"t": "uid"}, {"t": EVENTS}, [], rows), Ledger(known.wanted), known)
    movements = [DEBIT, CREDIT, SETTLEMENT]
    assert list(round_.ledger.problems(Books(accounts(movements), movements), {})) == []
    return round_


@pytest.fixture
def gone_back() -> Callable[[Failure], Round]:
    """A transfer that went back for that reason, without an effect."""

    def make(failure: Failure) -> Round:
        known = Observations()
        known.wish(WISH)
        saga = Saga(saga_id="t", uid="uid", state=SAGA_STATE_COMPENSATED, failure=failure)
        return Round(Aftermath([saga], {}, {"t": EVENTS}, [], []), Ledger(known.wanted), known)

    return make


def test_all_is_well(played: Round) -> None:
    assert played.wrongs() == []


def test_g1_an_acknowledged_saga_that_is_not_there_is_lost(played: Round) -> None:
    played.left = replace(played.left, sagas=[], barriers=[], events={})
    assert Wrong.LOST in played.wrongs()


def test_g3_a_saga_that_has_not_ended_is_lost(played: Round) -> None:
    for state in (SAGA_STATE_RUNNING, SAGA_STATE_FAILED):
        running = played.with_saga(Saga(saga_id="t", uid="uid", state=state))
        assert Wrong.LOST in running.wrongs()


def test_g10_another_saga_of_that_id_is_doubled(played: Round) -> None:
    played.left = replace(played.left, started_again={"t": "another"})
    assert played.wrongs() == [Wrong.DOUBLED]


def test_a_saga_that_nobody_asked_for_is_untrue(played: Round) -> None:
    stranger = Saga(saga_id="x", uid="x", state=SAGA_STATE_COMPENSATED, failure=Failure(kind=FAILURE_KIND_UNAVAILABLE))
    played.left = replace(played.left, sagas=[COMPLETED, stranger], events={"t": EVENTS, "x": []})
    assert played.wrongs() == [Wrong.UNTRUE]


def test_g2_a_completed_saga_without_its_effects_is_lost(played: Round) -> None:
    played.ledger = Ledger(played.known.wanted)
    assert played.wrongs() == [Wrong.LOST]


def test_money_that_is_still_in_flight_is_lost(played: Round) -> None:
    played.ledger.in_flight_minor = 1
    assert played.wrongs() == [Wrong.LOST]


def test_g4_g8_a_barrier_that_says_something_else_is_untrue(played: Round) -> None:
    for row in (BarrierRow("uid", "debit", State.PENDING), BarrierRow("uid", "debit", State.COMPENSATED)):
        played.left = replace(played.left, barriers=[row])
        assert played.wrongs() == [Wrong.UNTRUE]
    played.left = replace(played.left, barriers=[BarrierRow("unknown", "debit", State.COMPLETED)])
    assert played.wrongs() == [Wrong.UNTRUE]


def test_a_journal_that_does_not_verify_or_has_not_the_same_sagas_is_untrue(played: Round) -> None:
    played.left = replace(played.left, journal_problems=["saga t does not fold"])
    assert played.wrongs() == [Wrong.UNTRUE]
    played.left = replace(played.left, journal_problems=[], events={"t": EVENTS, "x": EVENTS})
    assert played.wrongs() == [Wrong.UNTRUE]


def test_turns_that_overlap_are_untrue_unless_one_never_began(played: Round) -> None:
    """Rule 6."""

    def holding(saga_id: str, start_s: int, end_s: int) -> Saga:
        saga = Saga(saga_id=saga_id, uid=saga_id, state=SAGA_STATE_COMPENSATED, exclusive_keys=["account:ada"])
        saga.start_time.seconds, saga.end_time.seconds = start_s, end_s
        return saga

    sagas = [holding("a", 1, 3), holding("b", 2, 4)]
    both = replace(played.left, sagas=sagas, events={"a": EVENTS, "b": EVENTS})
    assert len(list(verdict._problems_of_turns(both))) == 1
    one = replace(both, events={"a": EVENTS, "b": EVENTS[:1]})
    assert list(verdict._problems_of_turns(one)) == []


class TestReasons:
    """G5: a saga goes back for a reason that it deserves."""

    def test_deserved(self, gone_back: Callable[[Failure], Round]) -> None:
        assert gone_back(Failure(kind=FAILURE_KIND_UNAVAILABLE)).wrongs() == []
        assert gone_back(Failure(kind=FAILURE_KIND_REJECTED, reason="INSUFFICIENT_FUNDS")).wrongs() == []
        cancelled = gone_back(Failure(kind=FAILURE_KIND_CANCELLED))
        cancelled.known.cancelled.add("t")
        assert cancelled.wrongs() == []

    @pytest.mark.parametrize(
        "failure",
        [
            Failure(kind=FAILURE_KIND_REJECTED, reason="ACCOUNT_CLOSED"),
            Failure(kind=FAILURE_KIND_CANCELLED),
            Failure(kind=FAILURE_KIND_DEADLINE_PASSED),
            Failure(kind=FAILURE_KIND_PROTOCOL_VIOLATION),
        ],
    )
    def test_not_deserved(self, gone_back: Callable[[Failure], Round], failure: Failure) -> None:
        assert gone_back(failure).wrongs() == [Wrong.UNTRUE]

    def test_what_no_bank_agrees_to_does_not_complete(self, played: Round) -> None:
        played.known.wish(replace(WISH, may_complete=False))
        assert played.wrongs() == [Wrong.UNTRUE]


def test_retries_are_attempts_beyond_the_first(played: Round) -> None:
    events = [
        *(SagaEvent(attempt_started=AttemptStarted(step="debit", attempt=attempt)) for attempt in (1, 2, 3)),
        SagaEvent(attempt_lost=AttemptLost(step="debit", attempt=2)),
    ]
    counts = verdict.counts_of_attempts(replace(played.left, events={"t": events}))
    assert counts == {"made": 3, "retries": 2, "lost in a crash, and asked again": 1}
