"""Every future of every small saga keeps the guarantees: G3, G4, G6, G7, G8."""

from collections.abc import Callable

import pytest

from coordinator.core.definition import Plan
from coordinator.explore.explorer import Explorer
from coordinator.explore.moves import HEALTHY, Deed
from coordinator.explore.world import UNBOUNDED, Allowance, State, World
from tests.coordinator.explore.definitions import definition, definitions, graphs, shapes
from tests.coordinator.explore.exhaustive import Bound, Counts, explore_each


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "bound"),
    [
        (1, Bound(Allowance(crashes=1, cancels=1, inputs=1, failures=UNBOUNDED))),
        (2, Bound(Allowance(crashes=1, cancels=1, inputs=1, failures=1))),
        (3, Bound(Allowance(crashes=1, cancels=0, inputs=0, failures=1), barriered=(True,))),
    ],
    ids=["1 step", "2 steps", "3 steps"],
)
def test_every_path_of_every_small_definition_keeps_the_guarantees(size: int, bound: Bound) -> None:
    counts = Counts()
    for each in explore_each(size, bound):
        counts.add(each)
    print(f"{size} steps: {counts}")
    assert counts.definitions == sum(1 for _ in definitions(size))
    assert counts.states > 50 * counts.definitions, "an exploration that reaches next to nothing proves nothing"


def test_all_graphs_of_up_to_four_steps_are_there() -> None:
    """The number of partial orders of 1, 2, 3 and 4 unlabelled elements (OEIS A000112)."""
    of_reads = [{edges for kinds, edges in shapes(size) if set(kinds) == {"READ_ONLY"}} for size in (1, 2, 3, 4)]
    assert [len(found) for found in of_reads] == [1, 2, 5, 16]
    assert sum(1 for _ in graphs(3)) == 7  # a chain of three has no shortcut


def ignore(_number: int, _state: State) -> None:
    """What is reached is of no interest."""


def explorer(
    states_max: int = 1000,
    allowance: Allowance | None = None,
    visit: Callable[[int, State], None] = ignore,
) -> Explorer:
    plan = Plan(definition((("COMPENSATABLE",), frozenset()), one_at_a_time=False))
    return Explorer(World(plan), allowance or Allowance(), states_max=states_max, visit=visit)


def test_it_says_when_it_had_to_stop() -> None:
    found = explorer(states_max=20).explore()
    assert (found.complete, found.states, found.violation) == (False, 20, None)


def test_without_failures_there_is_one_path() -> None:
    walked = explorer(allowance=Allowance(crashes=0, cancels=0, inputs=0, failures=0))
    found = walked.explore()
    path = walked.path(found.states - 1)
    assert path[0].deed is Deed.START
    assert {move.deed for move in path} <= HEALTHY
    assert found.complete


def test_a_path_is_a_shortest_one() -> None:
    depth: dict[int, int] = {}

    def visit(number: int, _state: State) -> None:
        depth[number] = len(walked.path(number))

    walked = explorer(visit=visit)
    walked.explore()
    assert [depth[number] for number in sorted(depth)] == sorted(depth.values())
