"""Judges a coordinator by what it journals and by what participants see: never by the saga's own state.

Each rule here is written a second time, from the guarantees and not from the code, so that a mistake in the core's
indexes or tables does not hide itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any as Anything

from coordinator.core.definition import Graph, Plan
from coordinator.core.instants import from_timestamp
from saga.v1.event_pb2 import AttemptStarted, SagaEvent
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
)
from tests.coordinator.core.facts import Op


class Violation(AssertionError):
    """The coordinator broke a guarantee."""


class Judge:
    """Takes the events as they are journaled; complains (`Violation`) about the first that breaks a guarantee."""

    def __init__(self, plan: Plan, barriered: frozenset[str], *, child: bool = False) -> None:
        self._plan = plan
        self._child = child
        self._ancestors = Graph(plan.definition).ancestors
        self._barriered = barriered
        self.events: list[SagaEvent] = []

    def take(self, event: SagaEvent, at_work: Sequence[str]) -> None:
        """One more event. `at_work` names the steps of which an Execute call may still be at work (G8)."""
        self._check_place(event)
        if event.WhichOneof("event") == "attempt_started":
            self._check_attempt(event.attempt_started, from_timestamp(event.time), at_work)
        if event.WhichOneof("event") == "compensation_started" and self.committed:
            raise Violation("G6: the saga turns back where it cannot")
        self.events.append(event)

    def happened(self, name: str, step: str | None = None, operation: Op | None = None) -> list[Anything]:
        """The facts of that name, of that step and operation only where they are given."""
        facts = [getattr(event, name) for event in self.events if event.WhichOneof("event") == name]
        return [
            fact
            for fact in facts
            if (step is None or fact.step == step) and (operation is None or fact.operation == operation)
        ]

    @property
    def committed(self) -> bool:
        """Whether nothing may turn the saga back: behind the point of no return, or its pivot is under way (G6).

        A child that can be compensated as a whole has no such point before its parent says so (rule 9).
        """
        if self.happened("point_of_no_return_passed"):
            return True
        pivot = self._plan.pivot
        if pivot is None:
            return False
        return bool(self.happened("attempt_started", pivot.name)) and not self.happened("step_rejected", pivot.name)

    @property
    def parent_decides(self) -> bool:
        """Whether its parent may take it back when all of it is done."""
        final = (STEP_KIND_PIVOT, STEP_KIND_RETRIABLE)
        return self._child and not any(step.kind in final for step in self._plan.steps)

    @property
    def all_done(self) -> bool:
        """Whether every step completed or was skipped."""
        names = [step.name for step in self._plan.steps]
        return all(self.happened("step_completed", name) or self.happened("step_skipped", name) for name in names)

    def _check_place(self, event: SagaEvent) -> None:
        if not self.events:
            return
        last = self.events[-1]
        if event.sequence != last.sequence + 1:
            raise Violation(f"G12: #{event.sequence} follows on #{last.sequence}")
        if from_timestamp(event.time) < from_timestamp(last.time):
            raise Violation("an event is older than the one before it")
        if not 0 <= event.caused_by_sequence < event.sequence:
            raise Violation("an event is caused by one that comes after it")

    def _check_attempt(self, started: AttemptStarted, now_ns: int, at_work: Sequence[str]) -> None:
        earlier = self.happened("attempt_started", started.step, started.operation)
        if started.attempt != len(earlier) + 1:
            raise Violation(f"G2: attempt {started.attempt} follows on {len(earlier)}")
        if from_timestamp(started.deadline) <= now_ns:
            raise Violation("an attempt begins after its deadline")
        if started.operation == OPERATION_EXECUTE:
            self._check_execute(started.step)
        elif started.operation == OPERATION_CONFIRM:
            self._check_confirm(started.step)
        else:
            self._check_compensate(started.step, at_work)

    def _check_execute(self, name: str) -> None:
        if self.happened("compensation_started"):
            raise Violation(f"rule 2: `{name}` is executed while the saga goes back")
        for index in self._plan.step(name).predecessors:
            before = self._plan.steps[index].name
            if not (self.happened("step_completed", before) or self.happened("step_skipped", before)):
                raise Violation(f"`{name}` begins before `{before}` is done")

    def _check_confirm(self, name: str) -> None:
        if not self.happened("point_of_no_return_passed"):
            raise Violation(f"`{name}` is confirmed while the saga can go back")

    def _check_compensate(self, name: str, at_work: Sequence[str]) -> None:
        if not self.happened("compensation_started"):
            raise Violation(f"`{name}` is compensated while the saga goes forward")
        if self.committed:
            raise Violation(f"G6: `{name}` is compensated where the saga cannot go back")
        if name in at_work:
            raise Violation(f"G8: `{name}` is compensated while an Execute may be at work")
        self._check_may_have_happened(name)
        for other in self._plan.steps:
            depends = self._ancestors[other.index] >> self._plan.step(name).index & 1
            if depends and not self._settled(other.name):
                raise Violation(f"G4: `{name}` is compensated before `{other.name}`, which depends on it")
        if self._plan.one_at_a_time:
            self._check_order(name)

    def _check_may_have_happened(self, name: str) -> None:
        if not self.happened("attempt_started", name, OPERATION_EXECUTE):
            raise Violation(f"G4: `{name}` is compensated and never began")
        doubts = self.happened("attempt_failed", name, OPERATION_EXECUTE)
        doubts += self.happened("attempt_lost", name, OPERATION_EXECUTE)
        if self.happened("step_rejected", name) and (name in self._barriered or not doubts):
            raise Violation(f"G4: `{name}` is compensated and certainly had no effect")

    def _check_order(self, name: str) -> None:
        """One at a time, in reverse order of first start."""
        first = [fact.step for fact in self.happened("attempt_started") if self._first_execute(fact)]
        for other in first[first.index(name) + 1 :]:
            if not self._settled(other):
                raise Violation(f"G4: `{name}` is compensated before `{other}`, which began later")
        for other in first:
            under_way = self.happened("attempt_started", other, OPERATION_COMPENSATE)
            if other != name and under_way and not self._settled(other):
                raise Violation(f"G4: `{name}` is compensated beside `{other}`")

    def _first_execute(self, started: AttemptStarted) -> bool:
        return started.operation == OPERATION_EXECUTE and started.attempt == 1

    def _settled(self, name: str) -> bool:
        """Nothing is in flight, and there is nothing left to compensate."""
        started = len(self.happened("attempt_started", name, OPERATION_EXECUTE))
        if started == 0:
            return True
        if not self._answered(name, started):
            return False
        if self._plan.step(name).kind not in (STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE):
            return True
        refused = any(not fact.in_doubt for fact in self.happened("step_rejected", name))
        ended = self.happened("step_compensated", name) or self.happened("step_compensation_failed", name)
        return refused or bool(ended)

    def _answered(self, name: str, attempt: int) -> bool:
        of_execute = [
            *self.happened("attempt_failed", name, OPERATION_EXECUTE),
            *self.happened("attempt_lost", name, OPERATION_EXECUTE),
            *self.happened("step_pending", name, OPERATION_EXECUTE),
            *self.happened("step_completed", name),
            *self.happened("step_rejected", name),
        ]
        return any(fact.attempt == attempt for fact in of_execute)
