"""How a reply is read, and what else one input establishes: the rows of the contract's table, one by one."""

from __future__ import annotations

from typing import Any as Anything
from typing import get_args

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core.decide import Fact, decide
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    Begun,
    CancelRequested,
    Done,
    Input,
    InputFailed,
    OutputKnown,
    Recovered,
    Refused,
    Replied,
    Reply,
    Skipped,
)
from coordinator.core.instants import from_duration, from_timestamp
from coordinator.core.outstanding import (
    AttemptDue,
    Due,
    OverdueDue,
    PointOfNoReturnDue,
    StartDue,
    Stranded,
    TurnBackDue,
    WayBackDone,
)
from saga.v1.event_pb2 import AttemptFailed, SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_EXPRESSION_FAILED,
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNAVAILABLE,
    Failure,
)
from tests.coordinator.core.facts import COMPENSATE, CONFIRM, EXECUTE, Op
from tests.coordinator.core.sagas import (
    ABORTED,
    DONE,
    INVALID,
    REFUSED,
    REFUSED_FOR_ALL,
    T0_NS,
    UNAVAILABLE,
    Bench,
    at,
    attempts,
    define,
    names,
    ns,
    pending,
    picture,
    step,
)

KINDS = ("COMPENSATABLE", "RESERVABLE", "READ_ONLY", "PIVOT", "RETRIABLE")


def decided(bench: Bench, given: Input | Due) -> list[Anything]:
    """What is decided, any of a dozen messages; the saga must stay as it is, and the same must come out again."""
    before = picture(bench.saga)
    facts = decide(bench.saga, given, bench.now_ns, bench.polled_until_ns)
    assert picture(bench.saga) == before
    assert decide(bench.saga, given, bench.now_ns, bench.polled_until_ns) == facts
    return [fact for fact, _ in facts]


def replied(bench: Bench, reply: Reply, operation: Op = EXECUTE, jitter: float = 0.0) -> list[Anything]:
    """What a reply to the last attempt of step `x` establishes."""
    attempt = bench.saga.step("x").progress[operation].attempts
    return decided(bench, Replied("x", operation, attempt, reply, jitter))


