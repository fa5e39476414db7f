"""The transition tables, and what a saga's events add up to.

The tables are tested from both sides: sagas in every state are given every event. Each one is either legal and leads
where the table says, or raises `IllegalEvent` and changes nothing; and every entry of the tables is met by some saga.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from google.protobuf.message import Message

from coordinator.core import limits
from coordinator.core.state import SAGA, STEP, IllegalEvent, Saga, StepRecord, apply, fold, state_after
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
    AttemptLost,
    SagaCreated,
    SagaEvent,
)
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_LOST,
    FAILURE_KIND_REJECTED,
    OPERATION_UNSPECIFIED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_RUNNING,
    SAGA_STATE_UNSPECIFIED,
    STEP_STATE_COMPENSATION_FAILED,
    STEP_STATE_CONFIRMING,
    STEP_STATE_EXECUTING,
    STEP_STATE_PENDING,
    STEP_STATE_UNKNOWN,
    STEP_STATE_UNSPECIFIED,
    STEP_STATE_WAITING,
    Operation,
    SagaState,
    StepState,
)
from tests.coordinator.core.facts import (
    COMPENSATE,
    CONFIRM,
    EXECUTE,
    After,
    accepted,
    attempt,
    begun,
    compensated,
    compensation_failed,
    completed,
    confirmed,
    created,
    event,
    failed,
    lost,
    no_return,
    overdue,
    paused,
    rejected,
    resolved,
    resumed,
    retried,
    saga_compensated,
    saga_completed,
    saga_failed,
    saga_of,
    skipped,
    stuck,
    turned_back,
)
from tests.coordinator.core.sagas import at, attempts, define, picture, plan, step

ONE = define(step("x"))
ONE_ATTEMPT = define(step("x", execute=attempts(1)))
HOLD = define(step("x", "RESERVABLE"))
PIVOT = define(step("x", "PIVOT"))
RETRIABLE = define(step("x", "RETRIABLE"))
TWO = define(step("w"), step("x"))
NOW = 100.0
"""By then every attempt of these tests has run out."""

Facts = list[Message | After]
GOING_BACK: Facts = [begun(), attempt("x"), turned_back()]
UNDER_COMPENSATION: Facts = [*GOING_BACK, failed("x"), After(20), attempt("x", 1, COMPENSATE)]
UNDER_CONFIRMATION: Facts = [begun(), attempt("x"), completed("x"), no_return(), attempt("x", 1, CONFIRM)]
STUCK_PIVOT: Facts = [begun(), attempt("x"), failed("x"), stuck("x")]
RESOLUTIONS = {
    RESOLUTION_COMPLETED: "completed",
    RESOLUTION_NO_EFFECT: "no effect",
    RESOLUTION_COMPENSATED: "compensated",
    RESOLUTION_CONFIRMED: "confirmed",
}


@dataclass(frozen=True)
class Situation:
    """A saga in some state, with its step `x` in some state."""

    name: str
    definition: SagaDefinition
    facts: Facts
    budget_spent: bool = False


SITUATIONS = [
    Situation("not begun", ONE, []),
    Situation("waiting", ONE, [begun()]),
    Situation("waiting behind the point of no return", RETRIABLE, [begun(), no_return()]),
    Situation("waiting for its turn", TWO, [begun()]),
    Situation("executing", ONE, [begun(), attempt("x")]),
    Situation("executing its last attempt", ONE_ATTEMPT, [begun(), attempt("x")], budget_spent=True),
    Situation("executing a pivot", PIVOT, [begun(), attempt("x")]),
    Situation("executing while the saga goes back", ONE, GOING_BACK),
    Situation("between two attempts", ONE, [begun(), attempt("x"), failed("x", again=11)]),
    Situation("pending", ONE, [begun(), attempt("x"), accepted("x")]),
    Situation("pending in its last attempt", ONE_ATTEMPT, [begun(), attempt("x"), accepted("x")], budget_spent=True),
    Situation("pending while the saga goes back", ONE, [*GOING_BACK, accepted("x")]),
    Situation("unknown, the saga not back yet", ONE, [begun(), attempt("x"), failed("x")]),
    Situation("an unknown pivot", PIVOT, [begun(), attempt("x"), failed("x")]),
    Situation("a stuck pivot", PIVOT, STUCK_PIVOT),
    Situation("unknown while the saga goes back", ONE, [*GOING_BACK, failed("x")]),
    Situation("completed, the end of no return not passed", ONE, [begun(), attempt("x"), completed("x")]),
    Situation("completed behind the point of no return", ONE, [begun(), attempt("x"), completed("x"), no_return()]),
    Situation("a hold to confirm", HOLD, [begun(), attempt("x"), completed("x"), no_return()]),
    Situation("completed while the saga goes back", ONE, [*GOING_BACK, completed("x")]),
    Situation("compensating", ONE, UNDER_COMPENSATION),
    Situation("between two compensations", ONE, [*UNDER_COMPENSATION, failed("x", 1, COMPENSATE, again=21)]),
    Situation("compensation spent", ONE, [*UNDER_COMPENSATION, failed("x", 1, COMPENSATE)]),
    Situation("compensation pending", ONE, [*UNDER_COMPENSATION, accepted("x", 1, COMPENSATE)]),
    Situation("confirming", HOLD, UNDER_CONFIRMATION),
    Situation("between two confirmations", HOLD, [*UNDER_CONFIRMATION, failed("x", 1, CONFIRM, again=11)]),
    Situation("confirmation pending", HOLD, [*UNDER_CONFIRMATION, accepted("x", 1, CONFIRM)]),
    Situation("confirmation stuck", HOLD, [*UNDER_CONFIRMATION, stuck("x", CONFIRM)]),
    Situation("rejected", ONE, [begun(), attempt("x"), rejected("x")]),
    Situation("rejected while the saga goes back", ONE, [*GOING_BACK, rejected("x")]),
    Situation("skipped", TWO, [begun(), skipped("w"), skipped("x")]),
    Situation("skipped behind the point of no return", RETRIABLE, [begun(), no_return(), skipped("x")]),
    Situation("compensated", ONE, [*UNDER_COMPENSATION, compensated("x")]),
    Situation("not compensated", ONE, [*UNDER_COMPENSATION, compensation_failed("x")]),
    Situation("confirmed", HOLD, [*UNDER_CONFIRMATION, confirmed("x")]),
    Situation("the saga completed", HOLD, [*UNDER_CONFIRMATION, confirmed("x"), saga_completed()]),
    Situation("the saga compensated", ONE, [*UNDER_COMPENSATION, compensated("x"), saga_compensated()]),
    Situation("the saga failed", ONE, [*UNDER_COMPENSATION, compensation_failed("x"), saga_failed()]),
    Situation("the saga failed going forward", PIVOT, [*STUCK_PIVOT, saga_failed()]),
    Situation("stuck before its first attempt", RETRIABLE, [begun(), no_return(), stuck("x")]),
    Situation("turned back before it began", ONE, [turned_back()]),
    Situation("paused before it began", ONE, [paused()]),
    Situation("paused going forward", ONE, [begun(), paused()]),
    Situation("paused going back", ONE, [*GOING_BACK, paused()]),
]


def build(situation: Situation) -> Saga:
    return saga_of(situation.definition, situation.facts)


@dataclass(frozen=True)
class Happening:
    """An event, and the tables' words for it."""

    fact: Message
    saga_word: str
    step_word: str = ""


