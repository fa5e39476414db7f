"""Whole turns: what one input leads to, in one append."""

from __future__ import annotations

import pytest

from coordinator.core.inputs import CancelRequested, Done, Recovered, Replied, Reply
from coordinator.core.instants import from_timestamp
from coordinator.core.state import Saga, apply, fold
from coordinator.core.turn import record, turn
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_DEADLINE_PASSED,
    FAILURE_KIND_EXPRESSION_FAILED,
    FAILURE_KIND_HOLD_LAPSING,
    FAILURE_KIND_LOST,
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNAVAILABLE,
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
    Answers,
    Bench,
    at,
    attempts,
    define,
    names,
    only,
    pending,
    picture,
    plan,
    started,
    step,
)

PATTERN = define(
    step("reserve", "RESERVABLE"),
    step("charge", execute=attempts(2)),
    step("ship", "PIVOT"),
    step("notify", "RETRIABLE"),
)


def begun(definition: SagaDefinition, answers: Answers | None = None) -> Bench:
    bench = Bench(definition, answers)
    bench.turn()
    return bench


# --- The happy way ----------------------------------------------------------------------------------------------------


def test_what_a_reply_establishes_and_the_intent_it_leads_to_are_one_append() -> None:
    bench = Bench(PATTERN)
    assert names(bench.turn()) == ["saga_started", "attempt_started"]
    assert names(bench.reply("reserve", DONE)) == ["step_completed", "attempt_started"]
    assert names(bench.reply("charge", DONE)) == ["step_completed", "attempt_started"]
    # The pivot's completion, the point of no return and what lies behind it are one append too (G6).
    behind = bench.reply("ship", DONE)
    assert names(behind) == ["step_completed", "point_of_no_return_passed", "attempt_started", "attempt_started"]
    assert started(behind) == [("notify", EXECUTE, 1), ("reserve", CONFIRM, 1)]
    assert names(bench.reply("reserve", DONE, CONFIRM)) == ["step_confirmed"]
    assert names(bench.reply("notify", DONE)) == ["step_completed", "saga_completed"]
    assert bench.state == "COMPLETED"
    assert bench.saga.output is not None
    assert bench.saga.output.value == b"output of the saga"


def test_events_stand_in_order_without_gaps_and_never_go_back_in_time() -> None:
    """G12."""
    bench = begun(PATTERN)
    bench.now_ns = at(3)
    bench.reply("reserve", DONE)
    assert [event.sequence for event in bench.journal] == list(range(1, len(bench.journal) + 1))
    times = [from_timestamp(event.time) for event in bench.journal]
    assert times == sorted(times)
    assert times[-1] == at(3)
    assert {event.saga_id for event in bench.journal} == {"saga-1"}


def test_an_outcome_follows_from_its_attempt_and_what_it_leads_to_from_the_outcome() -> None:
    bench = begun(define(step("x"), step("y"), step("z")))
    (first,) = [e.sequence for e in bench.journal if e.WhichOneof("event") == "attempt_started"]
    events = bench.reply("x", DONE)
    assert [event.caused_by_sequence for event in events] == [first, events[0].sequence]
    failing = begun(define(step("x"), step("y")), Answers(failing={"y"}))
    events = failing.reply("x", DONE)
    assert names(events) == ["step_completed", "step_stuck", "compensation_started", "attempt_started"]
    assert [event.caused_by_sequence for event in events[1:]] == [events[0].sequence] * 3


def test_nothing_due_is_no_append() -> None:
    bench = begun(PATTERN)
    assert bench.turn() == []
    assert bench.reply("reserve", DONE, attempt=7) == []


def test_skipped_steps_are_no_obstacle() -> None:
    bench = begun(define(step("x"), step("p", "PIVOT"), step("r", "RETRIABLE")), Answers(skipped={"x", "p", "r"}))
    assert names(bench.journal)[1:] == [
        "saga_started",
        "step_skipped",
        "step_skipped",
        "point_of_no_return_passed",
        "step_skipped",
        "saga_completed",
    ]


def test_an_output_that_fails_is_noted_on_a_completed_saga() -> None:
    bench = begun(define(step("x")), Answers(output_failure="1:1: no such key"))
    bench.reply("x", DONE)
    assert bench.state == "COMPLETED"
    assert bench.saga.output is None
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_EXPRESSION_FAILED