def words(facts: list[Anything]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def executing(kind: str = "COMPENSATABLE", most: int | None = None) -> Bench:
    """A saga whose only step is being executed."""
    bench = Bench(define(step("x", kind, execute=attempts(most))))
    bench.turn()
    assert bench.calls == [("x", EXECUTE, 1)]
    return bench


def compensating(most: int | None = None) -> Bench:
    """A saga whose step `x` is being compensated, since the one behind it was refused."""
    bench = Bench(define(step("x", compensate=attempts(most)), step("y")))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("y", REFUSED)
    assert bench.calls == [("x", COMPENSATE, 1)]
    return bench


def confirming(most: int | None = None) -> Bench:
    """A saga behind its point of no return, whose hold `x` is being confirmed."""
    bench = Bench(define(step("x", "RESERVABLE", confirm=attempts(most))))
    bench.turn()
    bench.reply("x", DONE)
    assert bench.calls == [("x", CONFIRM, 1)]
    return bench


def next_attempt(fact: AttemptFailed) -> float | None:
    """In how many seconds the next attempt is due."""
    if not fact.HasField("next_attempt_time"):
        return None
    assert from_timestamp(fact.next_attempt_time) - T0_NS == from_duration(fact.backoff)
    return from_duration(fact.backoff) / ns(1)


# --- Execute ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_completed_is_recorded_with_its_output(kind: str) -> None:
    bench = executing(kind)
    (fact,) = replied(bench, Done(DONE.output, hold_until_ns=at(60)))
    assert words([fact]) == ["StepCompleted"]
    assert (fact.step, fact.attempt, fact.output) == ("x", 1, DONE.output)
    assert from_timestamp(fact.hold_until) == at(60)
    (bare,) = replied(bench, Done())
    assert not bare.HasField("output")
    assert not bare.HasField("hold_until")


@pytest.mark.parametrize("kind", ["COMPENSATABLE", "RESERVABLE", "READ_ONLY", "PIVOT"])
def test_rejected_is_a_promise_that_nothing_took_effect(kind: str) -> None:
    (fact,) = replied(executing(kind), Refused("NO_FUNDS", "none", (("limit", "5"),)))
    assert words([fact]) == ["StepRejected"]
    assert not fact.in_doubt
    assert fact.failure == Failure(
        kind=FAILURE_KIND_REJECTED,
        step="x",
        operation=EXECUTE,
        reason="NO_FUNDS",
        message="none",
        metadata={"limit": "5"},
    )


def test_a_retriable_step_that_is_rejected_is_tried_again() -> None:
    (fact,) = replied(executing("RETRIABLE"), REFUSED)
    assert words([fact]) == ["AttemptFailed"]
    assert fact.answered
    assert fact.failure.kind == FAILURE_KIND_REJECTED
    assert next_attempt(fact) == 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reply", "answered"), [(UNAVAILABLE, False), (ABORTED, True)], ids=["unanswered", "answered"])
def test_a_status_that_another_attempt_may_change(kind: str, reply: Reply, answered: bool) -> None:
    """G5: no status is a refusal."""
    (fact,) = replied(executing(kind), reply)
    assert words([fact]) == ["AttemptFailed"]
    assert fact.answered is answered
    assert next_attempt(fact) == 0.05


@pytest.mark.parametrize(("kind", "again"), [(kind, kind in ("PIVOT", "RETRIABLE")) for kind in KINDS])
def test_any_other_status_ends_the_attempts_where_the_saga_can_go_back(kind: str, again: bool) -> None:
    """G5, G6: a pivot and what must go forward is asked again, whatever the status."""
    (fact,) = replied(executing(kind), INVALID)
    assert words([fact]) == ["AttemptFailed"]
    assert next_attempt(fact) == (0.05 if again else None)


@pytest.mark.parametrize("kind", KINDS)
def test_pending_is_accepted_and_not_finished(kind: str) -> None:
    bench = executing(kind)
    (fact,) = replied(bench, pending(7))
    assert words([fact]) == ["StepPending"]
    assert (fact.operation, fact.attempt, fact.message) == (EXECUTE, 1, "in the queue")
    assert from_duration(fact.poll_after) == ns(7)
    bench.reply("x", pending(7))
    assert replied(bench, pending(7)) == []  # a poll that is answered "not yet" is not journaled


@pytest.mark.parametrize(
    ("kind", "most", "expected"),
    [
        ("COMPENSATABLE", 1, ["AttemptFailed"]),
        ("READ_ONLY", 1, ["AttemptFailed"]),
        ("PIVOT", 1, ["AttemptFailed", "StepStuck"]),
        ("RETRIABLE", 1, ["AttemptFailed", "StepStuck"]),
        ("COMPENSATABLE", 2, ["AttemptFailed"]),
    ],
)
def test_a_budget_that_is_spent(kind: str, most: int, expected: list[str]) -> None:
    bench = executing(kind, most)
    facts = replied(bench, UNAVAILABLE)
    assert words(facts) == expected
    assert (next_attempt(facts[0]) is None) == (most == 1)


def test_backoff_grows_and_jitter_picks_a_point_in_its_upper_half() -> None:
    bench = executing()
    for whole in (0.1, 0.2, 0.4, 0.8):
        start = bench.now_ns
        for jitter, part in ((0.0, 0.5), (0.5, 0.75)):
            (fact,) = replied(bench, ABORTED, jitter=jitter)
            assert from_duration(fact.backoff) == ns(whole * part)
            assert from_timestamp(fact.next_attempt_time) == start + ns(whole * part)
        bench.reply("x", ABORTED)
        bench.wait(whole / 2)
    assert words(replied(bench, ABORTED)) == ["AttemptFailed"]
    assert not replied(bench, ABORTED)[0].HasField("next_attempt_time")  # five by default


# --- Rejections after an unknown --------------------------------------------------------------------------------------


def retried(kind: str, first: Reply = UNAVAILABLE) -> Bench:
    """A saga whose step has one attempt of unknown outcome behind it, and one in flight."""
    bench = executing(kind)
    bench.reply("x", first)
    bench.wait(0.05)
    assert bench.calls == [("x", EXECUTE, 2)]
    return bench


@pytest.mark.parametrize("kind", ["COMPENSATABLE", "RESERVABLE", "READ_ONLY"])
@pytest.mark.parametrize("first", [UNAVAILABLE, ABORTED], ids=["unanswered", "answered"])
def test_a_rejection_after_an_unknown_leaves_a_doubt(kind: str, first: Reply) -> None:
    bench = retried(kind, first)
    (doubtful,) = replied(bench, REFUSED)
    assert (words([doubtful]), doubtful.in_doubt) == (["StepRejected"], True)
    (sure,) = replied(bench, REFUSED_FOR_ALL)
    assert (words([sure]), sure.in_doubt) == (["StepRejected"], False)


def test_a_pivots_rejection_is_believed_once_earlier_attempts_have_run_out() -> None:
    """G6: until then one of them may still take effect, and a pivot is not compensated."""
    bench = retried("PIVOT")
    (fact,) = replied(bench, REFUSED)
    assert words([fact]) == ["AttemptFailed"]
    assert fact.answered
    assert from_timestamp(fact.next_attempt_time) == at(10)  # the first attempt's deadline
    bench.reply("x", REFUSED)
    bench.wait_until(10)
    assert bench.calls == [("x", EXECUTE, 3)]
    (fact,) = replied(bench, REFUSED)
    assert (words([fact]), fact.in_doubt) == (["StepRejected"], False)


@pytest.mark.parametrize(("first", "reply"), [(UNAVAILABLE, REFUSED_FOR_ALL), (ABORTED, REFUSED)])
def test_a_pivots_rejection_is_believed_at_once_where_nothing_is_on_its_way(first: Reply, reply: Reply) -> None:
    (fact,) = replied(retried("PIVOT", first), reply)
    assert (words([fact]), fact.in_doubt) == (["StepRejected"], False)


# --- Polls ------------------------------------------------------------------------------------------------------------


def accepted(kind: str, most: int | None = None) -> Bench:
    bench = executing(kind, most)
    bench.reply("x", pending())
    assert [poll.attempt for poll in bench.out.polls] == [1]
    return bench


@pytest.mark.parametrize(
    ("kind", "reply", "expected"),
    [
        ("COMPENSATABLE", DONE, ["StepCompleted"]),
        ("COMPENSATABLE", REFUSED, ["StepRejected"]),
        ("COMPENSATABLE", UNAVAILABLE, []),
        ("COMPENSATABLE", ABORTED, []),
        ("COMPENSATABLE", INVALID, ["AttemptFailed"]),
        ("READ_ONLY", INVALID, ["AttemptFailed"]),
        ("PIVOT", DONE, ["StepCompleted"]),
        ("PIVOT", REFUSED, ["StepRejected"]),
        ("PIVOT", INVALID, []),
        ("RETRIABLE", DONE, ["StepCompleted"]),
        ("RETRIABLE", REFUSED, ["AttemptFailed"]),
        ("RETRIABLE", INVALID, []),
    ],
)
def test_what_a_poll_is_answered(kind: str, reply: Reply, expected: list[str]) -> None:
    """Unknowns are asked again at the next poll; they spend nothing and are not journaled."""
    assert words(replied(accepted(kind), reply)) == expected


def test_a_retriable_step_that_is_rejected_after_it_was_pending_begins_anew() -> None:
    """The row of a participant that rejected answers every poll the same: only a later attempt runs again."""
    bench = accepted("RETRIABLE")
    bench.reply("x", REFUSED)
    assert bench.steps == {"x": "EXECUTING"}
    bench.wait(0.05)
    assert bench.calls == [("x", EXECUTE, 2)]


def test_a_pending_retriable_step_can_run_out_of_attempts() -> None:
    assert words(replied(accepted("RETRIABLE", 1), REFUSED)) == ["AttemptFailed", "StepStuck"]


def test_a_pending_pivots_rejection_is_not_believed_while_a_lost_poll_may_be_at_work() -> None:
    """G6, G8: the poll was in flight when the coordinator died."""
    bench = accepted("PIVOT")
    bench.now_ns = at(100)
    bench.crash()
    bench.now_ns = at(105)
    (fact,) = replied(bench, REFUSED)
    assert words([fact]) == ["AttemptFailed"]
    assert from_timestamp(fact.next_attempt_time) == at(110)
    bench.reply("x", REFUSED)
    bench.wait_until(110)
    assert words(replied(bench, REFUSED)) == ["StepRejected"]


@pytest.mark.parametrize(
    ("kind", "reply", "expected"),
    [
        ("COMPENSATABLE", DONE, ["AttemptLost", "StepCompleted"]),
        ("COMPENSATABLE", REFUSED, ["AttemptLost", "StepRejected"]),
        ("COMPENSATABLE", INVALID, ["AttemptLost", "AttemptFailed"]),
        ("COMPENSATABLE", UNAVAILABLE, []),
        ("COMPENSATABLE", pending(), []),
        ("PIVOT", REFUSED, ["AttemptLost", "AttemptFailed"]),
        ("PIVOT", REFUSED_FOR_ALL, ["AttemptLost", "StepRejected"]),
    ],
)
def test_g8_a_poll_that_nobody_answered_is_journaled_with_the_answer_of_another(
    kind: str, reply: Reply, expected: list[str]
) -> None:
    """Polls are not journaled, so a crash behind that answer would forget that the other one may still be at work."""
    bench = accepted(kind)
    bench.now_ns = at(5)
    bench.polled_until_ns["x"] = at(12)
    facts = replied(bench, reply)
    assert words(facts) == expected
    if facts:
        assert from_timestamp(facts[0].deadline) == at(12)


def test_g8_a_poll_that_nobody_answered_keeps_its_step_from_being_compensated_over_a_crash() -> None:
    bench = accepted("COMPENSATABLE")
    bench.polled_until_ns["x"] = at(12)
    events = bench.reply("x", REFUSED)
    assert names(events) == ["attempt_lost", "step_rejected", "compensation_started"]
    assert events[1].step_rejected.in_doubt
    bench.now_ns = at(1)
    bench.crash()
    assert bench.out.wake_ns == at(12)
    bench.wait_until(12)
    assert bench.calls == [("x", COMPENSATE, 1)]


def test_g6_a_pivots_rejection_is_not_believed_while_another_poll_may_be_at_work() -> None:
    bench = accepted("PIVOT")
    bench.polled_until_ns["x"] = at(12)
    fact = replied(bench, REFUSED)[1]
    assert from_timestamp(fact.next_attempt_time) == at(12)


# --- Compensate and Confirm -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noop", [False, True])
def test_compensated(noop: bool) -> None:
    (fact,) = replied(compensating(), Done(noop=noop), COMPENSATE)
    assert (words([fact]), fact.noop) == (["StepCompensated"], noop)


def test_a_refused_compensation_has_failed() -> None:
    """G7."""
    (fact,) = replied(compensating(), REFUSED, COMPENSATE)
    assert words([fact]) == ["StepCompensationFailed"]
    assert fact.failure.reason == "OUT_OF_STOCK"


@pytest.mark.parametrize("reply", [UNAVAILABLE, ABORTED, INVALID], ids=["unavailable", "aborted", "invalid"])
def test_compensate_and_confirm_are_retried_on_every_status(reply: Reply) -> None:
    """G7: a redeploy must not kill a compensation."""
    for bench, operation in ((compensating(), COMPENSATE), (confirming(), CONFIRM)):
        (fact,) = replied(bench, reply, operation)
        assert words([fact]) == ["AttemptFailed"]
        assert next_attempt(fact) == 0.05


def test_a_compensation_whose_budget_is_spent_has_failed() -> None:
    """G7."""
    facts = replied(compensating(1), UNAVAILABLE, COMPENSATE)
    assert words(facts) == ["AttemptFailed", "StepCompensationFailed"]
    assert facts[1].failure.kind == FAILURE_KIND_UNAVAILABLE


def test_confirmed() -> None:
    (fact,) = replied(confirming(), Done(), CONFIRM)
    assert words([fact]) == ["StepConfirmed"]


def test_a_confirmation_that_is_refused_or_spent_is_stuck() -> None:
    (fact,) = replied(confirming(), REFUSED, CONFIRM)
    assert (words([fact]), fact.operation) == (["StepStuck"], CONFIRM)
    assert words(replied(confirming(1), UNAVAILABLE, CONFIRM)) == ["AttemptFailed", "StepStuck"]


@pytest.mark.parametrize("operation", [COMPENSATE, CONFIRM], ids=["compensate", "confirm"])
def test_a_pending_compensation_or_confirmation_is_polled_until_it_is_known(operation: Op) -> None:
    bench = compensating() if operation == COMPENSATE else confirming()
    (fact,) = replied(bench, pending(), operation)
    assert (words([fact]), fact.operation) == (["StepPending"], operation)
    bench.reply("x", pending(), operation)
    for reply in (pending(), UNAVAILABLE, ABORTED, INVALID):
        assert replied(bench, reply, operation) == []
    done, refused = replied(bench, DONE, operation), replied(bench, REFUSED, operation)
    if operation == COMPENSATE:
        assert words(done + refused) == ["StepCompensated", "StepCompensationFailed"]
    else:
        assert words(done + refused) == ["StepConfirmed", "StepStuck"]


# --- Replies that come too late ---------------------------------------------------------------------------------------


def test_a_reply_to_an_attempt_that_is_not_open_changes_nothing() -> None:
    bench = executing()
    assert decided(bench, Replied("x", COMPENSATE, 1, DONE)) == []
    assert decided(bench, Replied("x", EXECUTE, 2, DONE)) == []
    bench.reply("x", UNAVAILABLE)
    assert replied(bench, DONE) == []
    bench.wait(0.05)
    assert decided(bench, Replied("x", EXECUTE, 1, DONE)) == []
    bench.reply("x", DONE)
    for late in (DONE, REFUSED, UNAVAILABLE, pending()):
        assert decided(bench, Replied("x", EXECUTE, 2, late)) == []


@pytest.mark.parametrize(
    ("reply", "word", "state"),
    [
        (DONE, "StepCompleted", "COMPLETED"),
        (REFUSED, "StepRejected", "REJECTED"),
        (UNAVAILABLE, "AttemptFailed", "UNKNOWN"),
        (INVALID, "AttemptFailed", "UNKNOWN"),
        (pending(), "StepPending", "PENDING"),
    ],
    ids=["completed", "rejected", "unavailable", "invalid", "pending"],
)
def test_what_was_in_flight_when_the_saga_turned_back_is_recorded(reply: Reply, word: str, state: str) -> None:
    """Rule 2, and no further attempt follows."""
    bench = executing()
    bench.turn(CancelRequested("no"))
    (fact,) = replied(bench, reply)
    assert words([fact]) == [word]
    if word == "AttemptFailed":
        assert next_attempt(fact) is None
    bench.polled_until_ns["x"] = at(9)  # so that nothing else follows at once
    bench.reply("x", reply)
    assert bench.steps == {"x": state}


def test_a_poll_that_was_in_flight_when_the_saga_turned_back_is_ignored() -> None:
    """Rule 2: a PENDING step is compensated, whatever its poll answers."""
    bench = accepted("COMPENSATABLE")
    bench.polled_until_ns["x"] = at(9)
    bench.turn(CancelRequested("no"))
    for late in (DONE, REFUSED, INVALID, pending()):
        assert replied(bench, late) == []


# --- Attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "policy", "of_step", "of_saga", "expected", "step_deadline"),
    [
        ("COMPENSATABLE", 10, None, None, 10, None),
        ("COMPENSATABLE", 10, 7, None, 7, 7),
        ("COMPENSATABLE", 10, 20, None, 10, 20),
        ("COMPENSATABLE", 10, 7, 6, 6, 7),
        ("READ_ONLY", 10, None, 6, 6, None),
        ("PIVOT", 10, 7, 6, 10, None),
        ("RETRIABLE", 10, 7, 6, 10, None),
    ],
)
def test_of_several_deadlines_the_earliest_counts(
    kind: str, policy: float, of_step: float | None, of_saga: float | None, expected: float, step_deadline: float | None
) -> None:
    """G9; a step that must go on is not helped by a deadline."""
    definition = define(step("x", kind, execute=attempts(timeout=policy), timeout=of_step), timeout=of_saga)
    bench = Bench(definition)
    bench.turn()
    (begun,) = [e.attempt_started for e in bench.journal if e.WhichOneof("event") == "attempt_started"]
    assert from_timestamp(begun.deadline) == at(expected)
    assert begun.HasField("step_deadline") == (step_deadline is not None)
    if step_deadline is not None:
        assert from_timestamp(begun.step_deadline) == at(step_deadline)