def happenings(situation: Situation, saga: Saga) -> Iterator[Happening]:
    """Everything that an event can say, with the numbers that would be right."""
    yield Happening(created(), "created")
    yield Happening(begun(), "started")
    yield Happening(no_return(), "point of no return passed")
    yield Happening(overdue(), "overdue")
    yield Happening(turned_back(), "turned back")
    yield Happening(saga_completed(), "completed")
    yield Happening(saga_compensated(), "compensated")
    yield Happening(saga_failed(), "failed")
    yield Happening(paused(), "paused")
    yield Happening(resumed(), "resumed")
    goes_on, direction = (SAGA_STATE_RUNNING, "forward") if saga.backward is None else (SAGA_STATE_COMPENSATING, "back")
    yield Happening(retried(goes_on), f"an operator helps it {direction}")
    for resolution, word in RESOLUTIONS.items():
        fact = resolved("x", resolution, goes_on)
        yield Happening(fact, f"an operator helps it {direction}", f"resolved {word}")
    yield from _of_the_step(situation, saga, saga.step("x"))


def _of_the_step(situation: Situation, saga: Saga, record: StepRecord) -> Iterator[Happening]:
    number = {operation: progress.attempts for operation, progress in record.progress.items()}
    first = number.get(EXECUTE, 0) or 1
    yield Happening(skipped("x"), "a step goes forward", "skipped")
    yield Happening(completed("x", first), "a step is answered", "completed")
    yield Happening(rejected("x", first), "a step is answered", "rejected")
    in_doubt = rejected("x", first, in_doubt=True)
    yield Happening(in_doubt, "a step is answered", "rejected, an earlier attempt in doubt")
    back, final = number.get(COMPENSATE, 0) or 1, number.get(CONFIRM, 0) or 1
    yield Happening(compensated("x", back), "a step is answered", "compensated")
    yield Happening(compensation_failed("x", back), "a step is answered", "compensation failed")
    yield Happening(confirmed("x", final), "a step is answered", "confirmed")
    waiting = record.state == STEP_STATE_WAITING
    for operation, word in ((EXECUTE, "execute"), (COMPENSATE, "compensate"), (CONFIRM, "confirm")):
        last = number.get(operation, 0)
        way = "a step goes back" if operation == COMPENSATE else "a step goes forward"
        yield Happening(attempt("x", last + 1, operation, until=NOW + 10), way, f"{word} started")
        follows = failed("x", last, operation, again=NOW + 1)
        yield Happening(follows, "a step is answered", f"{word} failed, another attempt follows")
        yield Happening(failed("x", last, operation), "a step is answered", f"{word} failed")
        yield Happening(accepted("x", last, operation), "a step is answered", f"{word} pending")
        follows_loss = operation == EXECUTE and saga.state == SAGA_STATE_RUNNING and not situation.budget_spent
        suffix = ", another attempt follows" if follows_loss else ""
        yield Happening(lost("x", last, operation), "a step is answered", f"{word} lost{suffix}")
        if waiting:
            yield Happening(stuck("x", operation), "a step goes forward", "input failed")
        else:
            yield Happening(stuck("x", operation), "a step is answered", "stuck")


