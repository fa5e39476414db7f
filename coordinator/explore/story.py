"""A path in words that a reader of the definition understands: `charge: refused; reserve: compensated`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from coordinator.core.definition import Plan
from coordinator.explore.moves import Deed, Move
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE

RUN_MIN: Final = 4
"""Of so many steps or more of which the same is said, the first and the last are named."""

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
_STOPPING: Final = "the coordinator stops before it acts on that, and comes back"
_NO_STEP: Final = -1


class _Said(NamedTuple):
    """One thing that happens, and to which step."""

    step: int
    words: str


def tell(move: Move, plan: Plan) -> str:
    """One move in words."""
    return _joined(_said(move), plan)


def tell_all(path: Iterable[Move], plan: Plan) -> Iterator[str]:
    """A path in words, move by move. That a saga starts and that time passes goes without saying."""
    for move in path:
        if words := _joined(_worth_saying(move), plan):
            yield words


def tell_in_short(path: Iterable[Move], plan: Plan) -> str:
    """A path in one line, in which a run of steps that the same happens to takes no more room than one of them."""
    told: list[str] = []
    run: list[int] = []
    words = ""
    for said in (each for move in path for each in _worth_saying(move)):
        if said.words != words or said.step == _NO_STEP or said.step in run:
            told += _of_run(run, words, plan)
            run, words = [], said.words
        run.append(said.step)
    return "; ".join([*told, *_of_run(run, words, plan)])


def in_short(steps: Sequence[int], plan: Plan, separator: str = ", ") -> str:
    """The steps' names; of a long run the first and the last, and how many, where that does not follow from the two."""
    if len(steps) < RUN_MIN:
        return separator.join(plan.steps[index].name for index in steps)
    adjacent = abs(steps[-1] - steps[0]) == len(steps) - 1 and list(steps) in (sorted(steps), sorted(steps)[::-1])
    among = "" if adjacent else f" ({len(steps)} steps)"
    return f"{plan.steps[steps[0]].name} … {plan.steps[steps[-1]].name}{among}"


def _of_run(run: Sequence[int], words: str, plan: Plan) -> Iterator[str]:
    if len(run) >= RUN_MIN:
        yield f"{in_short(run, plan)}: {words}"
    else:
        yield from (_text(_Said(step, words), plan) for step in run)


def _joined(said: Iterable[_Said], plan: Plan) -> str:
    return "; ".join(_text(each, plan) for each in said)


def _text(said: _Said, plan: Plan) -> str:
    return said.words if said.step == _NO_STEP else f"{plan.steps[said.step].name}: {said.words}"


def _worth_saying(move: Move) -> Iterator[_Said]:
    return _data(move) if move.deed in (Deed.START, Deed.TICK) else _said(move)


def _said(move: Move) -> Iterator[_Said]:
    yield _happening(move)
    if move.stopping:
        yield _Said(_NO_STEP, _STOPPING)
    yield from _data(move)


def _data(move: Move) -> Iterator[_Said]:
    """What the saga's data turned out to be, where that changes its course."""
    for index, letter in zip(move.asked, move.told, strict=True):
        if letter in _DATA:
            yield _Said(index, _DATA[letter])


def _happening(move: Move) -> _Said:
    match move.deed:
        case Deed.COMPLETE:
            return _Said(move.step, _DONE[move.operation])
        case Deed.LAND:
            return _Said(move.step, "takes effect, unheard so far")
        case deed if deed in _ANSWERS and move.step != _NO_STEP:
            return _Said(move.step, f"{_OPERATIONS.get(move.operation, '')}{_ANSWERS[deed]}")
        case _:
            return _Said(_NO_STEP, str(move.deed.value))
