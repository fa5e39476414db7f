"""Which definition, input and keys a saga has, by its id alone, without asking the coordinator."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.core.definition import BUILT_IN, Plan
from tests.simulation.participants import UNBARRIERED
from tests.simulation.scenes import KEYS, Scene, child_text


def lineage(saga_id: str) -> Iterator[str]:
    """The saga, and those above it."""
    while saga_id:
        yield saga_id
        saga_id = parent_of(saga_id)


def parent_of(saga_id: str) -> str:
    return saga_id.rpartition("/")[0]


def root_of(saga_id: str) -> str:
    return saga_id.partition("/")[0]


class Genealogy:
    """Which definition and which input a saga has: it follows from its id."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._plans = {each.name: Plan(each) for each in scene.definitions}
        self._known = {start.saga_id: (self._plans[start.definition], start.text) for start in scene.starts}

    def plan(self, saga_id: str) -> Plan:
        return self._of(saga_id)[0]

    def text(self, saga_id: str) -> str:
        return self._of(saga_id)[1]

    def keys(self, saga_id: str) -> frozenset[str]:
        plan, its_text = self._of(saga_id)
        return frozenset(KEYS[key](its_text) for key in plan.definition.exclusive_keys)

    def _of(self, saga_id: str) -> tuple[Plan, str]:
        if saga_id not in self._known:
            plan, its_text = self._of(parent_of(saga_id))
            step = plan.definition.steps[plan.step(saga_id.rpartition("/")[2]).index]
            self._known[saga_id] = (self._plans[step.action], child_text(step, its_text))
        return self._known[saga_id]

    def barriered(self, saga_id: str) -> frozenset[str]:
        """The steps whose refusals cover earlier attempts."""
        return frozenset(step.name for step in self.plan(saga_id).steps if step.participant != UNBARRIERED)

    def hold_ns(self, saga_id: str, step: str) -> int | None:
        """How long the step's hold is kept; None where no time is said."""
        plan = self.plan(saga_id)
        if plan.step(step).participant == BUILT_IN:
            return None
        return self.scene.holds_ns.get((plan.name, step))