def test_a_step_deadline_bounds_all_attempts_together() -> None:
    bench = Bench(define(step("x", execute=attempts(timeout=5, backoff=2), timeout=7)))
    bench.turn()
    bench.now_ns = at(5)
    bench.reply("x", UNAVAILABLE)
    bench.wait(1)
    (call,) = bench.out.calls
    assert (call.attempt, call.deadline_ns) == (2, at(7))


def test_compensate_and_confirm_know_no_deadline_of_saga_or_step() -> None:
    definition = define(step("x", timeout=6), step("y"), timeout=6)
    bench = Bench(definition)
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("y", REFUSED)
    (call,) = bench.out.calls
    assert (call.operation, call.deadline_ns) == (COMPENSATE, at(10))
    bench = Bench(define(step("x", "RESERVABLE", timeout=6), timeout=6))
    bench.turn()
    bench.reply("x", DONE)
    (call,) = bench.out.calls
    assert (call.operation, call.deadline_ns) == (CONFIRM, at(10))


def test_only_the_first_attempt_carries_the_input() -> None:
    bench = executing()
    bench.reply("x", ABORTED)
    bench.wait(0.05)
    first, second = (e.attempt_started for e in bench.journal if e.WhichOneof("event") == "attempt_started")
    assert (first.input.value, second.HasField("input")) == (b"input of x", False)
    assert bench.saga.step("x").input == first.input


