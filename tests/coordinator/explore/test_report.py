"""Where sagas end, and why somebody has to help: of small definitions it can be said by hand."""

from coordinator.explore.mermaid import diagram
from coordinator.explore.normal import ATTEMPTS_MAX, normal
from coordinator.explore.report import Cause, Why, endless, explore
from coordinator.explore.story import tell_all
from coordinator.explore.world import Allowance
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    STEP_STATE_COMPENSATED,
    STEP_STATE_REJECTED,
)
from tests.coordinator.core.sagas import attempts, define, step

ONE_FAILURE = Allowance(crashes=0, cancels=0, inputs=0, failures=1)
TRIP = normal(define(step("hold", "RESERVABLE"), step("pay", "PIVOT"), step("mail", "RETRIABLE")))


def test_the_exploration_form_keeps_what_matters() -> None:
    plan = normal(define(step("a", execute=attempts(7)), step("b", execute=attempts(0), timeout=60), timeout=300))
    assert [one.policies[OPERATION_EXECUTE].attempts_max for one in plan.steps] == [ATTEMPTS_MAX, 0]
    assert plan.timeout_ns is None


def test_where_sagas_end() -> None:
    report = explore(TRIP, ONE_FAILURE, states_max=10_000)
    assert report.exploration.violation is None
    assert set(report.states) == {SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED}
    told = {"; ".join(tell_all(path, TRIP)) for path in report.outcomes.values()}
    assert "hold: refused" in told
    assert "hold: completed; pay: refused; hold: compensated" in told


def test_why_an_operator_is_needed() -> None:
    causes = set(explore(TRIP, ONE_FAILURE, states_max=10_000).causes)
    assert causes == {Cause("hold", OPERATION_CONFIRM, Why.REFUSED)}
    more = explore(TRIP, ONE_FAILURE._replace(failures=2), states_max=10_000)
    assert Cause("hold", OPERATION_COMPENSATE, Why.REFUSED) in more.causes
    assert set(more.may_stand) == {"hold"}


def test_an_explicit_budget_behind_the_pivot_can_be_spent() -> None:
    plan = normal(define(step("pay", "PIVOT"), step("mail", "RETRIABLE", execute=attempts(2))))
    causes = explore(plan, ONE_FAILURE._replace(failures=2), states_max=10_000).causes
    assert Cause("mail", OPERATION_EXECUTE, Why.SPENT) in causes


def test_a_condition_can_be_false() -> None:
    plan = normal(define(step("gift", when="input.gift")))
    told = ["; ".join(tell_all(path, plan)) for path in explore(plan, ONE_FAILURE, states_max=100).outcomes.values()]
    assert "gift: skipped" in told


def test_what_is_tried_for_ever() -> None:
    assert endless(TRIP) == [
        (0, OPERATION_CONFIRM),
        (1, OPERATION_EXECUTE),
        (2, OPERATION_EXECUTE),
    ]


def test_the_chart_draws_the_ends_that_were_reached() -> None:
    lines = diagram(explore(TRIP, ONE_FAILURE, states_max=10_000)).splitlines()
    assert lines[0] == "flowchart LR"
    assert "  step0 --> step1" in lines
    assert "  step2 --> completed([COMPLETED])" in lines
    assert "  step1 -. cannot be done .-> back" in lines
    assert not any("a compensation fails" in line for line in lines)


def test_steps_that_are_alike_are_told_apart() -> None:
    """What a participant's author reads must name each step that it is true of, and not just one of its kind."""
    report = explore(normal(define(step("a"), step("b"), graph=True)), ONE_FAILURE._replace(cancels=1), states_max=999)
    ends = {outcome.steps for outcome in report.outcomes}
    assert (STEP_STATE_REJECTED, STEP_STATE_COMPENSATED) in ends
    assert (STEP_STATE_COMPENSATED, STEP_STATE_REJECTED) in ends
    assert set(report.may_stand) == {"a", "b"}
