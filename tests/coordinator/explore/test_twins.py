"""Cores that are broken on purpose: the explorer catches each of them, and says which guarantee it breaks and how.

A check that no broken core can fail proves nothing. Each twin changes one rule of the real core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any as Anything
from typing import TypeAlias

import pytest

from coordinator.core import decide, outstanding, state, turn
from coordinator.core.definition import Plan, StepPlan
from coordinator.core.inputs import Refused, Replied, Unknown
from coordinator.core.outstanding import NO_POLLS, Outstanding
from coordinator.core.state import Progress, Saga, StepRecord
from coordinator.explore import world
from coordinator.explore.explorer import Exploration, Explorer
from coordinator.explore.story import tell_all
from coordinator.explore.world import Allowance, World
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.event_pb2 import SagaEvent, StepCompensated, StepRejected
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    STEP_STATE_COMPENSATING,
    STEP_STATE_EXECUTING,
    STEP_STATE_REJECTED,
)
from tests.coordinator.explore.definitions import definition

Patch = pytest.MonkeyPatch

ONE = definition((("COMPENSATABLE",), frozenset()), one_at_a_time=False)
CHAIN = definition((("COMPENSATABLE", "COMPENSATABLE"), frozenset({(0, 1)})), one_at_a_time=False)
BESIDE = definition((("COMPENSATABLE", "COMPENSATABLE"), frozenset()), one_at_a_time=True)
PIVOT = definition((("COMPENSATABLE", "PIVOT"), frozenset({(0, 1)})), one_at_a_time=False)
HOLD = definition((("RESERVABLE",), frozenset()), one_at_a_time=False)


# --- The twins --------------------------------------------------------------------------------------------------------


def does_not_wait_for_unanswered_attempts(patch: Patch) -> None:
    def in_doubt(step: StepRecord, operation: int, until_ns: int) -> None:
        step.in_doubt = step.in_doubt or operation == OPERATION_EXECUTE

    patch.setattr(state, "_in_doubt", in_doubt)


def compensates_under_an_open_attempt(patch: Patch) -> None:
    def going_back(saga: Saga, now_ns: int, polled_until_ns: Mapping[str, int], out: Outstanding) -> None:
        real(saga, now_ns, polled_until_ns, out)
        for step in saga.steps:
            execute = step.progress.get(OPERATION_EXECUTE)
            if execute is not None and execute.open and OPERATION_COMPENSATE not in step.progress:
                out.due.append(outstanding.AttemptDue(step.plan.name, OPERATION_COMPENSATE))

    real = outstanding._going_back
    patch.setattr(outstanding, "_going_back", going_back)
    patch.setattr(state, "_is_its_turn", lambda *_: True)
    executing = {**state.STEP[STEP_STATE_EXECUTING], "compensate started": STEP_STATE_COMPENSATING}
    patch.setitem(state.STEP, STEP_STATE_EXECUTING, executing)


def forgets_that_a_poll_is_on_its_way(patch: Patch) -> None:
    def without_polls(saga: Saga, now_ns: int, _polled: Mapping[str, int] = NO_POLLS) -> Outstanding:
        return real(saga, now_ns)

    real = outstanding.outstanding
    for module in (turn, world, decide):
        patch.setattr(module, "outstanding", without_polls)


def takes_unknown_for_a_refusal(patch: Patch) -> None:
    def refused(
        _saga: Saga, _step: StepRecord, _of: Progress, replied: Replied, unknown: Unknown, _now: int
    ) -> Anything:
        return [StepRejected(step=replied.step, attempt=replied.attempt, failure=unknown.failure)]

    patch.setattr(decide, "_unknown_execute", refused)


def believes_a_refusal_without_a_barrier(patch: Patch) -> None:
    def refused(step: Anything, progress: Anything, replied: Replied, reply: Refused, *rest: Anything) -> Anything:
        return real(step, progress, replied, Refused(reply.reason, covers_earlier=True), *rest)

    real = decide._refused
    patch.setattr(decide, "_refused", refused)


def forgets_lost_attempts_in_recovery(patch: Patch) -> None:
    patch.setattr(decide, "_recovered", lambda _saga, _now_ns: [])


def turns_back_behind_the_pivot(patch: Patch) -> None:
    patch.setattr(Saga, "committed", property(lambda _saga: False))


def gives_up_a_pivot_in_doubt(patch: Patch) -> None:
    patch.setattr(StepPlan, "must_go_on", property(lambda step: step.forward_only))


def compensates_in_the_order_of_execution(patch: Patch) -> None:
    def first_first(saga: Saga) -> list[StepRecord]:
        return [step for step in saga.steps if not step.settled and not step.progress[OPERATION_EXECUTE].open][:1]

    patch.setattr(outstanding, "_next_on_the_way_back", first_first)
    patch.setattr(state, "_is_its_turn", lambda *_: True)


def compensates_all_at_once(patch: Patch) -> None:
    patch.setattr(outstanding, "_keep_one", lambda _saga, _out: None)
    patch.setattr(
        outstanding,
        "_next_on_the_way_back",
        lambda saga: [saga.steps[index] for index in sorted(saga.backward.ready)],
    )


def compensates_what_was_refused(patch: Patch) -> None:
    patch.setattr(state, "_SETTLED", state._SETTLED - {STEP_STATE_REJECTED})
    patch.setitem(state.STEP, STEP_STATE_REJECTED, {"compensate started": STEP_STATE_COMPENSATING})


def takes_a_refused_compensation_for_done(patch: Patch) -> None:
    def refused(step: Anything, progress: Anything, replied: Replied, *rest: Anything) -> Anything:
        if replied.operation == OPERATION_COMPENSATE:
            return [StepCompensated(step=replied.step, attempt=replied.attempt)]
        return real(step, progress, replied, *rest)

    real = decide._refused
    patch.setattr(decide, "_refused", refused)


def stops_at_the_first_compensation_that_fails(patch: Patch) -> None:
    def going_back(saga: Saga, now_ns: int, polled: Mapping[str, int], out: Outstanding) -> None:
        real(saga, now_ns, polled, out)
        if saga.compensation_failed:
            out.due = [outstanding.Stranded()]

    real = outstanding._going_back

    def returned(saga: Saga) -> bool:
        return (saga.compensation_failed is not None and not saga.active) or every_step_settled(saga)

    every_step_settled: Callable[[Saga], bool] = Saga.returned.fget  # type: ignore[attr-defined]  # it is a property
    patch.setattr(outstanding, "_going_back", going_back)
    patch.setattr(Saga, "returned", property(returned))


def never_confirms(patch: Patch) -> None:
    def passed(saga: Saga, event: SagaEvent, time_ns: int) -> None:
        real(saga, event, time_ns)
        saga.to_confirm = set()

    real = state._HANDLERS["point_of_no_return_passed"]
    patch.setitem(state._HANDLERS, "point_of_no_return_passed", passed)


def forgets_to_wake(patch: Patch) -> None:
    patch.setattr(Outstanding, "wake", lambda _out, _instant_ns: None)


def never_says_that_it_is_stranded(patch: Patch) -> None:
    patch.setattr(outstanding, "Stranded", lambda: outstanding.WayBackDone())
    real = outstanding._going_back

    def going_back(saga: Saga, now_ns: int, polled: Mapping[str, int], out: Outstanding) -> None:
        real(saga, now_ns, polled, out)
        if saga.compensation_failed:
            out.due = [due for due in out.due if not isinstance(due, outstanding.WayBackDone)]

    patch.setattr(outstanding, "_going_back", going_back)


Twin: TypeAlias = tuple[Callable[[Patch], None], SagaDefinition, bool, str]
TWINS: Sequence[Twin] = (
    (does_not_wait_for_unanswered_attempts, ONE, True, "G8"),
    (compensates_under_an_open_attempt, ONE, True, "G8"),
    (forgets_that_a_poll_is_on_its_way, ONE, True, "G8"),
    (takes_unknown_for_a_refusal, ONE, True, "G4"),
    (believes_a_refusal_without_a_barrier, ONE, False, "G8"),
    (forgets_lost_attempts_in_recovery, ONE, False, "G8"),
    (turns_back_behind_the_pivot, PIVOT, True, "G6"),
    (gives_up_a_pivot_in_doubt, PIVOT, True, "G3"),
    (compensates_in_the_order_of_execution, CHAIN, True, "G4"),
    (compensates_all_at_once, BESIDE, True, "G4"),
    (compensates_what_was_refused, ONE, True, "G4"),
    (takes_a_refused_compensation_for_done, ONE, True, "G7"),
    (stops_at_the_first_compensation_that_fails, CHAIN, True, "G7"),
    (never_confirms, HOLD, True, "G6"),
    (forgets_to_wake, ONE, True, "G3"),
    (never_says_that_it_is_stranded, ONE, True, "G3"),
)


# --- That they are caught ---------------------------------------------------------------------------------------------


def explored(definition: SagaDefinition, *, barriered: bool) -> Exploration:
    return Explorer(World(Plan(definition), barriered=barriered), Allowance(failures=2), states_max=100_000).explore()


@pytest.mark.parametrize("twin", TWINS, ids=[twin[0].__name__ for twin in TWINS])
def test_the_twin_is_caught(twin: Twin) -> None:
    break_it, definition, barriered, guarantee = twin
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        found = explored(definition, barriered=barriered)
    assert found.violation is not None, "the twin was not caught"
    print(f"\n{break_it.__name__}: {found.violation}")
    print("\n".join(f"  {line}" for line in tell_all(found.path, Plan(definition))))
    assert found.violation.guarantee == guarantee
    assert found.path


@pytest.mark.parametrize(
    "definition", [ONE, CHAIN, BESIDE, PIVOT, HOLD], ids=["one", "chain", "beside", "pivot", "hold"]
)
@pytest.mark.parametrize("barriered", [True, False])
def test_the_real_core_is_not(definition: SagaDefinition, barriered: bool) -> None:
    assert explored(definition, barriered=barriered).violation is None


def test_every_guarantee_has_a_twin() -> None:
    assert {guarantee for *_, guarantee in TWINS} == {"G3", "G4", "G6", "G7", "G8"}