def test_a_delayed_start() -> None:
    bench = Bench(define(step("x")), start_after=60)
    assert bench.turn() == []
    assert (bench.state, bench.out.wake_ns) == ("PENDING", at(60))
    assert names(bench.wait_until(60)) == ["saga_started", "attempt_started"]


# --- Turning back -----------------------------------------------------------------------------------------------------


def test_g4_a_refused_third_step_compensates_the_two_before_it_and_not_itself() -> None:
    bench = begun(define(step("a"), step("b"), step("c"), step("d")))
    bench.reply("a", DONE)
    bench.reply("b", DONE)
    assert started(bench.reply("c", REFUSED)) == [("b", COMPENSATE, 1)]
    assert started(bench.reply("b", DONE, COMPENSATE)) == [("a", COMPENSATE, 1)]
    assert names(bench.reply("a", DONE, COMPENSATE)) == ["step_compensated", "saga_compensated"]
    assert bench.steps == {"a": "COMPENSATED", "b": "COMPENSATED", "c": "REJECTED", "d": "WAITING"}
    assert bench.saga.failure is not None
    assert (bench.saga.failure.kind, bench.saga.failure.step) == (FAILURE_KIND_REJECTED, "c")


@pytest.mark.parametrize("reply", [INVALID, ABORTED], ids=["invalid", "spent"])
def test_g4_a_step_that_may_have_happened_is_compensated(reply: Reply) -> None:
    bench = begun(define(step("a"), step("b", execute=attempts(1))))
    bench.reply("a", DONE)
    assert started(bench.reply("b", reply)) == [("b", COMPENSATE, 1)]


def test_g4_a_rejection_after_an_unknown_is_compensated_all_the_same() -> None:
    bench = begun(define(step("a")))
    bench.reply("a", ABORTED)
    bench.wait(0.05)
    events = bench.reply("a", REFUSED)
    assert only(events, "step_rejected").in_doubt
    assert started(events) == [("a", COMPENSATE, 1)]


def test_g4_a_rejection_that_covers_earlier_attempts_is_not_compensated() -> None:
    bench = begun(define(step("a")))
    bench.reply("a", UNAVAILABLE)
    bench.wait(0.05)
    assert names(bench.reply("a", REFUSED_FOR_ALL)) == ["step_rejected", "compensation_started", "saga_compensated"]


def test_g8_a_rejection_after_an_unanswered_attempt_is_compensated_when_that_has_run_out() -> None:
    bench = begun(define(step("a")))
    bench.reply("a", UNAVAILABLE)
    bench.wait(0.05)
    assert names(bench.reply("a", REFUSED)) == ["step_rejected", "compensation_started"]
    assert bench.out.wake_ns == at(10)
    assert started(bench.wait_until(10)) == [("a", COMPENSATE, 1)]


def test_nothing_starts_on_the_way_to_turning_back() -> None:
    """Two branches become free at once; the first one's input fails, so the second must not begin."""
    branches = define(step("a"), step("b", "COMPENSATABLE", "a"), step("c", "COMPENSATABLE", "a"), graph=True)
    bench = begun(branches, Answers(failing={"b"}))
    assert started(bench.reply("a", DONE)) == [("a", COMPENSATE, 1)]
    assert bench.steps == {"a": "COMPENSATING", "b": "WAITING", "c": "WAITING"}


def test_a_completion_in_flight_when_the_saga_turned_back_is_compensated() -> None:
    """Rule 2."""
    bench = begun(define(step("a"), step("b"), graph=True))
    assert started(bench.reply("a", REFUSED)) == []
    events = bench.reply("b", Done(DONE.output))
    assert names(events) == ["step_completed", "attempt_started"]
    assert bench.saga.step("b").output == DONE.output
    assert bench.calls == [("b", COMPENSATE, 1)]


def test_a_pending_step_is_compensated_and_not_polled() -> None:
    """Rule 2."""
    bench = begun(define(step("a")))
    bench.reply("a", pending())
    assert started(bench.turn(CancelRequested("no"))) == [("a", COMPENSATE, 1)]
    assert bench.out.polls == []


def test_an_input_that_fails_before_the_point_of_no_return_turns_back() -> None:
    bench = begun(define(step("a"), step("p", "PIVOT")), Answers(failing={"p"}))
    bench.reply("a", DONE)
    assert bench.calls == [("a", COMPENSATE, 1)]
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_EXPRESSION_FAILED
    bench.reply("a", DONE, COMPENSATE)
    assert bench.state == "COMPENSATED"


