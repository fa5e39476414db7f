"""What an exploration tells the author of a definition: where its sagas can end, and when somebody has to help.

An *outcome* is the state in which a saga stands and how each step stands in it; two outcomes differ if a person who
looks at the saga would see a difference. This module must not word or lay out anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from coordinator.core.definition import Plan
from coordinator.core.limits import UNLIMITED
from coordinator.core.state import Saga, StepRecord
from coordinator.explore.explorer import Exploration, Explorer
from coordinator.explore.moves import Move
from coordinator.explore.truth import Truth
from coordinator.explore.world import Allowance, State, World
from saga.v1.types_pb2 import (
    FAILURE_KIND_EXPRESSION_FAILED,
    FAILURE_KIND_REJECTED,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_FAILED,
    STEP_KIND_PIVOT,
    STEP_KIND_RESERVABLE,
    STEP_STATE_COMPENSATION_FAILED,
    Failure,
    Operation,
    SagaState,
    StepState,
)


class Why(Enum):
    """Why an operator is needed."""

    REFUSED = "refused"
    SPENT = "its attempts are spent"
    INPUT = "its input fails on the saga's data"


class Cause(NamedTuple):
    """What strands a saga: an operation of a step (OPERATION_EXECUTE, …), and why."""

    step: str
    operation: int
    why: Why


class Outcome(NamedTuple):
    """Where a saga can stand."""

    state: SagaState.ValueType
    steps: tuple[StepState.ValueType, ...]
    stuck: frozenset[int]
    """The steps that cannot go on."""
    stands: frozenset[int]
    """The steps whose effect stands though the saga went back, or is stranded."""


@dataclass(slots=True)
class Report:
    """What was found."""

    plan: Plan
    exploration: Exploration
    allowance: Allowance
    outcomes: dict[Outcome, list[Move]] = field(default_factory=dict)
    """Each with a shortest path to it; by state, and there the shortest first."""
    causes: dict[Cause, list[Move]] = field(default_factory=dict)
    """What can strand a saga, each with a shortest path to where it stands."""
    may_stand: dict[str, list[Move]] = field(default_factory=dict)
    """The steps that may stay uncompensated, each with a shortest path to where it does."""

    @property
    def states(self) -> Counter[SagaState.ValueType]:
        """How many outcomes end in which state."""
        return Counter(outcome.state for outcome in self.outcomes)


ENDLESS: Final = (OPERATION_EXECUTE, OPERATION_CONFIRM, OPERATION_COMPENSATE)


def endless(plan: Plan) -> list[tuple[int, Operation.ValueType]]:
    """The operations that are tried for ever if the participant never does its part: the step's index, and which."""
    found = []
    for step in plan.steps:
        for operation in ENDLESS:
            applies = {
                OPERATION_EXECUTE: step.forward_only or step.kind == STEP_KIND_PIVOT,
                OPERATION_CONFIRM: step.kind == STEP_KIND_RESERVABLE,
                OPERATION_COMPENSATE: step.compensatable,
            }[operation]
            if applies and step.policies[operation].attempts_max == UNLIMITED:
                found.append((step.index, operation))
    return found


def explore(
    plan: Plan,
    allowance: Allowance,
    *,
    states_max: int,
    barriered: bool = True,
    interleaved: bool = True,
    reached: Callable[[int], None] = lambda _states: None,
) -> Report:
    """Explore a plan (`normal` makes one that is small enough) and gather where its sagas end.

    `reached` is told after each new state how many there are so far.
    """
    ends: dict[Outcome, int] = {}
    stranded: dict[Cause, int] = {}
    standing: dict[str, int] = {}

    def visit(number: int, state: State) -> None:
        reached(number + 1)
        if not state.stands:
            return
        outcome = _outcome(state.saga, state.truths)
        ends.setdefault(outcome, number)
        for cause in _causes(state.saga):
            stranded.setdefault(cause, number)
        if any(step.state == STEP_STATE_COMPENSATION_FAILED for step in state.saga.steps):
            for index in outcome.stands:
                standing.setdefault(plan.steps[index].name, number)

    world = World(plan, barriered=barriered, interleaved=interleaved, by_name=True)
    explorer = Explorer(world, allowance, states_max=states_max, visit=visit)
    report = Report(plan, explorer.explore(), allowance)
    in_order = sorted(ends.items(), key=lambda end: end[0].state)  # by state; in each the nearest first, as found
    report.outcomes = {outcome: explorer.path(number) for outcome, number in in_order}
    report.causes = {cause: explorer.path(number) for cause, number in stranded.items()}
    report.may_stand = {name: explorer.path(number) for name, number in standing.items()}
    return report


def _outcome(saga: Saga, truths: tuple[Truth, ...]) -> Outcome:
    stuck = frozenset(step.plan.index for step in saga.steps if step.stuck is not None)
    stands = frozenset(
        step.plan.index
        for step, truth in zip(saga.steps, truths, strict=True)
        if saga.state == SAGA_STATE_FAILED and truth.effect and step.plan.compensatable
    )
    return Outcome(saga.state, tuple(step.state for step in saga.steps), stuck & _failed(saga), stands)


def _failed(saga: Saga) -> frozenset[int]:
    """Of a saga that went back, a step that could not begin is no trouble any more."""
    return frozenset(saga.stuck) if saga.state == SAGA_STATE_FAILED else frozenset()


def _causes(saga: Saga) -> list[Cause]:
    if saga.state != SAGA_STATE_FAILED:
        return []
    found = []
    for step in saga.steps:
        if step.state == STEP_STATE_COMPENSATION_FAILED and step.compensation_failure is not None:
            found.append(Cause(step.plan.name, OPERATION_COMPENSATE, _why(step.compensation_failure)))
        elif step.plan.index in saga.stuck and step.stuck is not None:
            found.append(Cause(step.plan.name, _stuck_operation(step), _why(step.stuck)))
    return found


def _stuck_operation(step: StepRecord) -> int:
    return OPERATION_CONFIRM if OPERATION_CONFIRM in step.progress else OPERATION_EXECUTE


def _why(failure: Failure) -> Why:
    if failure.kind == FAILURE_KIND_EXPRESSION_FAILED:
        return Why.INPUT
    return Why.REFUSED if failure.kind == FAILURE_KIND_REJECTED else Why.SPENT