# --- Recovery ---------------------------------------------------------------------------------------------------------


def test_recovery_loses_every_open_attempt_and_every_poll() -> None:
    """Rule 1, and G8: polls are not journaled, so one may have been in flight until its timeout from now."""
    definition = define(*(step(name, execute=attempts(timeout=3)) for name in "vwxyz"), graph=True)
    bench = Bench(definition)
    bench.turn()
    bench.reply("v", DONE)
    bench.reply("w", pending())
    bench.reply("x", UNAVAILABLE)
    bench.now_ns = at(1)
    facts = decided(bench, Recovered())
    assert [(type(f).__name__, f.step, f.attempt) for f in facts] == [
        ("AttemptLost", "w", 1),
        ("AttemptLost", "y", 1),
        ("AttemptLost", "z", 1),
    ]
    assert from_timestamp(facts[0].deadline) == at(4)
    assert not facts[1].HasField("deadline")


def test_recovery_after_turning_back_still_waits_for_the_poll() -> None:
    """G8: the poll was in flight when the saga turned back, and the coordinator died before it ended."""
    bench = accepted("COMPENSATABLE")
    bench.polled_until_ns["x"] = at(9)
    bench.turn(CancelRequested("no"))
    bench.now_ns = at(1)
    assert "attempt_started" not in [e.WhichOneof("event") for e in bench.crash()]
    assert bench.out.wake_ns == at(11)
    bench.wait_until(11)
    assert bench.calls == [("x", COMPENSATE, 1)]