def tried(saga: Saga, happened: SagaEvent) -> bool:
    """Whether the event is legal. Where it is not, nothing may have changed."""
    before = picture(saga)
    try:
        apply(saga, happened)
    except IllegalEvent:
        assert picture(saga) == before
        return False
    assert (saga.last_sequence, saga.last_time_ns) == (happened.sequence, at(NOW))
    return True


def legal(situation: Situation) -> Iterator[tuple[Happening, Saga, Saga]]:
    """The happenings that are legal in the situation, with the saga before and after."""
    for happening in happenings(situation, build(situation)):
        before, saga = build(situation), build(situation)
        if tried(saga, event(saga, happening.fact, NOW)):
            yield happening, before, saga


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_what_is_legal_leads_where_the_tables_say(situation: Situation) -> None:
    for happening, before, after in legal(situation):
        assert after.state == SAGA[before.state][happening.saga_word], happening
        if happening.step_word:
            assert after.step("x").state == STEP[before.step("x").state][happening.step_word], happening


def test_every_entry_of_the_tables_is_met() -> None:
    """No entry is idle, and none is missing: the tables are exactly what can happen."""
    sagas: set[tuple[int, str]] = {
        (SAGA_STATE_UNSPECIFIED, "created"),
        (SAGA_STATE_COMPLETED, "turned back"),  # of a child: see the transcript child_compensated
        (SAGA_STATE_FAILED, "resumed"),  # a pause outlives it: see test_repair.py
    }
    steps: set[tuple[int, str]] = {
        (STEP_STATE_EXECUTING, "saga turned back"),  # see test_turning_back_leaves_no_execute_planned
        (STEP_STATE_PENDING, "saga turned back"),
        # See test_repair.py: an operator has all that is stuck tried again.
        (STEP_STATE_WAITING, "retried"),
        (STEP_STATE_UNKNOWN, "retried"),
        (STEP_STATE_COMPENSATION_FAILED, "retried"),
        (STEP_STATE_CONFIRMING, "retried"),
    }
    for situation in SITUATIONS:
        for happening, before, _ in legal(situation):
            sagas.add((before.state, happening.saga_word))
            if happening.step_word:
                steps.add((before.step("x").state, happening.step_word))
    assert sagas == {(state, word) for state, words in SAGA.items() for word in words}
    assert steps == {(state, word) for state, words in STEP.items() for word in words}


