"""What operators and participants may say beside answering calls."""

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    CancelRequested,
    Done,
    PauseRequested,
    Refused,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
    Unknown,
)
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
    Resolution,
)
from saga.v1.types_pb2 import FAILURE_KIND_BROKEN, OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Failure
from tests.coordinator.core.sagas import (
    DONE,
    INVALID,
    REFUSED,
    UNAVAILABLE,
    Answers,
    Bench,
    attempts,
    define,
    names,
    pending,
    started,
    step,
)

PAUSE, RESUME, RETRY = PauseRequested("a look", "ada"), ResumeRequested("seen", "ada"), RetryRequested("fixed", "ada")
BROKEN = Unknown(Failure(kind=FAILURE_KIND_BROKEN), retryable=False, answered=True)


def resolve(bench: Bench, name: str, resolution: Resolution.ValueType, output: Any | None = None) -> list[str]:
    return names(bench.turn(ResolveRequested(name, resolution, "the bank says so", "ada", output)))


def failed_compensation() -> Bench:
    """The saga stands FAILED: `w` is compensated, `x` refused to be."""
    bench = Bench(define(step("w"), step("x"), step("y")))
    bench.turn()
    for name in ("w", "x"):
        bench.reply(name, DONE)
    bench.reply("y", REFUSED)
    bench.reply("x", REFUSED, OPERATION_COMPENSATE)
    bench.reply("w", DONE, OPERATION_COMPENSATE)
    assert bench.state == "FAILED"
    return bench


def stuck_pivot() -> Bench:
    """The saga stands FAILED: the pivot's one attempt ended unknown."""
    bench = Bench(define(step("w"), step("x", "PIVOT", execute=attempts(1))))
    bench.turn()
    bench.reply("w", DONE)
    bench.reply("x", UNAVAILABLE)
    assert bench.state == "FAILED"
    return bench


# --- Pause and resume -------------------------------------------------------------------------------------------------


def test_a_paused_saga_dispatches_nothing_new_and_what_is_in_flight_settles() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    bench.turn(PAUSE)
    assert bench.calls == [("x", OPERATION_EXECUTE, 1)]
    assert names(bench.reply("x", DONE)) == ["step_completed"]
    assert bench.calls == []
    assert started(bench.turn(RESUME)) == [("y", OPERATION_EXECUTE, 1)]


def test_a_paused_saga_is_not_polled() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    bench.reply("x", pending())
    assert len(bench.out.polls) == 1
    bench.turn(PAUSE)
    assert bench.out.polls == []
    bench.turn(RESUME)
    assert len(bench.out.polls) == 1


def test_g9_a_pause_stops_no_deadline() -> None:
    bench = Bench(define(step("x"), step("y"), timeout=60))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("y", UNAVAILABLE)
    bench.turn(PAUSE)
    assert "compensation_started" in names(bench.wait_until(61))
    assert bench.calls == []
    assert started(bench.turn(RESUME)) == [("y", OPERATION_COMPENSATE, 1)]


def test_a_pause_before_the_start_holds_the_start() -> None:
    bench = Bench(define(step("x")), start_after=10)
    bench.turn(PAUSE)
    assert bench.wait_until(20) == []
    assert names(bench.turn(RESUME)) == ["saga_resumed", "saga_started", "attempt_started"]


def test_pausing_twice_is_pausing_once_and_resuming_needs_a_pause() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    with pytest.raises(Forbidden, match="not paused"):
        bench.turn(RESUME)
    assert names(bench.turn(PAUSE)) == ["saga_paused"]
    assert bench.turn(PAUSE) == []


def test_a_pause_survives_a_crash() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    bench.turn(PAUSE)
    assert names(bench.crash()) == ["attempt_lost"]
    assert bench.calls == []


# --- Retry ------------------------------------------------------------------------------------------------------------


def test_g7_a_failed_compensation_is_tried_again_with_a_fresh_budget_and_the_numbering_goes_on() -> None:
    bench = failed_compensation()
    assert started(bench.turn(RETRY)) == [("x", OPERATION_COMPENSATE, 2)]
    assert bench.state == "COMPENSATING"
    assert names(bench.reply("x", DONE, OPERATION_COMPENSATE)) == ["step_compensated", "saga_compensated"]


def test_a_retry_that_is_refused_again_stands_failed_again() -> None:
    bench = failed_compensation()
    bench.turn(RETRY)
    events = bench.reply("x", REFUSED, OPERATION_COMPENSATE)
    assert names(events) == ["step_compensation_failed", "saga_failed"]
    assert bench.saga.step("x").progress[OPERATION_COMPENSATE].spent == 1