def test_an_input_that_fails_behind_the_point_of_no_return_strands_the_saga() -> None:
    """G3, G6: other branches go on, then the saga stands FAILED."""
    branches = define(
        step("p", "PIVOT"),
        step("r", "RETRIABLE", "p"),
        step("q", "READ_ONLY", "p"),
        step("s", "RETRIABLE", "r"),
        graph=True,
    )
    bench = begun(branches, Answers(failing={"r"}))
    bench.reply("p", DONE)
    assert bench.calls == [("q", EXECUTE, 1)]
    assert names(bench.reply("q", DONE)) == ["step_completed", "saga_failed"]
    assert bench.steps == {"p": "COMPLETED", "r": "WAITING", "q": "COMPLETED", "s": "WAITING"}
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_EXPRESSION_FAILED


def test_a_read_before_the_pivot_can_turn_the_saga_back() -> None:
    bench = begun(define(step("a"), step("q", "READ_ONLY", execute=attempts(1))))
    bench.reply("a", DONE)
    assert started(bench.reply("q", UNAVAILABLE)) == [("a", COMPENSATE, 1)]


@pytest.mark.parametrize("reply", [REFUSED, INVALID, UNAVAILABLE], ids=["refused", "invalid", "unavailable"])
def test_a_read_behind_the_pivot_is_retried_until_it_succeeds(reply: Reply) -> None:
    bench = begun(define(step("p", "PIVOT"), step("q", "READ_ONLY")))
    bench.reply("p", DONE)
    for attempt in range(1, 8):
        assert bench.calls == [("q", EXECUTE, attempt)]
        bench.reply("q", reply)
        bench.wait(30)
    bench.reply("q", DONE)
    assert bench.state == "COMPLETED"


# --- Deadlines and holds ----------------------------------------------------------------------------------------------


def test_g9_a_saga_past_its_deadline_goes_back() -> None:
    bench = begun(define(step("a"), step("b"), timeout=30))
    bench.now_ns = at(25)
    bench.reply("a", DONE)
    assert names(bench.wait_until(30)) == ["compensation_started"]
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_DEADLINE_PASSED
    assert started(bench.reply("b", UNAVAILABLE)) == [("b", COMPENSATE, 1)]


def test_g9_a_deadline_survives_a_restart() -> None:
    bench = begun(define(step("a"), timeout=30))
    bench.now_ns = at(31)
    assert names(bench.crash()) == ["attempt_lost", "compensation_started", "attempt_started"]
    assert bench.calls == [("a", COMPENSATE, 1)]


def test_g6_the_last_completion_counts_even_if_it_comes_at_the_deadline() -> None:
    """The point of no return is passed in the append that completes the last step that can be refused."""
    bench = begun(define(step("a"), step("r", "RETRIABLE"), timeout=30))
    bench.now_ns = at(31)
    events = bench.reply("a", DONE)
    assert names(events) == ["step_completed", "point_of_no_return_passed", "saga_overdue", "attempt_started"]


def test_g9_a_pivot_is_not_bounded_and_its_saga_is_marked_overdue() -> None:
    bench = begun(define(step("a"), step("p", "PIVOT", timeout=1), timeout=30))
    bench.now_ns = at(29)
    bench.reply("a", DONE)
    assert names(bench.wait_until(30)) == ["saga_overdue"]
    assert bench.saga.overdue
    assert started(bench.reply("p", REFUSED)) == [("a", COMPENSATE, 1)]


def test_a_hold_that_would_lapse_turns_the_saga_back_before_its_pivot() -> None:
    """Rule 5."""
    bench = begun(define(step("h", "RESERVABLE"), step("p", "PIVOT")))
    bench.now_ns = at(5)
    assert started(bench.reply("h", Done(hold_until_ns=at(45)))) == [("h", COMPENSATE, 1)]
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_HOLD_LAPSING


def test_a_hold_that_lasts_lets_the_pivot_start() -> None:
    """Rule 5: 10 s of attempt and 30 s of margin fit before it."""
    bench = begun(define(step("h", "RESERVABLE"), step("p", "PIVOT")))
    bench.now_ns = at(5)
    assert started(bench.reply("h", Done(hold_until_ns=at(45) + 1))) == [("p", EXECUTE, 1)]


