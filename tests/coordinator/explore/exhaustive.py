"""Explores every small definition, and counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool

from coordinator.core.definition import Plan
from coordinator.explore.explorer import Explorer
from coordinator.explore.story import tell
from coordinator.explore.world import Allowance, World
from saga.v1.definition_pb2 import SagaDefinition
from tests.coordinator.explore.definitions import definitions, told
from tests.support.long_runs import interrupts_held_back

STATES_MAX = 2_000_000


@dataclass(frozen=True)
class Bound:
    """How far definitions of one size are explored."""

    allowance: Allowance
    barriered: tuple[bool, ...] = (True, False)


@dataclass
class Counts:
    """What was explored."""

    definitions: int = 0
    states: int = 0
    transitions: int = 0

    def add(self, other: Counts) -> None:
        """Both together."""
        self.definitions += other.definitions
        self.states += other.states
        self.transitions += other.transitions

    def __str__(self) -> str:
        return f"{self.definitions:,} definitions, {self.states:,} states, {self.transitions:,} transitions"


def explore(definition: SagaDefinition, bound: Bound) -> Counts:
    """Explores one definition; AssertionError, with the path, where a guarantee is broken."""
    counts = Counts(definitions=1)
    plan = Plan(definition)
    for barriered in bound.barriered:
        found = Explorer(World(plan, barriered=barriered), bound.allowance, states_max=STATES_MAX).explore()
        counts.states += found.states
        counts.transitions += found.transitions
        assert found.complete
        if found.violation is not None:
            path = "\n  ".join(tell(move, plan) for move in found.path)
            raise AssertionError(f"{told(definition)}; barriered: {barriered}\n{found.violation}\n  {path}")
    return counts


def explore_each(size: int, bound: Bound, jobs: int = 1) -> Iterator[Counts]:
    """Explores the definitions of that many steps, and yields the counts of each when it is done."""
    found = definitions(size)
    if jobs == 1:
        yield from (explore(definition, bound) for definition in found)
        return
    with interrupts_held_back():
        pool = Pool(jobs)
    with pool:
        yield from pool.imap_unordered(partial(explore, bound=bound), found, chunksize=4)