def test_g4_one_at_a_time_holds_for_what_is_tried_again_too() -> None:
    bench = Bench(define(step("w"), step("x"), step("y"), one_at_a_time=True))
    bench.turn()
    for name in ("w", "x"):
        bench.now_ns += 1
        bench.reply(name, DONE)
    bench.reply("y", REFUSED)
    for name in ("x", "w"):
        bench.reply(name, REFUSED, OPERATION_COMPENSATE)
    assert bench.state == "FAILED"
    assert started(bench.turn(RETRY)) == [("x", OPERATION_COMPENSATE, 2)]
    assert started(bench.reply("x", DONE, OPERATION_COMPENSATE)) == [("w", OPERATION_COMPENSATE, 2)]
    bench.reply("w", DONE, OPERATION_COMPENSATE)
    assert bench.state == "COMPENSATED"


def test_a_stuck_pivot_is_tried_again() -> None:
    bench = stuck_pivot()
    assert started(bench.turn(RETRY)) == [("x", OPERATION_EXECUTE, 2)]
    bench.reply("x", DONE)
    assert bench.state == "COMPLETED"


def test_a_refused_confirm_is_tried_again() -> None:
    bench = Bench(define(step("x", "RESERVABLE")))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("x", REFUSED, OPERATION_CONFIRM)
    assert bench.state == "FAILED"
    assert started(bench.turn(RETRY)) == [("x", OPERATION_CONFIRM, 2)]
    bench.reply("x", DONE, OPERATION_CONFIRM)
    assert bench.state == "COMPLETED"


def test_an_expression_that_failed_behind_the_point_of_no_return_is_evaluated_again() -> None:
    answers = Answers(failing=["y"])
    bench = Bench(define(step("x"), step("y", "RETRIABLE")), answers)
    bench.turn()
    bench.reply("x", DONE)
    assert bench.state == "FAILED"
    bench.answers = Answers()
    assert started(bench.turn(RETRY)) == [("y", OPERATION_EXECUTE, 1)]


def test_a_backoff_is_cut_short() -> None:
    bench = Bench(define(step("x", execute=attempts(2, backoff=60, longest=60))))
    bench.turn()
    bench.reply("x", UNAVAILABLE)
    assert started(bench.turn(RETRY)) == [("x", OPERATION_EXECUTE, 2)]
    assert bench.saga.step("x").progress[OPERATION_EXECUTE].spent == 1


def test_there_must_be_something_to_retry() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    with pytest.raises(Forbidden, match="nothing waits to be tried again"):
        bench.turn(RETRY)
    bench.reply("x", DONE)
    with pytest.raises(Forbidden, match="COMPLETED"):
        bench.turn(RETRY)


# --- Resolve ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [RESOLUTION_COMPENSATED, RESOLUTION_NO_EFFECT])
def test_a_failed_compensation_is_resolved_by_hand(resolution: Resolution.ValueType) -> None:
    bench = failed_compensation()
    assert resolve(bench, "x", resolution) == ["step_resolved", "saga_compensated"]
    assert bench.steps == {"w": "COMPENSATED", "x": "COMPENSATED", "y": "REJECTED"}


def test_a_stuck_pivot_that_took_effect_completes_the_saga() -> None:
    bench = stuck_pivot()
    bench.wait(11)
    output = Any(value=b"by hand")
    expected = ["step_resolved", "point_of_no_return_passed", "saga_completed"]
    assert resolve(bench, "x", RESOLUTION_COMPLETED, output) == expected
    assert bench.state == "COMPLETED"
    assert bench.saga.step("x").output == output


def test_a_stuck_pivot_that_had_no_effect_turns_the_saga_back() -> None:
    bench = stuck_pivot()
    bench.wait(11)
    events = resolve(bench, "x", RESOLUTION_NO_EFFECT)
    assert events == ["step_resolved", "compensation_started", "attempt_started"]
    assert bench.calls == [("w", OPERATION_COMPENSATE, 1)]


def test_a_stuck_confirm_is_resolved_by_hand() -> None:
    bench = Bench(define(step("x", "RESERVABLE")))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("x", REFUSED, OPERATION_CONFIRM)
    assert resolve(bench, "x", RESOLUTION_CONFIRMED) == ["step_resolved", "saga_completed"]


def test_a_pending_step_is_resolved_by_hand() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    bench.reply("x", pending())
    assert resolve(bench, "x", RESOLUTION_COMPLETED) == ["step_resolved", "attempt_started"]
    assert bench.calls == [("y", OPERATION_EXECUTE, 1)]


def test_behind_the_point_of_no_return_no_effect_is_no_answer() -> None:
    bench = Bench(define(step("x"), step("y", "RETRIABLE", execute=attempts(1))))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("y", INVALID)
    assert bench.state == "FAILED"
    with pytest.raises(Forbidden) as refused:
        resolve(bench, "y", RESOLUTION_NO_EFFECT)
    assert refused.value.possible == "it can be resolved as `completed`"
    assert resolve(bench, "y", RESOLUTION_COMPLETED) == ["step_resolved", "saga_completed"]