# --- The pivot --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [UNAVAILABLE, ABORTED, INVALID], ids=["unavailable", "aborted", "invalid"])
def test_g6_a_pivot_in_doubt_is_asked_again_whatever_the_status(reply: Reply) -> None:
    bench = begun(define(step("a"), step("p", "PIVOT"), timeout=20))
    bench.reply("a", DONE)
    for attempt in range(1, 12):
        assert bench.calls == [("p", EXECUTE, attempt)]
        bench.reply("p", reply)
        bench.wait(30)
    assert bench.saga.needs_attention
    bench.reply("p", DONE)
    assert bench.state == "COMPLETED"
    assert COMPENSATE not in bench.saga.step("a").progress


def test_g6_a_pivot_in_doubt_that_is_rejected_too_early_is_asked_again() -> None:
    bench = begun(define(step("a"), step("p", "PIVOT")))
    bench.reply("a", DONE)
    bench.reply("p", UNAVAILABLE)
    bench.wait(0.05)
    bench.reply("p", REFUSED)
    assert bench.state == "RUNNING"
    assert bench.out.wake_ns == at(10)
    bench.wait_until(10)
    assert bench.calls == [("p", EXECUTE, 3)]
    assert started(bench.reply("p", REFUSED)) == [("a", COMPENSATE, 1)]


@pytest.mark.parametrize("kind", ["PIVOT", "RETRIABLE"])
def test_g3_an_explicit_budget_behind_which_nothing_goes_back_ends_in_failed(kind: str) -> None:
    bench = begun(define(step("x", kind, execute=attempts(2))))
    bench.reply("x", UNAVAILABLE)
    bench.wait(1)
    assert names(bench.reply("x", UNAVAILABLE)) == ["attempt_failed", "step_stuck", "saga_failed"]
    assert bench.state == "FAILED"
    assert bench.saga.needs_attention
    assert bench.saga.ended_ns is None
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_UNAVAILABLE


# --- The way back -----------------------------------------------------------------------------------------------------


def test_g7_a_compensation_that_cannot_be_done_leaves_the_others_going_on() -> None:
    bench = begun(define(step("a"), step("b"), step("c")))
    bench.reply("a", DONE)
    bench.reply("b", DONE)
    bench.reply("c", REFUSED)
    events = bench.reply("b", REFUSED, COMPENSATE)
    assert names(events) == ["step_compensation_failed", "attempt_started"]
    events = bench.reply("a", DONE, COMPENSATE)
    assert names(events) == ["step_compensated", "saga_failed"]
    assert bench.steps == {"a": "COMPENSATED", "b": "COMPENSATION_FAILED", "c": "REJECTED"}
    assert bench.state == "FAILED"
    assert bench.saga.failure is not None
    assert bench.saga.failure.step == "c"  # the first cause is kept
    assert only(events, "saga_failed").failure.step == "b"  # what stands in the way


def test_g7_a_compensation_keeps_trying_until_its_budget_is_spent() -> None:
    bench = begun(define(step("a"), step("b")))
    bench.reply("a", DONE)
    bench.reply("b", REFUSED)
    for attempt in range(1, 20):
        assert bench.calls == [("a", COMPENSATE, attempt)]
        bench.reply("a", INVALID, COMPENSATE)
        bench.wait(30)
    assert names(bench.reply("a", INVALID, COMPENSATE)) == ["attempt_failed", "step_compensation_failed", "saga_failed"]


def test_a_confirmation_that_is_refused_ends_in_failed_after_the_others() -> None:
    bench = begun(define(step("g", "RESERVABLE"), step("h", "RESERVABLE")))
    bench.reply("g", DONE)
    bench.reply("h", DONE)
    assert bench.calls == [("g", CONFIRM, 1), ("h", CONFIRM, 1)]
    assert names(bench.reply("g", REFUSED, CONFIRM)) == ["step_stuck"]
    assert names(bench.reply("h", DONE, CONFIRM)) == ["step_confirmed", "saga_failed"]
    assert bench.steps == {"g": "CONFIRMING", "h": "CONFIRMED"}


def test_a_cancel_before_the_start_ends_the_saga_at_once() -> None:
    bench = Bench(define(step("a")), start_after=60)
    assert names(bench.turn(CancelRequested("no"))) == ["compensation_started", "saga_compensated"]
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_CANCELLED


# --- Recovery ---------------------------------------------------------------------------------------------------------


