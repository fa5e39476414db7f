"""A path in words that a reader of the definition understands: `charge: refused; reserve: compensated`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from coordinator.core.definition import Plan
from coordinator.explore.moves import Deed, Move
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE

_DONE: Final = {OPERATION_EXECUTE: "completed", OPERATION_COMPENSATE: "compensated", OPERATION_CONFIRM: "confirmed"}
_ANSWERS: Final = {
    Deed.REFUSE: "refused",
    Deed.ACCEPT: "pending",
    Deed.ABORT: "no answer that says what happened",
    Deed.ABORT_AFTER: "takes effect, and no answer says so",
    Deed.BREAK: "answered with nonsense",
    Deed.LOSE: "the connection is lost",
    Deed.SLOW: "no answer in time",
}
_DATA: Final = {"s": "skipped", "f": "its input fails on the saga's data"}
_OPERATIONS: Final = {OPERATION_COMPENSATE: "compensation ", OPERATION_CONFIRM: "confirmation "}


def tell(move: Move, plan: Plan) -> str:
    """One move in words."""
    parts = [_happening(move, plan)]
    parts += ["the coordinator stops before it acts on that, and comes back"] if move.stopping else []
    return "; ".join([*parts, *_data(move, plan)])


def _data(move: Move, plan: Plan) -> Iterator[str]:
    """What the saga's data turned out to be, where that changes its course."""
    for index, letter in zip(move.asked, move.told, strict=True):
        if letter in _DATA:
            yield f"{plan.steps[index].name}: {_DATA[letter]}"


def _happening(move: Move, plan: Plan) -> str:
    name = plan.steps[move.step].name if move.step >= 0 else ""
    match move.deed:
        case Deed.COMPLETE:
            return f"{name}: {_DONE[move.operation]}"
        case Deed.LAND:
            return f"{name}: takes effect, unheard so far"
        case deed if deed in _ANSWERS and name:
            return f"{name}: {_OPERATIONS.get(move.operation, '')}{_ANSWERS[deed]}"
        case _:
            return str(move.deed.value)


def tell_all(path: Iterable[Move], plan: Plan) -> Iterator[str]:
    """A path in words. That a saga starts and that time passes goes without saying."""
    for move in path:
        if move.deed in (Deed.START, Deed.TICK):
            yield from _data(move, plan)
        else:
            yield tell(move, plan)