def test_g8_nothing_is_resolved_while_a_call_may_be_at_work() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    with pytest.raises(Forbidden, match="in flight"):
        resolve(bench, "x", RESOLUTION_COMPLETED)
    bench = stuck_pivot()
    with pytest.raises(Forbidden, match="may still be at work"):
        resolve(bench, "x", RESOLUTION_NO_EFFECT)


def test_what_nobody_has_to_settle_cannot_be_resolved() -> None:
    bench = failed_compensation()
    for name in ("w", "y"):
        with pytest.raises(Forbidden, match="cannot be resolved"):
            resolve(bench, name, RESOLUTION_COMPENSATED)
    with pytest.raises(Forbidden, match="no step `z`"):
        resolve(bench, "z", RESOLUTION_COMPENSATED)


# --- Reports ----------------------------------------------------------------------------------------------------------


def report(bench: Bench, name: str, reply: Done | Refused | Unknown, operation: int = OPERATION_EXECUTE) -> list[str]:
    return names(bench.turn(Reported(name, operation, reply)))  # type: ignore[arg-type]  # an enum's value is an int


def test_a_pending_step_is_completed_by_a_report() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    bench.reply("x", pending())
    assert report(bench, "x", DONE) == ["step_completed", "attempt_started"]


def test_a_report_that_comes_before_pending_is_not_lost() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    assert report(bench, "x", DONE) == ["step_completed", "attempt_started"]
    assert bench.reply("x", pending(), attempt=1) == []


def test_a_report_between_two_attempts_counts() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    bench.reply("x", UNAVAILABLE)
    assert "step_completed" in report(bench, "x", DONE)


def test_the_same_report_again_is_accepted_and_another_refused() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    bench.reply("x", pending())
    report(bench, "x", DONE)
    assert report(bench, "x", DONE) == []
    with pytest.raises(Forbidden, match="COMPLETED"):
        report(bench, "x", Done(output=Any(value=b"another")))
    with pytest.raises(Forbidden, match="COMPLETED"):
        report(bench, "x", REFUSED)


def test_a_reported_refusal_turns_the_saga_back_and_can_be_repeated() -> None:
    bench = Bench(define(step("w"), step("x")))
    bench.turn()
    bench.reply("w", DONE)
    bench.reply("x", pending())
    assert report(bench, "x", REFUSED)[:2] == ["step_rejected", "compensation_started"]
    assert report(bench, "x", REFUSED) == []


def test_g5_a_step_that_broke_is_unknown_and_compensated() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    bench.reply("x", pending())
    events = report(bench, "x", BROKEN)
    assert events == ["attempt_failed", "compensation_started", "attempt_started"]
    assert bench.calls == [("x", OPERATION_COMPENSATE, 1)]


def test_an_execute_is_not_reported_once_the_saga_goes_back() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    bench.reply("x", pending())
    bench.turn(CancelRequested("changed my mind"))
    with pytest.raises(Forbidden, match="goes back"):
        report(bench, "x", DONE)


def test_a_pending_compensation_and_a_pending_confirm_are_reported_the_same_way() -> None:
    bench = Bench(define(step("x"), step("y")))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("y", REFUSED)
    bench.reply("x", pending(), OPERATION_COMPENSATE)
    assert report(bench, "x", Done(), OPERATION_COMPENSATE) == ["step_compensated", "saga_compensated"]
    bench = Bench(define(step("x", "RESERVABLE")))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("x", pending(), OPERATION_CONFIRM)
    assert report(bench, "x", Done(), OPERATION_CONFIRM) == ["step_confirmed", "saga_completed"]


def test_what_was_never_asked_for_cannot_be_reported() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    with pytest.raises(Forbidden, match="never started"):
        report(bench, "x", Done(), OPERATION_COMPENSATE)


def test_a_saga_that_stands_failed_takes_no_report() -> None:
    bench = stuck_pivot()
    with pytest.raises(Forbidden, match="nothing of step `x` is under way"):
        report(bench, "x", DONE)
    assert report(failed_compensation(), "w", Done(), OPERATION_COMPENSATE) == []


def test_a_saga_that_failed_while_it_was_paused_is_resumed_where_it_stands() -> None:
    bench = Bench(define(step("a"), step("b")))
    bench.turn()
    bench.reply("a", DONE)
    bench.reply("b", REFUSED)
    bench.turn(PauseRequested("a look first", "ada"))
    bench.reply("a", REFUSED, OPERATION_COMPENSATE)
    assert (bench.state, bench.saga.paused) == ("FAILED", True)
    bench.turn(ResumeRequested("looked", "ada"))
    assert (bench.state, bench.saga.paused) == ("FAILED", False)


def test_what_has_ended_is_not_resumed() -> None:
    bench = Bench(define(step("a")))
    bench.turn()
    bench.turn(PauseRequested("a look first", "ada"))
    bench.reply("a", DONE)
    assert bench.state == "COMPLETED"
    with pytest.raises(Forbidden, match="stands COMPLETED"):
        bench.turn(ResumeRequested("looked", "ada"))
