"""Scenes of the simulation: definitions that may run others as steps, who starts what, and what may go wrong.

A scene follows from a number, so scenes are many and cheap. Every definition here is valid by the law of the kinds,
and every key, condition and child's input is known to the test without asking the coordinator. This module must not
know how a coordinator drives sagas.

Most scenes are small: few sagas of one of a few hundred families of definitions, which are compiled once a process.
Some are forests, with definitions of their own. Which faults a scene knows is drawn, too: what is left out lets others
go on for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any as Anything
from typing import Final

from coordinator.core.definition import BUILT_IN, Plan, check_structure
from coordinator.core.instants import to_duration
from coordinator.core.limits import SECOND_NS
from saga.v1.definition_pb2 import (
    COMPENSATION_ORDER_ONE_AT_A_TIME,
    COMPENSATION_ORDER_UNSPECIFIED,
    AttemptPolicy,
    SagaDefinition,
    StepDefinition,
)
from saga.v1.types_pb2 import STEP_KIND_RESERVABLE, StepKind
from tests.coordinator.core.sagas import attempts
from tests.coordinator.engine.bench import definition, ns, step
from tests.simulation.participants import BARRIERED, EXTERNAL, TRANSACTIONAL, UNBARRIERED

TEXTS: Final = ("a", "b")
"""The inputs of sagas; few, so that sagas meet at keys."""

KEYS: Final[dict[str, Callable[[str], str]]] = {
    "'k:' + input.text": lambda text: f"k:{text}",
    "'k:a'": lambda text: "k:a",
    "'j:' + input.text": lambda text: f"j:{text}",
    "'k:b'": lambda text: "k:b",
    "'j:a'": lambda text: "j:a",
    "'j:b'": lambda text: "j:b",
}
"""What exclusive keys are computed from, and what they come to."""

NEWCOMER: Final = "newcomer"
"""The saga, and its definition, that wants every key there is when all others have ended."""

SAME: Final = "input"
SWAPPED: Final = "shop.Text{text: input.text == 'a' ? 'b' : 'a'}"
"""A child's input is its parent's or the other one."""

ONLY_A: Final = "input.text == 'a'"
"""The one condition of steps."""

FORESTS: Final = 0.03
"""How many scenes are forests."""
FAMILIES: Final = 600

CLOCK_DEEDS: Final = ("the clock is set forward", "the clock is set back")
DEEDS: Final = (
    "cancel",
    "cancel a child",
    "pause",
    "resume",
    "retry",
    "crash",
    "crash before it is durable",
    "crash in an append",
    "crash while it recovers",
    "restart",
    "the journal fails",
    "the journal fails and is durable",
    "the journal is slow",
    "partition",
    "a participant dies",
    "a participant is slow",
    *CLOCK_DEEDS,
)
"""What may befall the coordinator, its sagas and the participants."""

PASSAGES: Final = (
    "request lost",
    "request lost in silence",
    "reply lost",
    "reply lost in silence",
    "reset under way",
    "request delayed",
    "reply delayed",
    "delivered twice",
    "delivered again later",
    "arrives after its deadline",
)
"""What can become of a message. "In silence": nobody hears of it before the call's time is over."""


DEPTH_MAX: Final = 3
_BEFORE: Final = ("COMPENSATABLE", "RESERVABLE", "READ_ONLY")


@dataclass(frozen=True)
class Start:
    """A saga that a client starts `at_s` after the beginning; `delay_s`: it asks for a start that much later."""

    saga_id: str
    definition: str
    text: str
    at_s: float
    delay_s: float


@dataclass(frozen=True)
class Scene:
    """What is registered, in that order; who starts what, the newcomer last; and what may go wrong.

    - `holds_ns` goes by definition and step.
    - `deeds` are what may befall the coordinator and the participants, `passages` what may become of a message, for
      `calm` messages that get through each.
    - `family` names definitions that many scenes have; None where they are this scene's own.
    """

    definitions: tuple[SagaDefinition, ...]
    starts: tuple[Start, ...]
    holds_ns: dict[tuple[str, str], int]
    deeds: tuple[str, ...] = DEEDS
    passages: tuple[str, ...] = PASSAGES
    calm: int = 30
    family: int | None = None


def child_text(step_definition: StepDefinition, text: str) -> str:
    """The input of the saga that runs as that step."""
    return text if step_definition.input == SAME else {"a": "b", "b": "a"}[text]


def skipped(step_definition: StepDefinition, text: str) -> bool:
    return bool(step_definition.when) and text != "a"


def scene_of(seed: int) -> Scene:
    """A scene that follows from a number: small for the most part."""
    random = Random(seed)
    scene = forest_of(random.getrandbits(64)) if random.random() < FORESTS else _small(random)
    return _with_faults(scene, random)


