"""Any saga, any failures, crashes at any point: what must hold, holds (G2, G3, G4, G6, G7, G8, G12).

Hypothesis draws a definition, participants and a tape of choices. While the tape lasts, participants fail, the
coordinator dies and clients cancel as it says; then everything heals, and the saga must come to its end. The run is the
same each time; SAGA_PROPERTY_EXAMPLES=20000 draws anew, for as long as one likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from hypothesis import event, given, note
from hypothesis import strategies as st

from coordinator.core.definition import check_structure
from coordinator.core.limits import SECOND_NS
from saga.v1.definition_pb2 import AttemptPolicy, SagaDefinition, StepDefinition
from saga.v1.types_pb2 import SagaState
from tests.coordinator.core.sagas import Answers, attempts, define, step
from tests.coordinator.core.simulation import CHOICES, World
from tests.coordinator.core.transcript import describe
from tests.support.properties import drawing

HEALED_ROUNDS_MAX = 500
TAPE_LENGTH = 120

T = TypeVar("T")


# --- What is drawn ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A definition and what its participants are like."""

    definition: SagaDefinition
    answers: Answers
    barriered: frozenset[str]
    holds_ns: dict[str, int]
    child: bool
    keys: tuple[str, ...]


def scene_of(seed: int) -> Scene:
    """A scene that follows from a number. Drawn so, scenes are many and cheap; what Hypothesis shrinks is the tape."""
    random = Random(seed)
    shape, graph = _shape(random)
    steps = [_step(random, name, kind, after) for name, kind, after in shape]
    definition = define(
        *steps,
        graph=graph,
        one_at_a_time=random.random() < 0.5,
        timeout=random.choice([None, None, 20, 60]),
        hold_margin=random.choice([0, 5]),
    )
    assert check_structure(definition) == []
    names = [name for name, _, _ in shape]
    held = {name: random.choice([8, 30, 90]) * SECOND_NS for name, kind, _ in shape if kind == "RESERVABLE"}
    return Scene(
        definition=definition,
        answers=Answers(
            skipped=_some(random, names, random.choice([0, 0, 0.2])),
            failing=_some(random, names, random.choice([0, 0, 0, 0.2])),
            output_failure=random.choice(["", "1:1: no such key"]),
        ),
        barriered=_some(random, names, random.choice([0, 0.5, 1])),
        holds_ns=held if random.random() < 0.5 else {},
        child=random.random() < 0.4,
        keys=("account:1",) if random.random() < 0.2 else (),
    )


def _shape(random: Random) -> tuple[list[tuple[str, str, list[str]]], bool]:
    """Name, kind and predecessors of each step, as the law of the kinds wants it; and whether it is a graph."""
    graph, pivot = random.random() < 0.5, random.random() < 0.5
    before = random.choices(["COMPENSATABLE", "RESERVABLE", "READ_ONLY"], [2, 1, 1], k=random.randint(0, 4))
    behind = random.choices(["RETRIABLE", "READ_ONLY"], [2, 1], k=random.randint(0, 2))
    if not pivot and behind:
        behind[0] = "RETRIABLE"  # a read there would be one that can be refused
    kinds = before + ["PIVOT"] * pivot + behind or ["COMPENSATABLE"]
    names = [f"s{index}" for index in range(len(kinds))]
    found = []
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if not graph:
            after = []
        elif index < len(before):
            after = random.sample(names[:index], random.randint(0, index))
        elif index == len(before):  # the pivot, or the first step that must go forward: behind all that can be refused
            after = names[:index]
        else:
            after = [names[len(before)], *_some(random, names[len(before) + 1 : index], 0.5)]
        found.append((name, kind, after))
    return found, graph


def _step(random: Random, name: str, kind: str, after: list[str]) -> StepDefinition:
    timeout = random.choice([None, None, 5, 30])
    execute, compensate, confirm = _policy(random), _policy(random), _policy(random)
    return step(name, kind, *after, execute=execute, compensate=compensate, confirm=confirm, timeout=timeout)