def test_the_tables_name_every_state() -> None:
    assert set(SAGA) == set(SagaState.values())
    assert set(STEP) == set(StepState.values()) - {STEP_STATE_UNSPECIFIED}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_legal_event_in_the_wrong_place_is_illegal(situation: Situation) -> None:
    """G12: one sequence after the other, and never back in time."""
    for happening, before, _ in legal(situation):
        for sequence in (0, before.last_sequence, before.last_sequence + 2):
            misplaced = event(before, happening.fact, NOW)
            misplaced.sequence = sequence
            assert not tried(before, misplaced)
        assert not tried(before, event(before, happening.fact, -1))


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_legal_event_of_a_wrong_attempt_or_step_is_illegal(situation: Situation) -> None:
    for happening, before, _ in legal(situation):
        fields = type(happening.fact).DESCRIPTOR.fields_by_name
        if "attempt" in fields:
            for off in (-1, 1, 7):
                wrong = copy.deepcopy(happening.fact)
                wrong.attempt = max(0, wrong.attempt + off)  # type: ignore[attr-defined]  # it was looked up above
                assert not tried(before, event(before, wrong, NOW)), wrong
        if "step" in fields:
            wrong = copy.deepcopy(happening.fact)
            wrong.step = "nobody"  # type: ignore[attr-defined]  # it was looked up above
            assert not tried(before, event(before, wrong, NOW)), wrong


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_an_unknown_operation_is_illegal(situation: Situation) -> None:
    saga = build(situation)
    for operation in (OPERATION_UNSPECIFIED, Operation.ValueType(9)):
        for make in (attempt, failed, lost, accepted):
            for number in (0, 1, 2):
                fact = make("x", number, operation)
                assert not tried(saga, event(saga, fact, NOW))


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_an_event_of_an_unknown_type_is_illegal(situation: Situation) -> None:
    """The journal's reader refuses what it does not know (rule 11)."""
    saga = build(situation)
    unknown = event(saga, begun(), NOW)
    unknown.ClearField("saga_started")
    before = picture(saga)
    with pytest.raises(IllegalEvent, match="of a type that this program does not know"):
        apply(saga, unknown)
    assert picture(saga) == before


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_state_after_agrees_with_the_fold(situation: Situation) -> None:
    for happening, before, after in legal(situation):
        assert state_after(before.state, event(before, happening.fact, NOW)) == after.state


def illegal(saga: Saga, fact: Message, match: str, seconds: float = NOW) -> None:
    before = picture(saga)
    with pytest.raises(IllegalEvent, match=match):
        apply(saga, event(saga, fact, seconds))
    assert picture(saga) == before


# --- The saga's guards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "version"), [("shop", 2), ("other", 1)])
def test_a_saga_is_folded_with_the_plan_it_is_pinned_to(name: str, version: int) -> None:
    """G11."""
    saga = Saga("saga-1", plan(ONE))
    illegal(saga, SagaCreated(definition=name, version=version), "the plan is of")


@pytest.mark.parametrize(
    "facts",
    [
        [begun(), attempt("x")],
        [begun(), attempt("x"), accepted("x")],
        [begun(), attempt("x"), failed("x")],
        [begun(), attempt("x"), failed("x", again=11)],
        [begun(), attempt("x"), completed("x")],
        [begun(), attempt("x"), completed("x"), no_return()],
    ],
    ids=["in flight", "pending", "unknown", "between attempts", "completed", "behind the point of no return"],
)
def test_g6_no_saga_turns_back_from_its_pivot(facts: Facts) -> None:
    saga = saga_of(PIVOT, facts)
    assert saga.committed
    illegal(saga, turned_back(), "cannot go back any more")


