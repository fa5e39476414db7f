"""A saga to branch off from, and the form by which a state is known again.

The canonical form leaves out what no later decision can depend on, so that there are finitely many:

- Instants count from now, and one that has passed is as good as any other that has: the core compares them with now
  only.
- Attempt numbers, event sequences, payloads and the texts of failures are never compared, except an attempt's number
  with that of its own reply. What an attempt spends of a budget stays; without a limit it matters to the length of
  the backoff only, and that stops growing.
- Steps that the graph, their kinds and their policies do not tell apart may change places, unless it matters to whoever
  explores which of them it was. The core walks steps in the order of the definition, but two of them that are looked at
  in one turn stand alike at that moment.

What stands at the participants is part of the form whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from coordinator.core.definition import Plan, StepPlan
from coordinator.core.frontier import Frontier
from coordinator.core.retry import Policy
from coordinator.core.state import Progress, Saga, StepRecord
from coordinator.explore.truth import Truth

Form: TypeAlias = tuple[Any, ...]
"""Numbers and tuples of numbers: it can be hashed and compared."""

_RECORD = attrgetter(*StepRecord.__dataclass_fields__)
_PROGRESS = attrgetter(*Progress.__dataclass_fields__)


def branch(saga: Saga) -> Saga:
    """A saga that stands where the other one does, and goes its own way from here."""
    twin = object.__new__(Saga)
    fields = vars(twin)
    fields.update(vars(saga))
    for name in ("active", "to_confirm", "stuck", "troubled", "return_path"):
        fields[name] = fields[name].copy()
    twin.steps = [_branch_step(step) for step in saga.steps]
    twin.forward = _branch_frontier(saga.forward)
    twin.backward = _branch_frontier(saga.backward) if saga.backward is not None else None
    return twin


def _branch_step(step: StepRecord) -> StepRecord:
    twin = StepRecord(*_RECORD(step))
    twin.progress = {operation: Progress(*_PROGRESS(each)) for operation, each in twin.progress.items()}
    return twin


def _branch_frontier(frontier: Frontier) -> Frontier:
    twin = object.__new__(Frontier)
    twin._behind = frontier._behind  # never changed, so both may have it
    twin._missing = frontier._missing.copy()  # a copy has to reach what it copies
    twin.ready = frontier.ready.copy()
    twin.unresolved = frontier.unresolved
    return twin


class Canon:
    """Makes the canonical forms of the states of one plan; `by_name`: no two of its steps may change places."""

    def __init__(self, plan: Plan, *, by_name: bool) -> None:
        self._ordered = plan.one_at_a_time
        self._groups = [] if by_name else _alike(plan)
        self._saturated = {
            (step.index, operation): saturation(policy)
            for step in plan.steps
            for operation, policy in step.policies.items()
        }

    def form(self, saga: Saga, truths: Sequence[Truth], now_ns: int, allowances: Form) -> Form:
        """The state's canonical form; `allowances` is what may still go wrong."""
        ready = saga.backward.ready if saga.backward is not None else ()
        place = {index: position for position, index in enumerate(saga.return_path)} if self._ordered else {}
        steps = [
            self._step(step, truths[index], now_ns, index in ready, place.get(index, -1))
            for index, step in enumerate(saga.steps)
        ]
        for group in self._groups:
            for index, form in zip(group, sorted([steps[index] for index in group]), strict=True):
                steps[index] = form
        return (
            allowances,
            saga.state,
            saga.past_no_return,
            saga.overdue,
            saga.setback is not None,
            saga.backward is not None,
            _left(saga.deadline_ns, now_ns),
            _left(saga.earliest_hold_ns, now_ns),
            *steps,
        )

    def _step(self, step: StepRecord, truth: Truth, now_ns: int, ready: bool, place: int) -> Form:
        return (
            step.state,
            step.in_doubt,
            step.stuck is not None,
            ready,
            place,
            _left(step.unanswered_until_ns, now_ns),
            _left(step.deadline_ns, now_ns),
            *truth[:10],
            _left(truth.call_until_ns, now_ns),
            _left(truth.late_until_ns, now_ns),
            _left(truth.poll_at_ns, now_ns),
            _left(truth.poll_until_ns, now_ns),
            *[
                (
                    operation,
                    progress.open,
                    min(progress.spent, self._saturated[step.plan.index, operation]) if progress.under_way else 0,
                    _left(progress.deadline_ns, now_ns) if progress.open or progress.poll_after_ns else 0,
                    _left(progress.next_ns, now_ns),
                    progress.poll_after_ns or 0,
                )
                for operation, progress in step.progress.items()
            ],
        )


def _left(instant_ns: int | None, now_ns: int) -> int:
    """How long until then: 0 once it has passed, -1 where there is no such instant."""
    if instant_ns is None:
        return -1
    return instant_ns - now_ns if instant_ns > now_ns else 0


def saturation(policy: Policy) -> int:
    """From how many spent attempts on another one changes nothing: it is spent, or the backoff at its longest."""
    if policy.attempts_max:
        return policy.attempts_max
    spent = 1
    while policy.backoff_ns(spent, 0.0) != policy.backoff_ns(spent + 1, 0.0):
        spent += 1
    return spent


def _alike(plan: Plan) -> list[list[int]]:
    """The steps that can change places, in groups of more than one."""
    groups: dict[Hashable, list[int]] = {}
    for step in plan.steps:
        groups.setdefault(_nature(step), []).append(step.index)
    return [group for group in groups.values() if len(group) > 1]


def _nature(step: StepPlan) -> Hashable:
    policies = tuple(sorted((int(operation), policy) for operation, policy in step.policies.items()))
    neighbours = (step.predecessors, step.successors)
    return (step.kind, step.conditional, step.timeout_ns, step.in_process, policies, *neighbours)
