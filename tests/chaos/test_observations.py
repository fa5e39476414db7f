"""What clients are told has to fit together; each way in which it does not is noticed."""

from saga.v1.coordinator_pb2 import Saga
from saga.v1.event_pb2 import SagaCompleted, SagaEvent
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_RUNNING,
    SagaState,
)
from tests.chaos.ledger import Wrong
from tests.chaos.observations import Observations


def shown(sequence: int, state: SagaState.ValueType = SAGA_STATE_RUNNING, uid: str = "uid") -> Saga:
    return Saga(saga_id="s", uid=uid, last_sequence=sequence, state=state)


def event(sequence: int) -> SagaEvent:
    return SagaEvent(saga_id="s", sequence=sequence, saga_completed=SagaCompleted())


def wrongs(*sagas: Saga) -> list[Wrong]:
    known = Observations()
    for saga in sagas:
        known.see(saga)
    return [problem.wrong for problem in known.problems]


def test_a_saga_that_goes_on_and_ends_is_fine() -> None:
    known = Observations()
    for saga in (shown(1), shown(1), shown(4), shown(5, SAGA_STATE_COMPLETED), shown(5, SAGA_STATE_COMPLETED)):
        known.see(saga)
    assert (known.problems, known.uids, known.ended) == ([], {"s": "uid"}, {"s": SAGA_STATE_COMPLETED})


def test_g1_g10_what_was_shown_is_not_taken_back() -> None:
    assert wrongs(shown(4), shown(3)) == [Wrong.LOST]
    assert wrongs(shown(1), shown(1, uid="another")) == [Wrong.DOUBLED]
    assert wrongs(shown(1, SAGA_STATE_COMPLETED), shown(2)) == [Wrong.UNTRUE]
    assert wrongs(shown(1, SAGA_STATE_COMPLETED), shown(2, SAGA_STATE_COMPENSATED)) == [Wrong.UNTRUE]


def test_g3_nothing_here_may_fail() -> None:
    assert wrongs(shown(1, SAGA_STATE_FAILED)) == [Wrong.UNTRUE]


def test_a_watch_leaves_nothing_out() -> None:
    known = Observations()
    known.watch(event(1), SAGA_STATE_RUNNING)
    known.watch(event(2), SAGA_STATE_COMPLETED)
    assert (known.problems, known.ended) == ([], {"s": SAGA_STATE_COMPLETED})
    known.watch(event(4), SAGA_STATE_COMPLETED)
    assert [problem.wrong for problem in known.problems] == [Wrong.LOST]


def test_g1_what_was_watched_is_in_the_journal() -> None:
    known = Observations()
    known.watch(event(1), SAGA_STATE_RUNNING)
    assert list(known.compare({"s": [event(1), event(2)]})) == []
    other = SagaEvent(saga_id="s", sequence=1, actor="somebody else", saga_completed=SagaCompleted())
    assert [problem.wrong for problem in known.compare({"s": [other]})] == [Wrong.LOST]
    assert [problem.wrong for problem in known.compare({})] == [Wrong.LOST]