@pytest.mark.parametrize(
    "facts", [[], [begun()], [begun(), attempt("x"), rejected("x")]], ids=["not begun", "waiting", "rejected"]
)
def test_a_pivot_that_is_not_under_way_holds_nobody(facts: Facts) -> None:
    saga = saga_of(PIVOT, facts)
    assert not saga.committed
    apply(saga, event(saga, turned_back(), NOW))


def test_the_point_of_no_return_is_passed_once_and_when_nothing_can_be_refused() -> None:
    saga = saga_of(TWO, [begun(), attempt("w"), completed("w")])
    illegal(saga, no_return(), "a step can still be refused")
    saga = saga_of(TWO, [begun(), attempt("w"), completed("w"), skipped("x"), no_return()])
    assert saga.past_no_return
    illegal(saga, no_return(), "a step can still be refused")


def test_g8_compensate_waits_for_every_execute_attempt() -> None:
    facts: Facts = [
        begun(),
        attempt("x", 1, until=30),
        failed("x", 1, again=1),
        attempt("x", 2, until=20),
        completed("x", 2),
        turned_back(),
    ]
    illegal(saga_of(ONE, facts), attempt("x", 1, COMPENSATE), "not its turn", seconds=29.9)
    saga = saga_of(ONE, facts)
    apply(saga, event(saga, attempt("x", 1, COMPENSATE), 30))


def test_g8_an_answered_attempt_keeps_nobody_waiting() -> None:
    saga = saga_of(ONE, [begun(), attempt("x", until=30), failed("x", answered=True), turned_back()])
    apply(saga, event(saga, attempt("x", 1, COMPENSATE), 1))


def test_g8_a_lost_poll_says_until_when_it_may_be_at_work() -> None:
    facts: Facts = [begun(), attempt("x", until=10), accepted("x"), After(50), turned_back(), lost("x", until=60)]
    illegal(saga_of(ONE, facts), attempt("x", 1, COMPENSATE), "not its turn", seconds=59)
    saga = saga_of(ONE, facts)
    apply(saga, event(saga, attempt("x", 1, COMPENSATE), 60))


def test_g4_no_step_is_compensated_before_those_that_depend_on_it() -> None:
    done: Facts = [begun(), attempt("w"), completed("w"), attempt("x"), completed("x")]
    illegal(saga_of(TWO, [*done, turned_back()]), attempt("w", 1, COMPENSATE), "not its turn")
    free: Facts = [*done, turned_back(), attempt("x", 1, COMPENSATE), compensated("x")]
    saga = saga_of(TWO, free)
    apply(saga, event(saga, attempt("w", 1, COMPENSATE), NOW))


@pytest.mark.parametrize("kind", ["READ_ONLY", "PIVOT"])
def test_there_is_nothing_to_compensate_in_a_read_or_a_rejected_pivot(kind: str) -> None:
    facts: Facts = [begun(), attempt("x"), rejected("x", in_doubt=kind == "READ_ONLY"), turned_back()]
    illegal(saga_of(define(step("x", kind)), facts), attempt("x", 1, COMPENSATE), "compensate started|not its turn")


def test_confirm_waits_for_the_point_of_no_return() -> None:
    saga = saga_of(HOLD, [begun(), attempt("x"), completed("x")])
    illegal(saga, attempt("x", 1, CONFIRM), "the saga can still go back")


def test_only_holds_are_confirmed() -> None:
    saga = saga_of(ONE, [begun(), attempt("x"), completed("x"), no_return()])
    illegal(saga, attempt("x", 1, CONFIRM), "not its turn")


@pytest.mark.parametrize("fact", [attempt("x"), skipped("x"), stuck("x")], ids=["execute", "skip", "input"])
def test_a_step_waits_for_those_before_it(fact: Message) -> None:
    illegal(saga_of(TWO, [begun(), attempt("w")]), fact, "not its turn")


def test_one_attempt_at_a_time() -> None:
    illegal(saga_of(ONE, [begun(), attempt("x")]), attempt("x", 2), "still open")
    pending: Facts = [*UNDER_COMPENSATION, accepted("x", 1, COMPENSATE)]
    illegal(saga_of(ONE, pending), attempt("x", 2, COMPENSATE), "not its turn")


