"""How long a saga can take at worst: every attempt times out, and every wait between two is as long as it can be.

This follows from the policies and the graph alone; nothing is explored for it. What a participant has accepted
(`pending`) takes as long as the participant likes, and no policy bounds it but the step's and the saga's timeout: it
is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.core.definition import Graph, Plan, StepPlan
from coordinator.core.instants import earliest
from coordinator.core.limits import UNLIMITED
from coordinator.core.retry import Policy
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_PIVOT,
    STEP_KIND_RESERVABLE,
    Operation,
)

# The backoff after so many attempts has long stopped growing: beyond that a wait is counted as the longest.
_COUNTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class StepDurations:
    """One step's longest ways. None: no limit, or, of Compensate and Confirm, that there is none."""

    step: StepPlan
    attempts_ns: int | None
    """All attempts of Execute, whatever the step's timeout says."""
    execute_ns: int | None
    """The same, cut off by the step's timeout."""
    compensate_ns: int | None
    confirm_ns: int | None

    @property
    def cut_off(self) -> bool:
        """Whether the step's timeout leaves no time for all its attempts."""
        return self.attempts_ns != self.execute_ns


@dataclass(frozen=True, slots=True)
class Way:
    """The longest way through the graph; `length_ns` None where a step on it has no limit."""

    steps: tuple[int, ...]
    """Their indexes, in the order in which they are gone through."""
    length_ns: int | None


@dataclass(frozen=True, slots=True)
class Durations:
    """A definition's longest ways."""

    steps: tuple[StepDurations, ...]
    forward: Way
    until_no_return: Way
    """As far as the saga can turn back by itself: up to, and without, a pivot and what must go forward."""
    back: Way
    timeout_ns: int | None

    @property
    def turns_back(self) -> bool:
        """Whether there is a step on which it can turn back: one that may be refused, and is not behind the pivot."""
        return not all(each.step.forward_only for each in self.steps)

    @property
    def endless_pivot(self) -> StepPlan | None:
        """The pivot whose attempts have no limit: nothing cuts them off, not even the saga's timeout."""
        pivots = (each for each in self.steps if each.step.kind == STEP_KIND_PIVOT)
        return next((each.step for each in pivots if each.execute_ns is None), None)

    @property
    def compensated_after_ns(self) -> int | None:
        """At the latest; None where something has no limit, or it never turns back."""
        if not self.turns_back or self.without_limit:
            return None
        before_pivot_ns = earliest(self.timeout_ns, self.until_no_return.length_ns) or 0
        pivot_ns = next((each.execute_ns for each in self.steps if each.step.kind == STEP_KIND_PIVOT), 0) or 0
        return before_pivot_ns + pivot_ns + (self.back.length_ns or 0)

    @property
    def without_limit(self) -> tuple[tuple[StepPlan, Operation.ValueType], ...]:
        """The operations for want of whose limit nobody knows when a saga that turns back is compensated.

        Before the pivot the saga's timeout limits all of them; the pivot itself is asked until its outcome is known.
        """
        executes = [
            (each.step, OPERATION_EXECUTE)
            for each in self.steps
            if each.execute_ns is None
            and not each.step.forward_only
            and (each.step.kind == STEP_KIND_PIVOT or self.timeout_ns is None)
        ]
        compensates = [
            (each.step, OPERATION_COMPENSATE)
            for each in self.steps
            if each.step.compensatable and each.compensate_ns is None
        ]
        return (*executes, *compensates)

    @property
    def fits(self) -> bool:
        """Whether all attempts before the point of no return fit in the saga's timeout."""
        length_ns = self.until_no_return.length_ns
        return self.timeout_ns is None or (length_ns is not None and length_ns <= self.timeout_ns)


def durations(plan: Plan) -> Durations:
    """The longest ways of a definition."""
    steps = tuple(_of_step(step) for step in plan.steps)
    graph = Graph(plan.definition)
    forward = [each.execute_ns for each in steps]
    refusable = [0 if each.step.must_go_on else each.execute_ns for each in steps]
    back = [each.compensate_ns if each.step.compensatable else 0 for each in steps]
    if plan.one_at_a_time:
        backwards = tuple(step.index for step in reversed(plan.steps) if step.compensatable)
        way_back = Way(backwards, None if None in back else sum(length or 0 for length in back))
    else:
        way_back = _longest(graph.order[::-1], [step.successors for step in plan.steps], back)
    ahead = [step.predecessors for step in plan.steps]
    return Durations(
        steps=steps,
        forward=_longest(graph.order, ahead, forward),
        until_no_return=_longest(graph.order, ahead, refusable),
        back=way_back,
        timeout_ns=plan.timeout_ns,
    )


def _of_step(step: StepPlan) -> StepDurations:
    attempts_ns = all_attempts_ns(step.policies[OPERATION_EXECUTE])
    execute_ns = attempts_ns if step.must_go_on else earliest(attempts_ns, step.timeout_ns)
    return StepDurations(
        step=step,
        attempts_ns=attempts_ns,
        execute_ns=execute_ns,
        compensate_ns=all_attempts_ns(step.policies[OPERATION_COMPENSATE]) if step.compensatable else None,
        confirm_ns=(all_attempts_ns(step.policies[OPERATION_CONFIRM]) if step.kind == STEP_KIND_RESERVABLE else None),
    )


def all_attempts_ns(policy: Policy) -> int | None:
    """From the first attempt's begin to the last one's timeout, with the longest waits; None: there is no limit."""
    if policy.attempts_max == UNLIMITED:
        return None
    waits = policy.attempts_max - 1
    counted = sum(policy.backoff_ns(spent, 1.0) for spent in range(1, min(waits, _COUNTED_MAX) + 1))
    beyond = max(waits - _COUNTED_MAX, 0) * policy.backoff_max_ns
    return policy.attempts_max * policy.timeout_ns + counted + beyond


def _longest(order: Sequence[int], ahead: Sequence[Sequence[int]], lengths: Sequence[int | None]) -> Way:
    """The critical path. A step without a limit outlasts every other."""
    reached: dict[int, tuple[float, tuple[int, ...]]] = {}
    for index in order:
        before = max((reached[other] for other in ahead[index]), default=(0.0, ()), key=lambda way: way[0])
        length = lengths[index]
        own = () if length == 0 else (index,)
        reached[index] = (before[0] + (float("inf") if length is None else length), (*before[1], *own))
    length_ns, steps = max(reached.values(), key=lambda way: (way[0], len(way[1])))
    return Way(steps, None if length_ns == float("inf") else int(length_ns))
