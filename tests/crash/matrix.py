"""Which cells the crash matrix has: they follow from the declared failpoints, so that a new one is in it by itself.

A failpoint is crossed with every shape, unless it stands in one of two lists, each entry with its reason: `ONLY_BY` of
those that some shapes cannot reach, and `SITUATIONS` of those that take a situation of their own. A census run proves
both the lists and their complement. This module must not start anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from coordinator.failpoints import Failpoint
from tests.crash.shapes import SHAPES, Shape

_BY_NAME: Final = {shape.name: shape for shape in SHAPES}
_WITH_CHILDREN: Final = tuple(shape.name for shape in SHAPES if shape.children)

ONLY_BY: Final[Mapping[Failpoint, Sequence[str]]] = MappingProxyType(
    {
        # Only a pending step is polled; a step that is a saga is pending until that saga stands.
        Failpoint.POLL_BEFORE_CALL: ("pending", "pending_back", *_WITH_CHILDREN),
        Failpoint.POLL_AFTER_REPLY: ("pending", "pending_back", *_WITH_CHILDREN),
        # Nobody is told anything but a child that goes back, or is confirmed.
        Failpoint.ASK_BEFORE: ("child_back", "child_confirm"),
        Failpoint.ASK_AFTER: ("child_back", "child_confirm"),
        Failpoint.CHILD_BEFORE_BEGIN: _WITH_CHILDREN,
        Failpoint.CHILD_AFTER_BEGIN: _WITH_CHILDREN,
    }
)


@dataclass(frozen=True)
class Life:
    """One coordinator: the failpoints that it is armed with, `{saga}` being what narrows them to the cell's sagas.

    It dies of one of them, unless it `survives`. It is asked to stop once the one at index `stop_at` has acted.
    """

    armed: Sequence[str]
    survives: bool = False
    stop_at: int | None = None


@dataclass(frozen=True)
class Cell:
    """Sagas of these shapes, and the coordinators that they go through before one that nothing happens to.

    `fresh`: the definitions are new, under names of their own. `fast_lane`: the participant is called over Exchange,
    and else by unary calls.
    """

    name: str
    shapes: Sequence[Shape]
    lives: Sequence[Life]
    fresh: bool = False
    fast_lane: bool = True


def ordinary(*, fast_lane: bool = True) -> Iterator[tuple[Failpoint, Sequence[Shape]]]:
    """The failpoints that sagas reach by themselves, each with the shapes that do."""
    for point in Failpoint:
        if point not in SITUATIONS and (fast_lane or not point.label.startswith("exchange.")):
            yield point, [_BY_NAME[name] for name in ONLY_BY.get(point, tuple(_BY_NAME))]


def kill(point: Failpoint, shape: Shape, nth: int = 1) -> Cell:
    """Killed when the failpoint is reached for the `nth` time."""
    return Cell(f"{point.label} × {shape.name} × kill@{nth}", [shape], [Life([_narrowed(point, f"kill@{nth}")])])


def survived(point: Failpoint, shape: Shape, action: str) -> Cell:
    """Raised at, or delayed, when the failpoint is reached for the first time."""
    name = f"{point.label} × {shape.name} × {action}"
    return Cell(name, [shape], [Life([_narrowed(point, f"{action}@1")], survives=True)])


def over_unary_calls(cell: Cell) -> Cell:
    """The same, without the fast lane."""
    return replace(cell, name=f"{cell.name}, over unary calls", fast_lane=False)


def _narrowed(point: Failpoint, action: str) -> str:
    return f"{point.label}(saga={{saga}})={action}" if "saga" in point.knows else f"{point.label}={action}"


# --- Failpoints that take a situation ---

_IN_FLIGHT: Final = Life(["dispatch.after_reply(saga={saga})=kill@2"])
"""It leaves an open attempt, whose reply came and is not recorded."""
_HELD: Final = "dispatch.before_call(saga={saga})=delay:1000s@2"
"""It keeps a call in flight, and off the wire."""


def _after_a_failure(where: Failpoint) -> Callable[[str], Sequence[Life]]:
    return lambda action: [Life([_narrowed(where, "raise@1"), _narrowed(Failpoint.RELOAD_BEFORE_READ, action)])]


def _changing(point: Failpoint) -> Callable[[str], Sequence[Life]]:
    return lambda action: [Life([_narrowed(point, action)])]


def _recovering(point: Failpoint) -> Callable[[str], Sequence[Life]]:
    return lambda action: [_IN_FLIGHT, Life([_narrowed(point, action)])]


def _stopping(point: Failpoint) -> Callable[[str], Sequence[Life]]:
    return lambda action: [Life([_HELD, _narrowed(point, action)], stop_at=0)]


SITUATIONS: Final[Mapping[Failpoint, Sequence[Callable[[str], Sequence[Life]]]]] = MappingProxyType(
    {
        # A saga is read back only after an append that failed.
        Failpoint.RELOAD_BEFORE_READ: [
            _after_a_failure(Failpoint.APPEND_BEFORE),
            _after_a_failure(Failpoint.APPEND_AFTER),
        ],
        # Sagas change nothing in the journal but themselves; definitions that are registered do.
        Failpoint.JOURNAL_BEFORE_CHANGE: [_changing(Failpoint.JOURNAL_BEFORE_CHANGE)],
        Failpoint.JOURNAL_AFTER_CHANGE: [_changing(Failpoint.JOURNAL_AFTER_CHANGE)],
        # Recovery takes a crash first, so that a kill in it is the second.
        Failpoint.RECOVERY_BEFORE_KEYS: [_recovering(Failpoint.RECOVERY_BEFORE_KEYS)],
        Failpoint.RECOVERY_BEFORE_PAGE: [_recovering(Failpoint.RECOVERY_BEFORE_PAGE)],
        Failpoint.RECOVERY_BEFORE_SAGA: [_recovering(Failpoint.RECOVERY_BEFORE_SAGA)],
        Failpoint.RECOVERY_BEFORE_LOST: [_recovering(Failpoint.RECOVERY_BEFORE_LOST)],
        # A coordinator drains when it is told to stop.
        Failpoint.DRAIN_BEGIN: [_stopping(Failpoint.DRAIN_BEGIN)],
        Failpoint.DRAIN_END: [_stopping(Failpoint.DRAIN_END)],
    }
)
"""The coordinators that bring a failpoint about which no undisturbed saga reaches, for an action there."""


def in_situations(point: Failpoint, shapes: Sequence[Shape], action: str) -> Iterator[Cell]:
    """These shapes, together, in each situation of a failpoint."""
    for number, lives in enumerate(SITUATIONS[point], 1):
        name = f"{point.label}, situation {number} × {' + '.join(shape.name for shape in shapes)} × {action}"
        fresh = point in (Failpoint.JOURNAL_BEFORE_CHANGE, Failpoint.JOURNAL_AFTER_CHANGE)
        yield Cell(name, shapes, _as_it_ends(lives(f"{action}@1"), action), fresh)


def _as_it_ends(lives: Sequence[Life], action: str) -> Sequence[Life]:
    *before, last = lives
    return [*before, replace(last, survives=action != "kill" and last.stop_at is None)]


_SECOND_KILLS: Final = (
    "append.before(saga={saga} event=attempt_lost)=kill@1",
    "append.after(saga={saga} event=attempt_lost)=kill@1",
    "journal.before_commit(saga={saga})=kill@1",
    "journal.after_commit(saga={saga})=kill@1",
    "dispatch.before_call(saga={saga})=kill@1",
)


def second_kills(shape: Shape) -> Iterator[Cell]:
    """Killed, and again at further moments of the recovery."""
    for armed in _SECOND_KILLS:
        yield Cell(f"killed, and again at {armed} × {shape.name}", [shape], [_IN_FLIGHT, Life([armed])])


RECOVERIES: Final = Cell(
    "all shapes, killed once and then at every point of recovery, half way through the sagas",
    SHAPES,
    [
        Life(["dispatch.after_reply(saga={saga})=kill@12"]),
        Life(["recovery.before_keys=kill@1"]),
        Life(["recovery.before_page=kill@1"]),
        Life(["recovery.before_saga(saga={saga})=kill@4"]),
        Life(["recovery.before_lost(saga={saga})=kill@4"]),
        Life(["append.before(saga={saga} event=attempt_lost)=kill@2"]),
        Life(["append.after(saga={saga} event=attempt_lost)=kill@2"]),
    ],
)
"""One crash after the other, with no coordinator in between that lives to see a saga end."""