def test_an_answer_counts_once() -> None:
    saga = saga_of(ONE, [begun(), attempt("x"), failed("x", again=11)])
    for late in (lost("x"), accepted("x")):
        illegal(saga, late, "is not open")
    saga = saga_of(ONE, [begun(), attempt("x"), rejected("x")])
    every: list[Message] = [completed("x"), rejected("x"), failed("x"), lost("x"), accepted("x")]
    for answer in every:
        illegal(saga, answer, "cannot happen")


def test_no_saga_completes_before_its_steps() -> None:
    illegal(saga_of(TWO, [begun(), attempt("w"), completed("w")]), saga_completed(), "a step is not done")
    illegal(saga_of(HOLD, UNDER_CONFIRMATION), saga_completed(), "a step is not done")
    illegal(saga_of(HOLD, UNDER_CONFIRMATION[:-1]), saga_completed(), "a step is not done")


def test_no_saga_is_compensated_before_its_steps() -> None:
    illegal(saga_of(ONE, UNDER_COMPENSATION), saga_compensated(), "a step is not compensated")
    broken: Facts = [*UNDER_COMPENSATION, compensation_failed("x")]
    illegal(saga_of(ONE, broken), saga_compensated(), "a step is not compensated")


def test_no_saga_fails_while_it_can_go_on() -> None:
    """FAILED means that nothing is outstanding."""
    illegal(saga_of(ONE, [begun()]), saga_failed(), "it can still go on")
    illegal(saga_of(ONE, UNDER_COMPENSATION), saga_failed(), "it can still go on")
    branches = define(step("p", "PIVOT"), step("x", "RETRIABLE", "p"), step("y", "RETRIABLE", "p"), graph=True)
    facts: Facts = [begun(), attempt("p"), completed("p"), no_return(), stuck("x"), attempt("y")]
    illegal(saga_of(branches, facts), saga_failed(), "it can still go on")
    saga = saga_of(branches, [*facts, completed("y")])
    apply(saga, event(saga, saga_failed(), NOW))
    assert saga.state == SAGA_STATE_FAILED


def test_only_a_saga_that_cannot_go_back_is_overdue_and_once() -> None:
    illegal(saga_of(ONE, [begun()]), overdue(), "it can still go back")
    illegal(saga_of(RETRIABLE, [begun(), no_return(), overdue()]), overdue(), "or is marked")


def test_only_a_step_that_must_go_forward_is_stuck() -> None:
    illegal(saga_of(ONE, [begun(), attempt("x"), failed("x")]), stuck("x"), "going back is an answer")
    illegal(saga_of(PIVOT, [begun(), attempt("x"), failed("x")]), stuck("x", CONFIRM), "was not attempted")


# --- What is remembered -----------------------------------------------------------------------------------------------


def test_the_first_cause_is_kept() -> None:
    saga = saga_of(ONE, [*UNDER_COMPENSATION, compensation_failed("x"), saga_failed()])
    assert saga.failure is not None
    assert saga.failure.kind == FAILURE_KIND_CANCELLED
    assert saga.compensation_failed is saga.step("x")


def test_what_cannot_be_done_is_a_setback_until_the_saga_turns_back() -> None:
    branches = define(step("x"), step("y"), graph=True)
    facts: Facts = [begun(), attempt("x"), attempt("y"), rejected("x"), failed("y")]
    saga = saga_of(branches, facts)
    assert saga.setback is not None
    assert saga.setback.kind == FAILURE_KIND_REJECTED
    saga = saga_of(branches, [*facts, turned_back()])
    assert saga.setback is None


def test_a_loss_is_remembered_as_the_last_failure_and_sets_back() -> None:
    saga = saga_of(ONE_ATTEMPT, [begun(), attempt("x"), lost("x")])
    last = saga.step("x").progress[EXECUTE].last_failure
    assert last is not None
    assert saga.setback == last
    assert (last.kind, last.step, last.operation) == (FAILURE_KIND_LOST, "x", EXECUTE)