@pytest.mark.parametrize("operation", [COMPENSATE, CONFIRM], ids=["compensate", "confirm"])
def test_a_pending_compensation_or_confirmation_is_simply_polled_again(operation: Op) -> None:
    bench = compensating() if operation == COMPENSATE else confirming()
    bench.reply("x", pending(), operation)
    assert decided(bench, Recovered()) == []
    assert [poll.operation for poll in bench.out.polls] == [operation]


def test_nothing_is_lost_where_nothing_was_open() -> None:
    bench = Bench(define(step("x")), start_after=5)
    assert decided(bench, Recovered()) == []
    bench = executing()
    bench.reply("x", ABORTED)
    assert decided(bench, Recovered()) == []


# --- Cancel -----------------------------------------------------------------------------------------------------------


def cancelled(bench: Bench) -> list[SagaEvent]:
    return bench.turn(CancelRequested("changed my mind", actor="ada"))


@pytest.mark.parametrize("start_after", [5.0, None], ids=["not begun", "begun"])
def test_a_cancel_turns_the_saga_back(start_after: float | None) -> None:
    bench = Bench(define(step("x")), start_after=start_after)
    bench.turn()
    first = cancelled(bench)[0]
    assert first.actor == "ada"
    assert first.compensation_started.cause == Failure(kind=FAILURE_KIND_CANCELLED, message="changed my mind")
    assert bench.state == ("COMPENSATED" if start_after else "COMPENSATING")


