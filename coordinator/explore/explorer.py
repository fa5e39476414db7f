"""The walk over all reachable states, breadth first, so that the first path found to anything is a shortest one.

A state is forgotten once its successors are known; what stays of it is its form, where it was reached from, and which
states lead to it without anything going wrong. That last graph answers the question of liveness: from every state an
end can be reached if all goes well from there on (G3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coordinator.explore.canonical import Form
from coordinator.explore.judge import Violation
from coordinator.explore.moves import HEALTHY, Move
from coordinator.explore.world import Allowance, State, World


@dataclass(slots=True)
class Exploration:
    """What was found."""

    states: int = 0
    transitions: int = 0
    complete: bool = True
    """Nothing was left out for want of room."""
    violation: Violation | None = None
    path: list[Move] = field(default_factory=list)
    """A shortest path to the violation."""


class Explorer:
    """One exploration. `visit` is called once with each state that is reached, and its number."""

    def __init__(
        self,
        world: World,
        allowance: Allowance,
        *,
        states_max: int,
        visit: Callable[[int, State], None] = lambda _number, _state: None,
    ) -> None:
        self._world = world
        self._allowance = allowance
        self._states_max = states_max
        self._visit = visit
        self._numbers: dict[Form, int] = {}
        self._reached_by: list[tuple[int, Move | None]] = []
        self._healthy_from: list[list[int]] = []
        self._ends: list[int] = []
        self._unexplored: deque[tuple[int, State]] = deque()
        self.found = Exploration()

    def explore(self) -> Exploration:
        """Visit every state that can be reached; stops at the first violation."""
        at = -1
        try:
            for move, state in self._world.beginnings(self._allowance):
                self._reach(-1, move, state)
            while self._unexplored:
                at, state = self._unexplored.popleft()
                for move, following in self._world.following(state):
                    self._reach(at, move, following)
        except Violation as violation:
            self.found.violation, self.found.path = violation, [*self.path(at), self._world.trying]
        else:
            self._check_that_all_can_end()
        self.found.states = len(self._numbers)
        return self.found

    def path(self, number: int) -> list[Move]:
        """A shortest path to the state of that number."""
        steps: list[Move] = []
        while number >= 0:
            number, move = self._reached_by[number]
            if move is not None:
                steps.append(move)
        return steps[::-1]

    def _reach(self, origin: int, move: Move, state: State) -> None:
        self.found.transitions += 1
        form = self._world.form(state)
        number = self._numbers.get(form)
        if number is None:
            if len(self._numbers) >= self._states_max:
                self.found.complete = False
                return
            number = self._numbers[form] = len(self._numbers)
            self._reached_by.append((origin, move))
            self._healthy_from.append([])
            self._visit(number, state)
            if state.stands:
                self._ends.append(number)
            else:
                self._unexplored.append((number, state))
        if origin >= 0 and move.deed in HEALTHY and "f" not in move.told:
            self._healthy_from[number].append(origin)

    def _check_that_all_can_end(self) -> None:
        """G3. Of an exploration that was cut short nothing can be said."""
        if not self.found.complete:
            return
        can_end = [False] * len(self._numbers)
        for number in self._back_from_the_ends():
            can_end[number] = True
        if False in can_end:
            number = can_end.index(False)
            self.found.violation = Violation("G3", "no end can be reached from here, though nothing more goes wrong")
            self.found.path = self.path(number)

    def _back_from_the_ends(self) -> Iterator[int]:
        seen = set(self._ends)
        reached = list(self._ends)
        for number in reached:  # grows while it is walked
            yield number
            for origin in self._healthy_from[number]:
                if origin not in seen:
                    seen.add(origin)
                    reached.append(origin)