def test_a_loss_spends_the_budget_of_an_ordinary_execute_only() -> None:
    """Rule 1."""
    saga = saga_of(ONE, [begun(), attempt("x"), lost("x")])
    assert (saga.step("x").progress[EXECUTE].attempts, saga.step("x").progress[EXECUTE].spent) == (1, 1)
    cases: list[tuple[SagaDefinition, Facts, Operation.ValueType]] = [
        (PIVOT, [begun(), attempt("x"), lost("x")], EXECUTE),
        (RETRIABLE, [begun(), no_return(), attempt("x"), lost("x")], EXECUTE),
        (ONE, [*UNDER_COMPENSATION, lost("x", 1, COMPENSATE)], COMPENSATE),
        (HOLD, [*UNDER_CONFIRMATION, lost("x", 1, CONFIRM)], CONFIRM),
    ]
    for definition, facts, operation in cases:
        progress = saga_of(definition, facts).step("x").progress[operation]
        assert (progress.attempts, progress.spent) == (1, 0)
        assert progress.next_ns is not None


def test_a_lost_poll_is_no_attempt() -> None:
    facts: Facts = [begun(), attempt("x"), accepted("x"), After(50), lost("x", until=60)]
    record = saga_of(ONE, facts).step("x")
    assert record.state == STEP_STATE_PENDING
    assert record.progress[EXECUTE].poll_after_ns is not None
    assert record.progress[EXECUTE].spent == 1
    assert (record.in_doubt, record.unanswered_until_ns) == (True, at(60))


def test_turning_back_leaves_no_execute_planned() -> None:
    """Rule 2: what is in flight ends by itself; what waits for its backoff or a poll is over."""
    three = define(step("x"), step("y"), step("z"), graph=True)
    facts: Facts = [
        begun(),
        *(attempt(name) for name in "xyz"),
        failed("x", again=11),
        accepted("y"),
        turned_back(),
    ]
    saga = saga_of(three, facts)
    assert [saga.step(name).state for name in "xyz"] == [STEP_STATE_UNKNOWN, STEP_STATE_PENDING, STEP_STATE_EXECUTING]
    assert saga.state == SAGA_STATE_COMPENSATING
    assert saga.active == {saga.plan.step("z").index}
    assert [saga.step(name).progress[EXECUTE].under_way for name in "xyz"] == [False, False, True]


def test_the_earliest_hold_counts() -> None:
    """G9."""
    three = define(step("x", "RESERVABLE"), step("y", "RESERVABLE"), step("z", "RESERVABLE"))
    facts: Facts = [begun()]
    for name, hold in (("x", 50), ("y", 40), ("z", None)):
        facts += [attempt(name), completed(name, hold=hold)]
    assert saga_of(three, facts).earliest_hold_ns == at(40)


def test_a_step_that_must_go_forward_and_fails_often_needs_attention() -> None:
    facts: Facts = [begun()]
    for number in range(1, limits.ATTENTION_AFTER_ATTEMPTS + 1):
        assert not saga_of(PIVOT, facts).needs_attention
        facts += [attempt("x", number), failed("x", number, again=11)]
    assert saga_of(PIVOT, facts).needs_attention
    number = limits.ATTENTION_AFTER_ATTEMPTS + 1
    assert not saga_of(PIVOT, [*facts, attempt("x", number), completed("x", number)]).needs_attention


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_an_operator_is_needed_where_the_saga_failed_or_a_step_is_stuck(situation: Situation) -> None:
    saga = build(situation)
    assert saga.needs_attention == (saga.state == SAGA_STATE_FAILED or "stuck" in situation.name)


def test_fold_is_apply_for_each() -> None:
    saga = saga_of(ONE, [begun()])
    first = event(saga, attempt("x"), 1)
    second = SagaEvent.FromString(event(saga, completed("x"), 2).SerializeToString())
    second.sequence += 1
    assert fold(saga, [first, second]) is saga
    assert saga.last_sequence == 4


def test_losing_names_every_open_attempt() -> None:
    """AttemptLost without a deadline speaks of the attempt that is on disk, whose deadline counts (G8)."""
    saga = saga_of(ONE, [begun(), attempt("x", until=33)])
    apply(saga, event(saga, AttemptLost(step="x", operation=EXECUTE, attempt=1), 1))
    assert saga.step("x").unanswered_until_ns == at(33)