def test_a_lost_attempt_is_followed_by_the_next_number() -> None:
    """G2, rule 1: numbers are never restarted."""
    bench = begun(define(step("a")))
    events = bench.crash()
    assert names(events) == ["attempt_lost", "attempt_started"]
    assert bench.calls == [("a", EXECUTE, 2)]


def test_g4_a_lost_last_attempt_goes_back_and_is_compensated() -> None:
    bench = begun(define(step("a", execute=attempts(1))))
    bench.now_ns = at(1)
    assert names(bench.crash()) == ["attempt_lost", "compensation_started"]
    assert bench.saga.failure is not None
    assert bench.saga.failure.kind == FAILURE_KIND_LOST
    assert bench.out.wake_ns == at(10)  # the call may be at work until then (G8)
    assert started(bench.wait_until(10)) == [("a", COMPENSATE, 1)]


def test_crashes_spend_no_budget_of_what_must_be_done() -> None:
    """Rule 1."""
    cases: list[tuple[SagaDefinition, list[tuple[str, Reply]], Op]] = [
        (define(step("x", "PIVOT", execute=attempts(1))), [], EXECUTE),
        (define(step("x", "RETRIABLE", execute=attempts(1))), [], EXECUTE),
        (define(step("x", compensate=attempts(1)), step("y")), [("x", DONE), ("y", REFUSED)], COMPENSATE),
        (define(step("x", "RESERVABLE", confirm=attempts(1))), [("x", DONE)], CONFIRM),
    ]
    for definition, before, operation in cases:
        bench = begun(definition)
        for name, reply in before:
            bench.reply(name, reply)
        for attempt in range(1, 6):
            assert bench.calls == [("x", operation, attempt)]
            bench.crash()
        bench.reply("x", DONE, operation)
        assert bench.saga.ended


def test_a_saga_read_back_twice_is_the_same_saga() -> None:
    bench = begun(PATTERN)
    bench.reply("reserve", pending())
    bench.crash()
    bench.now_ns = at(2)
    bench.crash()
    bench.reply("reserve", DONE)
    bench.reply("charge", DONE)
    bench.reply("ship", DONE)
    bench.crash()
    bench.reply("notify", DONE)
    bench.reply("reserve", DONE, CONFIRM)
    assert bench.state == "COMPLETED"


# --- turn and record --------------------------------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_events() -> None:
    def run() -> list[bytes]:
        bench = begun(PATTERN)
        for name, reply in (("reserve", DONE), ("charge", ABORTED)):
            bench.reply(name, reply, jitter=0.25)
        bench.wait(1)
        bench.reply("charge", REFUSED)
        return [event.SerializeToString(deterministic=True) for event in bench.journal]

    assert run() == run()


def test_record_takes_an_input_in_and_starts_nothing() -> None:
    """For a coordinator that is about to stop: the reply is kept, and what follows is left to the next one."""
    bench = begun(define(step("a"), step("b"), timeout=30))
    bench.keep(record(bench.saga, Replied("a", EXECUTE, 1, DONE), T0_NS).events)
    assert names(bench.journal)[-1] == "step_completed"
    assert record(bench.saga, None, T0_NS).events == []
    assert started(bench.crash()) == [("b", EXECUTE, 1)]


def test_g6_a_completion_recorded_before_a_stop_passes_the_point_of_no_return_after_it() -> None:
    """The deadline passed in between."""
    bench = begun(define(step("a"), timeout=30))
    bench.keep(record(bench.saga, Replied("a", EXECUTE, 1, DONE), T0_NS).events)
    bench.now_ns = at(99)
    assert names(bench.crash()) == ["point_of_no_return_passed", "saga_overdue", "saga_completed"]


def test_a_turn_needs_no_live_saga_to_go_on() -> None:
    """Recovery is not a special path: any prefix of whole turns folds to a saga that `turn` takes on."""
    bench = begun(PATTERN)
    bench.reply("reserve", DONE)
    for length in range(1, len(bench.journal) + 1):
        saga = fold(Saga("saga-1", plan(PATTERN)), bench.journal[:length])
        events = turn(saga, Recovered(), T0_NS, Answers()).events
        again = fold(Saga("saga-1", plan(PATTERN)), bench.journal[:length])
        for event in events:
            apply(again, SagaEvent.FromString(event.SerializeToString()))
        assert picture(again) == picture(saga)