def forest_of(seed: int) -> Scene:
    """A forest that follows from a number: up to eight sagas, most of which run others. Anything may go wrong."""
    random = Random(seed)
    drawing = _Drawing(random, [*TRANSACTIONAL, EXTERNAL, UNBARRIERED] if random.random() < 0.4 else BARRIERED)
    for number in range(random.randint(1, 4)):
        drawing.leaf(f"l{number}")
    for number in range(random.choice([0, 1, 2, 2, 3, 4])):
        drawing.parent(f"p{number}")
    definitions = [plan.definition for plan in drawing.plans.values()]
    starts = [_start(random, number, definitions) for number in range(random.randint(1, 8))]
    definitions = _needed(definitions, {start.definition for start in starts})
    return _scene(definitions, starts, _holds_ns(random, definitions), None)


def _small(random: Random) -> Scene:
    """One to four sagas of one family."""
    family = random.randrange(FAMILIES)
    definitions, holds_ns = _family_of(family)
    starts = [_start(random, number, definitions) for number in range(random.choice([1, 1, 1, 1, 2, 2, 3, 4]))]
    return _scene(definitions, starts, holds_ns, family)


@cache
def _family_of(number: int) -> tuple[list[SagaDefinition], dict[tuple[str, str], int]]:
    random = Random(f"family {number}")
    drawing = _Drawing(random, [*TRANSACTIONAL, EXTERNAL, UNBARRIERED] if random.random() < 0.4 else BARRIERED)
    drawing.leaf("l0")
    if random.random() < 0.3:
        drawing.parent("p0")
    definitions = [plan.definition for plan in drawing.plans.values()]
    return definitions, _holds_ns(random, definitions)


def _scene(
    definitions: Sequence[SagaDefinition],
    starts: Sequence[Start],
    holds_ns: dict[tuple[str, str], int],
    family: int | None,
) -> Scene:
    """With a newcomer, where there are keys that somebody could have kept."""
    if not any(each.exclusive_keys for each in definitions):
        return Scene(tuple(definitions), tuple(starts), holds_ns, family=family)
    newcomer = definition(step("s0"), name=NEWCOMER, exclusive_keys=[key for key in KEYS if "input" not in key])
    last = Start(NEWCOMER, NEWCOMER, "a", 0, 0)
    return Scene((*definitions, newcomer), (*starts, last), holds_ns, family=family)


def _holds_ns(random: Random, definitions: Sequence[SagaDefinition]) -> dict[tuple[str, str], int]:
    held = random.random() < 0.4
    return {
        (each.name, one.name): random.choice([8, 30, 90]) * SECOND_NS
        for each in definitions
        for one in each.steps
        if held and one.participant != BUILT_IN and one.kind == STEP_KIND_RESERVABLE
    }


def _with_faults(scene: Scene, random: Random) -> Scene:
    """Which faults there are. A clock set forward ends the coordinator's waits early (G8): then all have barriers."""
    deeds = random.sample(DEEDS, random.randint(2, len(DEEDS)))
    if _has_unbarriered(scene):
        deeds = [deed for deed in deeds if deed not in CLOCK_DEEDS]
    passages = random.sample(PASSAGES, random.randint(1, len(PASSAGES)))
    starts = scene.starts
    if not _has_unbarriered(scene) and set(deeds) & set(CLOCK_DEEDS):
        starts = tuple(replace(start, delay_s=0) for start in starts)  # nobody waits for a day that is set back
    calm = random.choice([0, 10, 30, 100])
    return replace(scene, deeds=("nothing", *deeds), passages=tuple(passages), calm=calm, starts=starts)


def _has_unbarriered(scene: Scene) -> bool:
    return any(one.participant == UNBARRIERED for each in scene.definitions for one in each.steps)


def _start(random: Random, number: int, definitions: Sequence[SagaDefinition]) -> Start:
    likely = [each for each in definitions if each.name.startswith("p")] * 5
    return Start(
        saga_id=f"s{number}",
        definition=random.choice([*likely, *definitions]).name,
        text=random.choice(TEXTS),
        at_s=random.choice([0, 0, 0, 0.5, 3]),
        delay_s=random.choice([0] * 8 + [5, 40]),
    )


def _needed(definitions: Sequence[SagaDefinition], names: set[str]) -> list[SagaDefinition]:
    """Those of the names, and what they run; each only runs earlier ones."""
    kept: list[SagaDefinition] = []
    for each in reversed(definitions):
        if each.name in names:
            kept.insert(0, each)
            names |= {one.action for one in each.steps if one.participant == BUILT_IN}
    return kept