def test_a_cancel_of_a_saga_that_goes_back_changes_nothing() -> None:
    assert cancelled(compensating()) == []


def forbidden(bench: Bench) -> tuple[str, str]:
    before = picture(bench.saga)
    with pytest.raises(Forbidden) as caught:
        cancelled(bench)
    assert picture(bench.saga) == before
    return str(caught.value), caught.value.possible


def test_a_cancel_is_refused_behind_the_point_of_no_return() -> None:
    """G6."""
    expected = ("the saga has passed its point of no return", "it goes on until it is COMPLETED")
    assert forbidden(confirming()) == expected
    assert forbidden(executing("RETRIABLE")) == expected


@pytest.mark.parametrize("reply", [None, UNAVAILABLE, pending()], ids=["in flight", "between attempts", "pending"])
def test_a_cancel_is_refused_while_the_pivot_is_under_way(reply: Reply | None) -> None:
    """G6."""
    bench = executing("PIVOT")
    if reply is not None:
        bench.reply("x", reply)
    reason, possible = forbidden(bench)
    assert reason == "the pivot `x` is under way and its outcome is not known"
    assert possible == "cancel again once the pivot was rejected"


def ended(state: str) -> Bench:
    if state == "COMPLETED":
        bench = executing()
        bench.reply("x", DONE)
    else:
        bench = compensating()
        bench.reply("x", DONE if state == "COMPENSATED" else REFUSED, COMPENSATE)
    assert bench.state == state
    return bench


