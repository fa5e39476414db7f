"""Every small definition there is: each graph, with each kind at each step, as far as the step-kind law allows.

A graph stands for all that differ by the steps' names only.
All durations are one second, so that few instants differ; budgets are two attempts, where there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, permutations, product
from typing import TypeAlias

from coordinator.core.definition import check_structure
from saga.v1.definition_pb2 import AttemptPolicy, SagaDefinition, StepDefinition
from tests.coordinator.core.sagas import attempts, define, step

KINDS = ("COMPENSATABLE", "RESERVABLE", "PIVOT", "RETRIABLE", "READ_ONLY")
NAMES = "abcd"

Edges: TypeAlias = frozenset[tuple[int, int]]
Shape: TypeAlias = tuple[tuple[str, ...], Edges]


def graphs(size: int) -> Iterator[Edges]:
    """The edges of every transitively reduced acyclic graph, each in one of its topological orders."""
    pairs = list(combinations(range(size), 2))
    for chosen in product((False, True), repeat=len(pairs)):
        edges = frozenset(pair for pair, taken in zip(pairs, chosen, strict=True) if taken)
        if not any(_by_a_detour(edges, *edge) for edge in edges):
            yield edges


def _by_a_detour(edges: Edges, origin: int, target: int) -> bool:
    """Whether the target is also reached through another step."""
    return any(
        (middle, target) in edges or _by_a_detour(edges, middle, target)
        for start, middle in edges
        if start == origin and middle != target
    )


def _name(kinds: tuple[str, ...], edges: Edges) -> Shape:
    """The one of all shapes that differ by the order of the steps that comes first."""
    shapes = []
    for order in permutations(range(len(kinds))):
        moved = tuple(kinds[index] for index in order)
        place = {index: position for position, index in enumerate(order)}
        shapes.append((moved, frozenset((place[a], place[b]) for a, b in edges)))
    return min(shapes, key=lambda shape: (shape[0], sorted(shape[1])))


@cache
def shapes(size: int) -> tuple[Shape, ...]:
    """Every graph of that many steps with kinds that the law of the kinds allows."""
    found = {_name(kinds, edges) for edges in graphs(size) for kinds in product(KINDS, repeat=size)}
    ordered = sorted(found, key=lambda shape: (shape[0], sorted(shape[1])))
    return tuple(shape for shape in ordered if not check_structure(definition(shape, one_at_a_time=False)))


def definitions(size: int) -> Iterator[SagaDefinition]:
    """Every shape, with both orders of compensation where they can differ."""
    for shape in shapes(size):
        yield definition(shape, one_at_a_time=False)
        if sum(kind in ("COMPENSATABLE", "RESERVABLE") for kind in shape[0]) > 1:
            yield definition(shape, one_at_a_time=True)


def definition(shape: Shape, *, one_at_a_time: bool) -> SagaDefinition:
    """The definition of a shape."""
    kinds, edges = shape
    steps = [a_step(index, kind, edges) for index, kind in enumerate(kinds)]
    return define(*steps, graph=True, one_at_a_time=one_at_a_time)


def a_step(index: int, kind: str, edges: Edges) -> StepDefinition:
    after = [NAMES[before] for before, target in sorted(edges) if target == index]
    execute = policy(None if kind in ("PIVOT", "RETRIABLE") else 2)
    return step(NAMES[index], kind, *after, execute=execute, compensate=policy(2), confirm=policy(None))


def policy(most: int | None) -> AttemptPolicy:
    """One second each: the timeout, and the backoff, which is half of what it is set to where nothing is drawn."""
    return attempts(most, timeout=1, backoff=2, longest=2)


def told(definition: SagaDefinition) -> str:
    """In one line: `a COMPENSATABLE, b PIVOT after a, one at a time`."""
    steps = [
        f"{one.name} {KINDS_BY_NUMBER[one.kind]}" + (f" after {' '.join(one.after)}" if one.after else "")
        for one in definition.steps
    ]
    return ", ".join([*steps, *(["one at a time"] if definition.compensation_order else [])])


KINDS_BY_NUMBER = {a_step(0, kind, frozenset()).kind: kind for kind in KINDS}