class _Drawing:
    """Draws definitions, each of which may run the earlier ones."""

    def __init__(self, random: Random, participants: Sequence[str]) -> None:
        self._random = random
        self._participants = participants
        self.plans: dict[str, Plan] = {}
        self._depth: dict[str, int] = {}

    def leaf(self, name: str) -> None:
        random = self._random
        most = random.randint(1, 3)
        pivot = random.random() < 0.3
        behind = random.choice([0, 0, 0, 1, most]) if not pivot else random.randint(0, most - 1)
        before = most - behind - pivot
        kinds = [*random.choices(_BEFORE, [3, 1, 1], k=before), *["PIVOT"] * pivot, *self._behind(behind, pivot)]
        self._define(name, [(kind, "") for kind in kinds], before, pivot, depth=0)

    def parent(self, name: str) -> None:
        """A definition with at least one child."""
        random = self._random
        action = random.choice([each for each, depth in self._depth.items() if depth < DEPTH_MAX - 1])
        first = _offer(self.plans[action])
        before = random.choices(_BEFORE, [3, 1, 1], k=random.choice([0, 1, 1, 2]))
        behind = self._behind(random.choice([0, 0, 1, 2]), pivot := first == "PIVOT" or random.random() < 0.3)
        slots = [(kind, self._perhaps(kind)) for kind in before]
        later = [(kind, self._perhaps(kind)) for kind in behind]
        the_pivot = [("PIVOT", self._perhaps("PIVOT"))] * pivot
        if first == "PIVOT":
            the_pivot = [("PIVOT", action)]
        elif first == "RETRIABLE":
            later.insert(0, ("RETRIABLE", action))
        else:
            slots.insert(random.randint(0, len(slots)), (first, action))
        depth = 1 + max(self._depth[each] for _, each in [*slots, *the_pivot, *later] if each)
        self._define(name, [*slots, *the_pivot, *later], len(slots), pivot, depth)

    def _behind(self, count: int, pivot: bool) -> list[str]:
        kinds = self._random.choices(["RETRIABLE", "READ_ONLY"], [2, 1], k=count)
        if kinds and not pivot:
            kinds[0] = "RETRIABLE"  # a read there would be one that can be refused
        return kinds

    def _perhaps(self, kind: str) -> str:
        """A definition for the step to run, if there is one and chance wants it."""
        fitting = [
            name for name, plan in self.plans.items() if kind == _offer(plan) and self._depth[name] < DEPTH_MAX - 1
        ]
        return self._random.choice(fitting) if fitting and self._random.random() < 0.3 else ""

    def _define(self, name: str, slots: Sequence[tuple[str, str]], before: int, pivot: bool, depth: int) -> None:
        random = self._random
        graph = random.random() < 0.5
        names = [f"{'c' if action else 's'}{number}" for number, (_, action) in enumerate(slots)]
        steps = []
        for number, (kind, action) in enumerate(slots):
            after = self._after(names, number, before) if graph else []
            steps.append(self._step(names[number], kind, action, after, fixed_end=number >= before))
        order = COMPENSATION_ORDER_ONE_AT_A_TIME if random.random() < 0.3 else COMPENSATION_ORDER_UNSPECIFIED
        own = [each.name for each in steps if each.participant != BUILT_IN and not each.when]
        fields: dict[str, Anything] = {
            "name": name,
            "compensation_order": order,
            "hold_margin": to_duration(ns(random.choice([0, 5]))),
            "exclusive_keys": random.sample(list(KEYS)[:3], random.choice([0, 0, 1, 1, 2])),
            "output": random.choice(["", own[0]]) if own else "",
        }
        if timeout := random.choice([0, 0, 20, 60]):
            fields["timeout"] = to_duration(ns(timeout))
        made = definition(*steps, graph=graph, **fields)
        assert check_structure(made) == []
        self.plans[name] = Plan(made)
        self._depth[name] = depth

    def _after(self, names: Sequence[str], number: int, before: int) -> list[str]:
        """Before the first step that must go forward any order will do; it and what follows stand behind all those."""
        if number < before:
            return self._random.sample(names[:number], self._random.randint(0, number))
        if number == before:
            return list(names[:number])
        return [names[before], *(each for each in names[before + 1 : number] if self._random.random() < 0.5)]

    def _step(self, name: str, kind: str, action: str, after: Sequence[str], *, fixed_end: bool) -> StepDefinition:
        random = self._random
        fields: dict[str, Anything] = {
            "participant": random.choice(self._participants),
            "execute": self._policy(random.choice([None] * 9 + [3] if fixed_end else [None, None, 1, 2, 3])),
            "compensate": self._policy(random.choice([0] * 9 + [3])),
            "confirm": self._policy(0),
        }
        if action:
            fields |= {"participant": BUILT_IN, "action": action, "input": random.choice([SAME, SAME, SWAPPED])}
        if timeout := random.choice([0, 0, 5, 30]):
            fields["timeout"] = to_duration(ns(timeout))
        if random.random() < 0.15:
            fields["when"] = ONLY_A
        return step(name, kind, *after, **fields)

    def _policy(self, most: int | None) -> AttemptPolicy:
        random = self._random
        return attempts(most, timeout=random.choice([1, 3, 10]), backoff=random.choice([0.5, 2]), longest=4)


def _offer(plan: Plan) -> str:
    """As which kind a definition can be a step."""
    return StepKind.Name(plan.offered_as).removeprefix("STEP_KIND_")