@pytest.mark.parametrize("state", ["COMPLETED", "COMPENSATED", "FAILED"])
def test_a_cancel_is_refused_where_the_saga_stands(state: str) -> None:
    assert forbidden(ended(state)) == (
        f"the saga stands {state}",
        "a saga can be cancelled while it is PENDING or RUNNING",
    )


# --- What was due -----------------------------------------------------------------------------------------------------


def test_the_deadline_counts_from_the_start() -> None:
    """G9."""
    bench = Bench(define(step("x")), start_after=5, timeout=20)
    bench.now_ns = at(6)
    (fact,) = decided(bench, StartDue())
    assert from_timestamp(fact.deadline) == at(26)
    (fact,) = decided(Bench(define(step("x"))), StartDue())
    assert not fact.HasField("deadline")


def test_each_due_is_one_fact() -> None:
    cause = Failure(kind=FAILURE_KIND_CANCELLED)
    bench = executing()
    assert words(decided(bench, PointOfNoReturnDue())) == ["PointOfNoReturnPassed"]
    assert words(decided(bench, OverdueDue())) == ["SagaOverdue"]
    assert words(decided(bench, WayBackDone())) == ["SagaCompensated"]
    assert words(decided(bench, Skipped("x"))) == ["StepSkipped"]
    assert words(decided(bench, AttemptDue("x", EXECUTE))) == ["AttemptStarted"]
    (fact,) = decided(bench, TurnBackDue(cause))
    assert fact.cause == cause


def test_an_expression_that_fails() -> None:
    bench = executing()
    (fact,) = decided(bench, InputFailed("x", "1:1: no such key"))
    assert words([fact]) == ["StepStuck"]
    assert fact.failure == Failure(kind=FAILURE_KIND_EXPRESSION_FAILED, step="x", message="1:1: no such key")


def test_the_output_or_why_there_is_none() -> None:
    bench = executing()
    (fact,) = decided(bench, OutputKnown(output=DONE.output))
    assert (fact.output, fact.HasField("output_failure")) == (DONE.output, False)
    (fact,) = decided(bench, OutputKnown(failure_message="1:1: no such key"))
    assert not fact.HasField("output")
    assert fact.output_failure == Failure(kind=FAILURE_KIND_EXPRESSION_FAILED, message="output: 1:1: no such key")


def test_why_a_saga_is_stranded() -> None:
    bench = compensating()
    bench.reply("x", REFUSED, COMPENSATE)
    (fact,) = decided(bench, Stranded())
    assert fact.failure.reason == "OUT_OF_STOCK"
    bench = executing("PIVOT", 1)
    bench.reply("x", UNAVAILABLE)
    (fact,) = decided(bench, Stranded())
    assert fact.failure.kind == FAILURE_KIND_UNAVAILABLE


def test_what_is_no_input_is_a_defect() -> None:
    with pytest.raises(TypeError, match="is not an input of the core"):
        decide(executing().saga, "hello", T0_NS)  # type: ignore[arg-type]  # which is the point


def test_every_event_but_the_creation_is_decided_here() -> None:
    fields = SagaEvent.DESCRIPTOR.oneofs_by_name["event"].fields
    events = {field.message_type.name for field in fields if field.message_type}
    assert {fact.__name__ for fact in get_args(Fact)} == events - {"SagaCreated"}


def test_begun_is_the_first_attempt() -> None:
    bench = Bench(define(step("x")))
    the_input = Any(value=b"an order")
    (fact,) = decided(bench, Begun("x", the_input))
    assert (fact.attempt, fact.operation, fact.input) == (1, EXECUTE, the_input)
