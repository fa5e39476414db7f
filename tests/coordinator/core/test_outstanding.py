"""What must be under way, given the facts: what is due, which calls and polls, and when to look again."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from coordinator.core.inputs import CancelRequested, Done, Recovered, Reply
from coordinator.core.outstanding import (
    AttemptDue,
    Call,
    Due,
    EvaluationDue,
    OutputDue,
    Outstanding,
    OverdueDue,
    PointOfNoReturnDue,
    Poll,
    StartDue,
    Stranded,
    TurnBackDue,
    WayBackDone,
    outstanding,
)
from coordinator.core.state import Saga
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.types_pb2 import FAILURE_KIND_DEADLINE_PASSED, FAILURE_KIND_HOLD_LAPSING, FAILURE_KIND_REJECTED
from tests.coordinator.core.facts import (
    COMPENSATE,
    CONFIRM,
    EXECUTE,
    After,
    attempt,
    begun,
    compensated,
    compensation_failed,
    completed,
    confirmed,
    failed,
    no_return,
    overdue,
    rejected,
    saga_of,
    skipped,
    stuck,
    turned_back,
)
from tests.coordinator.core.sagas import (
    DONE,
    REFUSED,
    UNAVAILABLE,
    Bench,
    at,
    attempts,
    define,
    ns,
    pending,
    picture,
    step,
)


def look(saga: Saga, seconds: float, polled_until: dict[str, float] | None = None) -> Outstanding:
    """What is outstanding; looking changes nothing, and nothing is remembered."""
    polled_until_ns = {name: at(until) for name, until in (polled_until or {}).items()}
    before = picture(saga)
    out = outstanding(saga, at(seconds), polled_until_ns)
    assert picture(saga) == before
    assert outstanding(saga, at(seconds), polled_until_ns) == out
    return out


def due(saga: Saga, seconds: float = 0) -> list[Due]:
    return look(saga, seconds).due


def executed(*names: str) -> list[Message]:
    """Each of these steps completed, one after the other."""
    return [fact for name in names for fact in (attempt(name), completed(name))]


def wake(out: Outstanding) -> float | None:
    return None if out.wake_ns is None else (out.wake_ns - at(0)) / ns(1)


# --- Before the start -------------------------------------------------------------------------------------------------


def test_a_saga_begins_when_it_is_time() -> None:
    bench = Bench(define(step("x")), start_after=5)
    out = look(bench.saga, 4.9)
    assert (out.due, wake(out), out.idle) == ([], 5, False)
    assert due(bench.saga, 5) == [StartDue()]


# --- Going forward ----------------------------------------------------------------------------------------------------


def test_what_nothing_stands_before_is_evaluated() -> None:
    branches = define(step("a"), step("b"), step("c", "COMPENSATABLE", "a", "b"), graph=True)
    assert due(saga_of(branches, [begun()])) == [EvaluationDue("a"), EvaluationDue("b")]
    half = saga_of(branches, [begun(), attempt("a"), completed("a"), attempt("b")])
    assert due(half) == []
    both = saga_of(branches, [begun(), attempt("a"), completed("a"), skipped("b")])
    assert due(both) == [EvaluationDue("c")]


def test_an_open_attempt_is_a_call() -> None:
    out = look(saga_of(define(step("x")), [begun(), attempt("x", until=7)]), 3)
    assert out == Outstanding(calls=[Call("x", EXECUTE, 1, at(7))])
    assert not out.idle


def test_the_next_attempt_is_due_after_its_backoff() -> None:
    saga = saga_of(define(step("x")), [begun(), attempt("x"), failed("x", again=4)])
    assert (look(saga, 3.9).due, wake(look(saga, 3.9))) == ([], 4)
    assert due(saga, 4) == [AttemptDue("x", EXECUTE)]


def test_a_pending_step_is_polled() -> None:
    bench = Bench(define(step("x", execute=attempts(timeout=3))))
    bench.turn()
    bench.reply("x", pending(7))
    assert bench.out == Outstanding(polls=[Poll("x", EXECUTE, 1, ns(7), ns(3))])
    assert not bench.out.idle


def test_the_point_of_no_return_comes_before_everything_else() -> None:
    """G6: passed in the very append that completes the last step that can be refused, whatever the clock says."""
    two = define(step("x"), step("y", "RETRIABLE"))
    saga = saga_of(two, [begun(deadline=5), attempt("x"), completed("x")])
    assert due(saga, 99) == [PointOfNoReturnDue()]
    skipping = saga_of(define(step("p", "PIVOT")), [begun(deadline=5), skipped("p")])
    assert due(skipping, 99) == [PointOfNoReturnDue()]
    nothing_to_refuse = saga_of(define(step("y", "RETRIABLE")), [begun()])
    assert due(nothing_to_refuse) == [PointOfNoReturnDue()]


def test_holds_are_confirmed_together_and_beside_the_steps_behind_the_pivot() -> None:
    definition = define(
        step("g", "RESERVABLE"),
        step("h", "RESERVABLE"),
        step("p", "PIVOT", "g", "h"),
        step("r", "RETRIABLE", "p"),
        graph=True,
    )
    facts: list[Message] = [
        begun(),
        *(fact for name in "ghp" for fact in (attempt(name), completed(name))),
        no_return(),
    ]
    assert due(saga_of(definition, facts)) == [
        EvaluationDue("r"),
        AttemptDue("g", CONFIRM),
        AttemptDue("h", CONFIRM),
    ]


def test_a_skipped_hold_is_not_confirmed() -> None:
    saga = saga_of(define(step("h", "RESERVABLE")), [begun(), skipped("h"), no_return()])
    assert due(saga) == [OutputDue()]


def test_the_output_is_due_when_every_step_is_done_and_every_hold_confirmed() -> None:
    one = define(step("h", "RESERVABLE"))
    facts: list[Message] = [begun(), attempt("h"), completed("h"), no_return()]
    assert due(saga_of(one, facts)) == [AttemptDue("h", CONFIRM)]
    facts += [attempt("h", 1, CONFIRM)]
    assert due(saga_of(one, facts)) == []
    assert due(saga_of(one, [*facts, confirmed("h")])) == [OutputDue()]


def test_a_stuck_step_strands_the_saga_when_the_others_are_done() -> None:
    """G3, G7: other branches go on first."""
    branches = define(step("p", "PIVOT"), step("r", "RETRIABLE", "p"), step("s", "RETRIABLE", "p"), graph=True)
    facts: list[Message] = [begun(), attempt("p"), completed("p"), no_return(), stuck("r")]
    assert due(saga_of(branches, facts)) == [EvaluationDue("s")]
    facts += [attempt("s")]
    assert due(saga_of(branches, facts)) == []
    assert due(saga_of(branches, [*facts, completed("s")])) == [Stranded()]
    assert due(saga_of(branches, [*facts, failed("s"), stuck("s")])) == [Stranded()]


# --- Turning back -----------------------------------------------------------------------------------------------------


def cause(saga: Saga, seconds: float) -> int | None:
    """Why the saga is to turn back, if it is."""
    match due(saga, seconds):
        case [TurnBackDue(why)]:
            return why.kind
        case _:
            return None


def test_a_setback_turns_the_saga_back() -> None:
    saga = saga_of(define(step("x"), step("y")), [begun(), attempt("x"), rejected("x")])
    assert cause(saga, 0) == FAILURE_KIND_REJECTED


def test_a_deadline_turns_the_saga_back() -> None:
    """G9."""
    saga = saga_of(define(step("x")), [begun(deadline=30), attempt("x", until=99)])
    assert (cause(saga, 29.9), wake(look(saga, 29.9))) == (None, 30)
    assert cause(saga, 30) == FAILURE_KIND_DEADLINE_PASSED


@pytest.mark.parametrize("reply", [None, UNAVAILABLE, pending()], ids=["in flight", "between attempts", "pending"])
def test_a_step_deadline_turns_the_saga_back(reply: Reply | None) -> None:
    """G9: retries and pending included."""
    bench = Bench(define(step("x", timeout=30, execute=attempts(timeout=20, backoff=3600))))
    bench.turn()
    if reply is not None:
        bench.reply("x", reply)
    assert (cause(bench.saga, 29.9), wake(look(bench.saga, 29.9))) == (None, 30)
    assert cause(bench.saga, 30) == FAILURE_KIND_DEADLINE_PASSED


def test_a_step_deadline_ends_with_the_step() -> None:
    bench = Bench(define(step("x", timeout=5), step("y")))
    bench.turn()
    bench.reply("x", DONE)
    assert cause(bench.saga, 99) is None


@pytest.mark.parametrize("facts", [[attempt("p", until=99)], [attempt("p", until=1), failed("p", again=40)]])
def test_behind_its_pivots_first_attempt_a_saga_past_its_deadline_is_only_marked(facts: list[Message]) -> None:
    """G6, G9."""
    saga = saga_of(define(step("p", "PIVOT")), [begun(deadline=30), *facts])
    assert (due(saga, 29), wake(look(saga, 29))) == ([], 30)
    assert due(saga, 31) == [OverdueDue()]
    marked = saga_of(define(step("p", "PIVOT")), [begun(deadline=30), *facts, After(31), overdue()])
    assert due(marked, 32) == []
    assert wake(look(marked, 32)) in (None, 40)


def test_behind_the_point_of_no_return_a_saga_past_its_deadline_is_only_marked() -> None:
    """G9."""
    facts: list[Message] = [begun(deadline=30), no_return(), attempt("r", until=99)]
    saga = saga_of(define(step("r", "RETRIABLE")), facts)
    assert (due(saga, 29), wake(look(saga, 29))) == ([], 30)
    assert due(saga, 30) == [OverdueDue()]


def test_an_overdue_saga_whose_pivot_is_rejected_goes_back() -> None:
    saga = saga_of(
        define(step("x"), step("p", "PIVOT")),
        [
            begun(deadline=30),
            attempt("x"),
            completed("x"),
            attempt("p", until=60),
            After(31),
            overdue(),
            rejected("p"),
        ],
    )
    assert cause(saga, 31) == FAILURE_KIND_REJECTED


# --- Holds ------------------------------------------------------------------------------------------------------------


def held(*behind: str, hold: float = 100, margin: float | None = 10) -> Saga:
    """A saga that holds something until then, with further steps behind."""
    definition = define(
        step("h", "RESERVABLE"), *(step(f"s{kind.lower()}", kind) for kind in behind), hold_margin=margin
    )
    return saga_of(definition, [begun(), attempt("h"), completed("h", hold=hold)])


def test_a_saga_goes_back_in_good_time_before_its_hold_lapses() -> None:
    saga = held("COMPENSATABLE", "PIVOT")
    assert due(saga, 89.9) == [EvaluationDue("scompensatable")]
    assert wake(look(saga, 89.9)) == 90
    assert cause(saga, 90) == FAILURE_KIND_HOLD_LAPSING
    assert cause(held("COMPENSATABLE", margin=None), 70) == FAILURE_KIND_HOLD_LAPSING  # 30 s by default


def test_a_pivot_starts_only_if_its_attempt_fits() -> None:
    """Rule 5: now + its attempt timeout (10 s) + margin before the hold lapses."""
    saga = held("PIVOT")
    assert due(saga, 79.9) == [EvaluationDue("spivot")]
    assert cause(saga, 80) == FAILURE_KIND_HOLD_LAPSING


def test_a_pivot_under_way_does_not_mind_the_hold() -> None:
    """G6."""
    definition = define(step("h", "RESERVABLE"), step("p", "PIVOT"), hold_margin=10)
    facts: list[Message] = [begun(), attempt("h"), completed("h", hold=100), attempt("p", until=200)]
    out = look(saga_of(definition, facts), 150)
    assert (out.due, wake(out)) == ([], None)


def test_a_hold_minds_nothing_once_nothing_can_be_refused() -> None:
    assert due(held(), 999) == [PointOfNoReturnDue()]


# --- Going back -------------------------------------------------------------------------------------------------------

DIAMOND = define(
    step("start"),
    step("left", "COMPENSATABLE", "start"),
    step("right", "COMPENSATABLE", "start"),
    step("end", "COMPENSATABLE", "left", "right"),
    graph=True,
)
DIAMOND_ONE = define(*DIAMOND.steps, graph=True, one_at_a_time=True)
DONE_ALL: list[Message] = [
    begun(),
    *(fact for name in ("start", "right", "left") for fact in (attempt(name), completed(name))),
]
WAY_BACK: list[Message] = [*DONE_ALL, attempt("end"), rejected("end"), turned_back()]


def undo(*names: str) -> list[Message]:
    return [fact for name in names for fact in (attempt(name, 1, COMPENSATE), compensated(name))]


def test_g4_independent_branches_are_compensated_in_parallel() -> None:
    both: list[Due] = [AttemptDue("left", COMPENSATE), AttemptDue("right", COMPENSATE)]
    assert due(saga_of(DIAMOND, WAY_BACK)) == both
    assert due(saga_of(DIAMOND, [*WAY_BACK, *undo("left")])) == [AttemptDue("right", COMPENSATE)]
    assert due(saga_of(DIAMOND, [*WAY_BACK, *undo("left", "right")])) == [AttemptDue("start", COMPENSATE)]
    assert due(saga_of(DIAMOND, [*WAY_BACK, *undo("left", "right", "start")])) == [WayBackDone()]


def test_g4_one_at_a_time_in_reverse_order_of_first_start() -> None:
    """`right` was started before `left`."""
    assert due(saga_of(DIAMOND_ONE, WAY_BACK)) == [AttemptDue("left", COMPENSATE)]
    assert due(saga_of(DIAMOND_ONE, [*WAY_BACK, attempt("left", 1, COMPENSATE)])) == []
    assert due(saga_of(DIAMOND_ONE, [*WAY_BACK, *undo("left")])) == [AttemptDue("right", COMPENSATE)]
    assert due(saga_of(DIAMOND_ONE, [*WAY_BACK, *undo("left", "right")])) == [AttemptDue("start", COMPENSATE)]


@pytest.mark.parametrize("definition", [DIAMOND, DIAMOND_ONE], ids=["reverse graph", "one at a time"])
def test_g7_the_others_go_on_when_one_cannot_be_compensated(definition: SagaDefinition) -> None:
    broken: list[Message] = [attempt("left", 1, COMPENSATE), compensation_failed("left")]
    facts = [*WAY_BACK, *broken]
    assert AttemptDue("right", COMPENSATE) in due(saga_of(definition, facts))
    facts = [*facts, *undo("right", "start")]
    assert due(saga_of(definition, facts)) == [Stranded()]


def test_g8_compensation_waits_for_attempts_that_may_be_at_work() -> None:
    facts: list[Message] = [begun(), attempt("x", until=30), failed("x"), turned_back()]
    saga = saga_of(define(step("x")), facts)
    assert (look(saga, 29.9).due, wake(look(saga, 29.9))) == ([], 30)
    assert due(saga, 30) == [AttemptDue("x", COMPENSATE)]


def test_g8_compensation_waits_for_polls_that_may_be_at_work() -> None:
    """Polls are not journaled: whoever makes them says until when."""
    bench = Bench(define(step("x"), step("y", "COMPENSATABLE"), graph=True))
    bench.turn()
    bench.reply("x", pending())
    bench.reply("y", DONE)
    bench.polled_until_ns["x"] = at(42)
    bench.turn(CancelRequested("no"))
    assert bench.calls == [("y", COMPENSATE, 1)]
    assert bench.out.wake_ns == at(42)
    assert look(bench.saga, 41.9, {"x": 42}).due == []
    assert look(bench.saga, 42, {"x": 42}).due == [AttemptDue("x", COMPENSATE)]
    assert look(bench.saga, 1, {"y": 42}).due == [AttemptDue("x", COMPENSATE)]


def test_compensation_waits_for_the_execute_that_is_still_in_flight() -> None:
    """Rule 2: the call ends by its own timeout."""
    out = look(saga_of(define(step("x")), [begun(), attempt("x", until=30), turned_back()]), 99)
    assert out == Outstanding(calls=[Call("x", EXECUTE, 1, at(30))])


def test_a_read_in_flight_is_awaited_and_then_there_is_nothing_to_compensate() -> None:
    facts: list[Message] = [begun(), attempt("x"), turned_back()]
    read = define(step("x", "READ_ONLY"))
    assert look(saga_of(read, facts), 1).calls == [Call("x", EXECUTE, 1, at(10))]
    for end in (completed("x"), failed("x"), rejected("x", in_doubt=True)):
        assert due(saga_of(read, [*facts, end]), 1) == [WayBackDone()]


def test_a_read_that_turns_out_pending_does_not_hold_the_saga() -> None:
    """G3."""
    bench = Bench(define(step("x", "READ_ONLY"), step("y"), graph=True))
    bench.turn()
    bench.reply("y", REFUSED)
    bench.reply("x", pending())
    assert bench.state == "COMPENSATED"


def test_compensate_is_polled_and_retried() -> None:
    bench = Bench(define(step("x", compensate=attempts(timeout=3)), step("y")))
    bench.turn()
    bench.reply("x", DONE)
    bench.reply("y", REFUSED)
    bench.reply("x", UNAVAILABLE, COMPENSATE)
    assert bench.out == Outstanding(wake_ns=at(0.05))
    bench.wait(0.05)
    bench.reply("x", pending(7), COMPENSATE)
    assert bench.out == Outstanding(polls=[Poll("x", COMPENSATE, 2, ns(7), ns(3))])


def test_a_saga_that_turned_back_before_it_did_anything_is_done() -> None:
    assert due(saga_of(define(step("x")), [turned_back()])) == [WayBackDone()]


# --- The ends ---------------------------------------------------------------------------------------------------------


def test_nothing_is_outstanding_where_a_saga_stands() -> None:
    bench = Bench(define(step("x")))
    bench.turn()
    bench.reply("x", DONE)
    assert (bench.state, bench.out.idle) == ("COMPLETED", True)
    bench = Bench(define(step("x")))
    bench.turn(CancelRequested("no"))
    assert (bench.state, bench.out.idle) == ("COMPENSATED", True)
    bench = Bench(define(step("p", "PIVOT", execute=attempts(1))))
    bench.turn()
    bench.reply("p", UNAVAILABLE)
    assert (bench.state, bench.out.idle) == ("FAILED", True)


def test_what_is_outstanding_after_a_crash_is_what_the_facts_say() -> None:
    """Recovery is not a special path: a folded saga asks for the same."""
    bench = Bench(define(step("h", "RESERVABLE"), step("p", "PIVOT")))
    bench.turn()
    bench.reply("h", Done(hold_until_ns=at(500)))
    assert look(bench.folded(), 1) == look(bench.saga, 1)
    bench.turn(Recovered())
    assert look(bench.folded(), 1) == look(bench.saga, 1)