def _policy(random: Random) -> AttemptPolicy:
    most = random.choice([None, None, 1, 2, 3])
    return attempts(most, timeout=random.choice([1, 3, 10]), backoff=random.choice([0.5, 2]), longest=4)


def _some(random: Random, names: list[str], share: float) -> frozenset[str]:
    return frozenset(name for name in names if random.random() < share)


SCENES = st.integers(0, 2**64 - 1).map(scene_of)


class Tape:
    """Choices, one number each; the smallest is the least harmful, so that Hypothesis shrinks towards health."""

    def __init__(self, numbers: bytes) -> None:
        self._numbers = list(reversed(numbers))

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def pick(self, options: Sequence[T]) -> T:
        return options[self._numbers.pop() % len(options)] if self._numbers else options[0]


TAPES = st.binary(min_size=TAPE_LENGTH, max_size=TAPE_LENGTH)

# How often what happens: most of the time a participant answers.
DEEDS = ["answer"] * 16 + ["pass time"] * 6 + ["land"] * 8 + ["crash"] * 2 + ["cancel"] + ["parent"]
FATES = ["durable"] * 8 + ["lost", "stopping"]
# "done" is likely, so that sagas get far before they fail.
ANSWERS = ["done"] * 6 + ["refused", "pending", "connection lost"] * 2 + list(CHOICES)


def act(world: World, tape: Tape) -> None:
    """One thing happens, as the tape says."""
    deed = tape.pick(DEEDS)
    late = [name for name, participant in world.participants.items() if participant.late]
    if deed == "answer" and world.flights:
        world.answer(tape.pick(sorted(world.flights)), tape.pick(ANSWERS), tape.pick(FATES))
    elif deed == "land" and late:
        world.land(tape.pick(late))
    elif deed == "cancel":
        world.cancel()
    elif deed == "crash":
        world.crash()
    elif deed == "parent" and world.child:
        tape.pick([world.parent_confirms, world.parent_goes_back])()
    else:
        world.pass_time()


def heal(world: World) -> None:
    """From now on all goes well: what is in flight is done, and time passes."""
    for _ in range(HEALED_ROUNDS_MAX):
        if world.stands:
            return
        if world.flights:
            world.answer(min(world.flights), "done")
        else:
            world.pass_time()


def play(scene: Scene, numbers: bytes) -> World:
    """The whole life of a saga."""
    world = World(scene.definition, scene.answers, scene.barriered, scene.holds_ns, child=scene.child, keys=scene.keys)
    tape = Tape(numbers)
    try:
        world.look()
        live(world, tape)
        if world.judge.parent_decides and world.saga.ended and tape.pick([False, True]):
            world.parent_goes_back()
            live(world, tape)
    except BaseException:
        note(str(scene.definition))
        note("\n".join(describe(written) for written in world.journal))
        raise
    return world


def live(world: World, tape: Tape) -> None:
    """What the tape says, and then all goes well until the saga stands."""
    while tape and not world.stands:
        act(world, tape)
    heal(world)
    world.check_end()


# --- What must hold ---------------------------------------------------------------------------------------------------


@drawing(400)
@given(SCENES, TAPES)
def test_every_saga_comes_to_an_end_that_can_be_trusted(scene: Scene, numbers: bytes) -> None:
    """The judge and the participants complain by themselves; see `judge` and `World.check_end`."""
    world = play(scene, numbers)
    event(SagaState.Name(world.saga.state))


@drawing(100)
@given(SCENES)
def test_g3_without_failures_a_saga_completes_unless_its_own_data_or_holds_are_in_the_way(scene: Scene) -> None:
    world = play(scene, b"")
    trouble = scene.answers.failing or scene.holds_ns
    assert trouble or SagaState.Name(world.saga.state) == "SAGA_STATE_COMPLETED"
