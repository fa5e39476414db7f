"""What must hold, said a second time: from the guarantees, so that the core's mistakes do not hide themselves.

Everything here looks at what participants did and at what was journaled (`Truth`), and never at a saga's own indexes.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.core.definition import Graph, Plan
from coordinator.core.outstanding import Outstanding
from coordinator.core.state import Saga
from coordinator.explore.truth import Going, Truth, Word
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    SagaState,
)


class Violation(Exception):
    """A guarantee is broken. `guarantee` is its number (docs/semantics.md)."""

    def __init__(self, guarantee: str, message: str) -> None:
        super().__init__(f"{guarantee}: {message}")
        self.guarantee = guarantee


class Judge:
    """The guarantees, for the sagas of one plan. Each check raises Violation."""

    def __init__(self, plan: Plan, *, barriered: bool) -> None:
        self._plan = plan
        self._barriered = barriered
        ancestors = Graph(plan.definition).ancestors
        self._dependants = [
            [other for other in range(len(plan.steps)) if ancestors[other] >> index & 1]
            for index in range(len(plan.steps))
        ]
        self._refusable = [step.index for step in plan.steps if not step.forward_only]

    # --- What is sent ---

    def sent(
        self,
        index: int,
        operation: int,
        truths: Sequence[Truth],
        order: Sequence[int],
        now_ns: int,
        *,
        going_back: bool,
    ) -> None:
        """An attempt begins; `truths` stand as they were before it, `order` names the steps in that of their start."""
        if operation == OPERATION_EXECUTE:
            self._execute(index, truths, going_back=going_back)
        elif operation == OPERATION_COMPENSATE:
            self._compensate(index, truths, now_ns)
            if self._plan.one_at_a_time:
                self._one_at_a_time(index, truths, order, now_ns)
        elif not self._no_return(truths):
            raise Violation("G6", f"`{self._name(index)}` is confirmed while the saga can go back")

    def turned_back(self, truths: Sequence[Truth]) -> None:
        """The saga turns back."""
        if self.committed(truths):
            raise Violation("G6", "the saga turns back where it cannot: the pivot completed, or nobody knows")

    def _execute(self, index: int, truths: Sequence[Truth], *, going_back: bool) -> None:
        if going_back:
            raise Violation("G4", f"`{self._name(index)}` is executed while the saga goes back")
        for before in self._plan.steps[index].predecessors:
            if not truths[before].done:
                raise Violation("G4", f"`{self._name(index)}` begins before `{self._name(before)}` is done")

    def _compensate(self, index: int, truths: Sequence[Truth], now_ns: int) -> None:
        name, truth = self._name(index), truths[index]
        if self._past_pivot(truths):
            raise Violation("G6", f"`{name}` is compensated behind the point of no return")
        if truth.at_work(now_ns):
            raise Violation("G8", f"`{name}` is compensated while an Execute may be at work")
        if truth.certainly_nothing and (self._barriered or not truth.doubt):
            raise Violation("G4", f"`{name}` is compensated and certainly had no effect")
        if truth.compensation_over:
            raise Violation("G7", f"`{name}` is compensated after the end of its compensation")
        for other in self._dependants[index]:
            if not self._settled(other, truths[other], now_ns):
                raise Violation(
                    "G4", f"`{name}` is compensated before `{self._name(other)}`, which depends on it, is settled"
                )

    def _one_at_a_time(self, index: int, truths: Sequence[Truth], order: Sequence[int], now_ns: int) -> None:
        for other in order[order.index(index) + 1 :]:
            if not self._settled(other, truths[other], now_ns):
                raise Violation(
                    "G4", f"`{self._name(index)}` is compensated before `{self._name(other)}`, which began later"
                )
        for other, truth in enumerate(truths):
            if other != index and truth.compensation == Going.SENT:
                raise Violation("G4", f"`{self._name(index)}` is compensated beside `{self._name(other)}`")

    def committed(self, truths: Sequence[Truth]) -> bool:
        """Whether nothing may turn the saga back (G6)."""
        return self._past_pivot(truths) or self._no_return(truths)

    def _past_pivot(self, truths: Sequence[Truth]) -> bool:
        """The pivot completed, or nobody knows."""
        pivot = self._plan.pivot
        return pivot is not None and truths[pivot.index].begun and truths[pivot.index].word != Word.REFUSED

    def _no_return(self, truths: Sequence[Truth]) -> bool:
        return all(truths[index].done for index in self._refusable)

    def _settled(self, index: int, truth: Truth, now_ns: int) -> bool:
        if truth.call == OPERATION_EXECUTE and truth.call_until_ns > now_ns:
            return False
        compensatable = self._plan.steps[index].compensatable
        return not compensatable or truth.certainly_nothing or truth.compensation_over

    # --- Where it stands ---

    def waiting(self, saga: Saga, truths: Sequence[Truth], out: Outstanding, now_ns: int) -> None:
        """G3: what the saga waits for has an instant or somebody who answers; or it stands."""
        stands = saga.state in (SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED)
        if stands != out.idle:
            raise Violation(
                "G3", f"{SagaState.Name(saga.state)}, and there is {'nothing' if out.idle else 'more'} to do"
            )
        if out.wake_ns is not None and out.wake_ns <= now_ns:
            raise Violation("G3", "it waits for an instant that has passed")
        if stands:
            self._stands(saga, truths, now_ns)

    def _stands(self, saga: Saga, truths: Sequence[Truth], now_ns: int) -> None:
        for step, truth in zip(self._plan.steps, truths, strict=True):
            lasting = step.kind != STEP_KIND_READ_ONLY
            if saga.state == SAGA_STATE_COMPENSATED:
                if truth.compensation == Going.GIVEN_UP:
                    raise Violation("G7", f"COMPENSATED, and `{step.name}` could not be compensated")
                if lasting and truth.effect and truth.compensation != Going.NOT_SENT:
                    raise Violation(
                        "G7", f"COMPENSATED, and the compensation of `{step.name}` came to nothing, silently"
                    )
                if lasting and truth.effect:
                    raise Violation("G4", f"COMPENSATED, and the effect of `{step.name}` stands")
                if lasting and truth.at_work(now_ns) and not (self._barriered and truth.barred):
                    raise Violation("G8", f"COMPENSATED, and an Execute of `{step.name}` may still take effect")
            elif saga.state == SAGA_STATE_COMPLETED:
                if lasting and truth.effect == (truth.word == Word.SKIPPED):
                    raise Violation("G6", f"COMPLETED, and the effect of `{step.name}`: {truth.effect}")
                if step.kind == STEP_KIND_RESERVABLE and truth.effect and not truth.confirmed:
                    raise Violation("G6", f"COMPLETED, and the hold of `{step.name}` is not confirmed")
            elif saga.state == SAGA_STATE_FAILED:
                self._failed(saga, step.index, truths)

    def _failed(self, saga: Saga, index: int, truths: Sequence[Truth]) -> None:
        """G7: some step says why; what else could be compensated was, and an operator is called."""
        given_up = any(truth.compensation == Going.GIVEN_UP for truth in truths)
        stuck = any(truth.stuck for truth in truths)
        if not (given_up or stuck) or not saga.needs_attention or saga.failure is None:
            raise Violation("G7", "FAILED, and no step says why")
        step, truth = self._plan.steps[index], truths[index]
        if given_up and step.compensatable and truth.effect and truth.compensation != Going.GIVEN_UP:
            raise Violation("G7", f"`{step.name}` was not compensated beside the one that could not be")

    def _name(self, index: int) -> str:
        return self._plan.steps[index].name
