"""The shapes of sagas that the crash matrix crosses with the failpoints, and the effects that each must leave.

Every shape runs one step after the other, so that its effects have one order, whatever crashed. This module must not
know a failpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.core.instants import to_duration
from coordinator.core.limits import MILLISECOND_NS, SECOND_NS
from saga.v1.definition_pb2 import AttemptPolicy, SagaDefinition, StepDefinition
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
    SagaState,
    StepKind,
)
from tests.crash.messages import WORK

EXECUTE, COMPENSATE, CONFIRM = "EXECUTE", "COMPENSATE", "CONFIRM"
EFFECTS: Final = "effects"
"""The participant's name."""

# A slow machine spends no budget, and a coordinator that comes back waits for no long backoff. A compensation may wait
# for the end of an attempt that was lost (G8), so Execute's attempts are short.
_BACK: Final = AttemptPolicy(
    timeout=to_duration(5 * SECOND_NS),
    max_attempts=0,
    initial_backoff=to_duration(10 * MILLISECOND_NS),
    max_backoff=to_duration(200 * MILLISECOND_NS),
)
_FORWARD: Final = AttemptPolicy()
_FORWARD.CopyFrom(_BACK)
_FORWARD.timeout.CopyFrom(to_duration(1500 * MILLISECOND_NS))


@dataclass(frozen=True)
class Shape:
    """A saga's definition, how it must end, and the effects of each of its steps, in order.

    `children` are the definitions that its steps run. Of a shape with several `sagas`, which exclude each other, each
    has these effects, and none in between another's.
    """

    name: str
    steps: Sequence[StepDefinition]
    effects: Sequence[tuple[str, str]]
    ends: SagaState.ValueType = SAGA_STATE_COMPLETED
    children: Sequence[SagaDefinition] = ()
    exclusive: bool = False

    def definitions(self, suffix: str = "") -> Sequence[SagaDefinition]:
        """What is to be registered, the saga's own definition last; its name ends in `suffix`."""
        return (*self.children, _definition(f"crash_{self.name}{suffix}", self.steps, exclusive=self.exclusive))

    def saga_ids(self, serial: str) -> Sequence[str]:
        """The sagas that are started of it."""
        return [f"{self.name}-{serial}.{letter}" for letter in ("ab" if self.exclusive else "a")]

    @property
    def charges(self) -> int:
        """How often each of its sagas charges at the gateway."""
        return sum(step.action == "Charge" for step in self.steps)


def _definition(name: str, steps: Sequence[StepDefinition], *, exclusive: bool = False) -> SagaDefinition:
    return SagaDefinition(
        name=name, input_type=WORK, output="input", steps=steps, exclusive_keys=["input.key"] if exclusive else []
    )


def _step(name: str, action: str, kind: StepKind.ValueType, participant: str = EFFECTS) -> StepDefinition:
    return StepDefinition(
        name=name,
        participant=participant,
        action=action,
        kind=kind,
        input="input",
        execute=_FORWARD,
        compensate=_BACK,
        confirm=_BACK if kind == STEP_KIND_RESERVABLE else None,
    )


_FIRST: Final = _step("first", "Act", STEP_KIND_COMPENSATABLE)
_SECOND: Final = _step("second", "Act", STEP_KIND_COMPENSATABLE)
_SLOW: Final = _step("slow", "Slow", STEP_KIND_COMPENSATABLE)
_HOLD: Final = _step("hold", "Hold", STEP_KIND_RESERVABLE)
_REFUSE: Final = _step("refuse", "Refuse", STEP_KIND_COMPENSATABLE)
_DECIDE: Final = _step("decide", "Act", STEP_KIND_PIVOT)
_CHARGE: Final = _step("charge", "Charge", STEP_KIND_PIVOT)
_LAST: Final = _step("last", "Act", STEP_KIND_RETRIABLE)

_PART: Final = _definition("crash_part", [_FIRST, _SECOND])
_HELD: Final = _definition("crash_held", [_HOLD])
_RUN_PART: Final = _step("part", _PART.name, STEP_KIND_COMPENSATABLE, "coordinator")
_RUN_HELD: Final = _step("part", _HELD.name, STEP_KIND_RESERVABLE, "coordinator")

SHAPES: Final = (
    Shape("completes", [_FIRST, _DECIDE, _LAST], [("first", EXECUTE), ("decide", EXECUTE), ("last", EXECUTE)]),
    Shape(
        "compensates",
        [_FIRST, _SECOND, _REFUSE],
        [("first", EXECUTE), ("second", EXECUTE), ("second", COMPENSATE), ("first", COMPENSATE)],
        ends=SAGA_STATE_COMPENSATED,
    ),
    Shape("pivot_in_doubt", [_FIRST, _CHARGE, _LAST], [("first", EXECUTE), ("charge", EXECUTE), ("last", EXECUTE)]),
    Shape("pending", [_SLOW, _DECIDE], [("slow", EXECUTE), ("decide", EXECUTE)]),
    Shape("pending_back", [_SLOW, _REFUSE], [("slow", EXECUTE), ("slow", COMPENSATE)], ends=SAGA_STATE_COMPENSATED),
    Shape(
        "child",
        [_FIRST, _RUN_PART, _DECIDE],
        [("first", EXECUTE), ("part/first", EXECUTE), ("part/second", EXECUTE), ("decide", EXECUTE)],
        children=[_PART],
    ),
    Shape(
        "child_back",
        [_RUN_PART, _REFUSE],
        [
            ("part/first", EXECUTE),
            ("part/second", EXECUTE),
            ("part/second", COMPENSATE),
            ("part/first", COMPENSATE),
        ],
        ends=SAGA_STATE_COMPENSATED,
        children=[_PART],
    ),
    Shape("confirm", [_HOLD, _DECIDE], [("hold", EXECUTE), ("decide", EXECUTE), ("hold", CONFIRM)]),
    Shape(
        "child_confirm",
        [_RUN_HELD, _DECIDE],
        [("part/hold", EXECUTE), ("decide", EXECUTE), ("part/hold", CONFIRM)],
        children=[_HELD],
    ),
    Shape("keys", [_FIRST, _DECIDE], [("first", EXECUTE), ("decide", EXECUTE)], exclusive=True),
)
"""The shapes of the issue, and more: a pending compensation, children that go back and that hold, exclusive keys."""
