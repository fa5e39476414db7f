"""What is played of the matrix: all of it, or a fixed part that reaches every failpoint.

This module must not start anything by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, groupby
from typing import Final

from coordinator.failpoints import Failpoint
from tests.crash import matrix
from tests.crash.line import Line
from tests.crash.matrix import Cell
from tests.crash.shapes import SHAPES, Shape
from tests.crash.stage import Piece

_DELAY: Final = "delay:20ms"
_RECOVERY: Final = tuple(point for point in matrix.SITUATIONS if point.label.startswith("recovery."))
_OVER_UNARY_CALLS: Final = (Failpoint.DISPATCH_BEFORE_CALL, Failpoint.DISPATCH_AFTER_REPLY)


def all_pieces(times_max: int, *, fast_lane: bool) -> Iterator[Piece]:
    """Every failpoint × every shape that reaches it × every action, each kill at every time that it is reached.

    `times_max`: but at that many times at most. `fast_lane`: the participant is called over Exchange, and in a few
    cells by unary calls; otherwise by unary calls alone.
    """
    reachable = dict(matrix.ordinary(fast_lane=fast_lane))
    yield partial(_census, reachable)
    for point in matrix.SITUATIONS:
        for action in ("raise", _DELAY):
            yield from (_cell(cell) for cell in matrix.in_situations(point, SHAPES, action))
    for _, family in groupby(reachable, lambda point: point.label.partition(".")[0]):
        crossed = [(point, shape) for point in family for shape in reachable[point]]
        for action in ("raise", _DELAY):
            yield from _survived(crossed, [action])
    yield _cell(matrix.RECOVERIES)
    if fast_lane:
        yield _cell(matrix.over_unary_calls(matrix.RECOVERIES))
        for point in _OVER_UNARY_CALLS:
            yield from (_cell(matrix.over_unary_calls(matrix.kill(point, shape))) for shape in SHAPES)
    for shape in SHAPES:
        yield from (_cell(cell) for cell in matrix.second_kills(shape))
        for point in matrix.SITUATIONS:
            yield from (_cell(cell) for cell in matrix.in_situations(point, [shape], "kill"))
    for point, shapes in reachable.items():
        for shape in shapes:
            yield partial(_sweep, point, shape, times_max)


def bounded_pieces() -> Iterator[Piece]:
    """Each failpoint killed at once, raised at once and delayed once, with every shape among them."""
    turn = cycle(SHAPES)
    for point in matrix.SITUATIONS:
        if point not in _RECOVERY:  # all of them in one cell, which is long and therefore begins first
            yield from (_cell(cell) for cell in matrix.in_situations(point, [next(turn)], "kill"))
    yield _cell(matrix.RECOVERIES)
    reachable = dict(matrix.ordinary())
    yield partial(_census, reachable)
    chosen = [(point, _next_of(turn, shapes)) for point, shapes in reachable.items()]
    for is_journal in (True, False):  # where it fails, it fails for all sagas of a group: they might miss their own
        some = [each for each in chosen if each[0].label.startswith("journal.") == is_journal]
        yield from _survived(some, ["raise", _DELAY])
    yield from (_cell(matrix.kill(*each)) for each in chosen)
    for point in _OVER_UNARY_CALLS:
        yield _cell(matrix.over_unary_calls(matrix.kill(point, next(turn))))


def _survived(chosen: Sequence[tuple[Failpoint, Shape]], actions: Sequence[str]) -> Iterator[Piece]:
    """All in one coordinator; but one whose stream breaks alone, since the others' calls would not go over it then."""
    cells = [(matrix.survived(*each, action), each[0]) for each in chosen for action in actions]
    together = [cell for cell, point in cells if not point.label.startswith("exchange.")]
    if together:
        yield _together(together)
    yield from (_cell(cell) for cell, _ in cells if cell not in together)


def _next_of(turn: Iterator[Shape], shapes: Sequence[Shape]) -> Shape:
    return next(shape for shape in turn if shape in shapes)


def _cell(cell: Cell) -> Piece:
    return lambda line: line.play(cell)


def _together(cells: Sequence[Cell]) -> Piece:
    return lambda line: line.play_together(cells)


async def _sweep(point: Failpoint, shape: Shape, times_max: int, line: Line) -> None:
    """Kill at the first time, the second, and so on, until the sagas reach the failpoint no more often than that."""
    await line.play(matrix.kill(point, shape))
    for nth in range(2, times_max + 1):
        if not await line.sweep(matrix.kill(point, shape, nth)):
            return


async def _census(reachable: Mapping[Failpoint, Sequence[Shape]], line: Line) -> None:
    """The lists of the matrix are right: each shape reaches the failpoints that it is crossed with, and no others."""
    await line.census({point: {shape.name for shape in shapes} for point, shapes in reachable.items()})
