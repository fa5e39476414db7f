"""Which nodes of a graph have nothing left in front of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.frontier import Frontier

# start → left, right → end
AHEAD = [[], [0], [0], [1, 2]]
BEHIND = [[1, 2], [3], [3], []]


def test_a_diamond_is_walked_from_its_start() -> None:
    frontier = Frontier(AHEAD, BEHIND)
    assert (frontier.ready, frontier.unresolved) == ({0}, 4)
    assert frontier.resolve(0) == [1, 2]
    assert frontier.resolve(2) == []
    assert frontier.ready == {1}
    assert frontier.resolve(1) == [3]
    assert frontier.resolve(3) == []
    assert (frontier.ready, frontier.unresolved) == (set(), 0)


def test_the_way_back_is_the_same_walk_with_the_arrows_turned() -> None:
    frontier = Frontier(BEHIND, AHEAD)
    assert frontier.ready == {3}
    assert frontier.resolve(3) == [1, 2]


@pytest.mark.parametrize("node", [1, 3])
def test_a_node_that_is_not_ready_cannot_be_resolved_and_changes_nothing(node: int) -> None:
    frontier = Frontier(AHEAD, BEHIND)
    with pytest.raises(KeyError):
        frontier.resolve(node)
    assert (frontier.ready, frontier.unresolved) == ({0}, 4)


def test_a_node_is_resolved_once() -> None:
    frontier = Frontier(AHEAD, BEHIND)
    frontier.resolve(0)
    with pytest.raises(KeyError):
        frontier.resolve(0)
    assert frontier.unresolved == 3


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 8))
    return [sorted(draw(st.sets(st.sampled_from(range(node))))) if node else [] for node in range(size)]


@given(graphs(), st.randoms(use_true_random=False))
def test_in_any_order_a_node_is_ready_exactly_when_all_before_it_are_resolved(
    ahead: list[list[int]], random: object
) -> None:
    behind: list[list[int]] = [[] for _ in ahead]
    for node, before in enumerate(ahead):
        for other in before:
            behind[other].append(node)
    frontier = Frontier(ahead, behind)
    resolved: set[int] = set()
    while frontier.unresolved:
        due = {node for node, before in enumerate(ahead) if node not in resolved and resolved >= set(before)}
        assert frontier.ready == due
        node = random.choice(sorted(due))  # type: ignore[attr-defined]  # Hypothesis's random.Random
        freed = frontier.resolve(node)
        resolved.add(node)
        assert set(freed) == frontier.ready - due
    assert resolved == set(range(len(ahead)))
