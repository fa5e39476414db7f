"""A fixed part of the crash matrix: every failpoint is killed, raised and delayed at, with every shape among them.

Of each saga the services' database says that every effect happened once, in order, and that what was compensated is
net zero (G1–G6, G8, G10). `python -m tests.crash` plays all of it.
"""

from pathlib import Path

import pytest

from coordinator.failpoints import Failpoint
from tests.crash import matrix
from tests.crash.pieces import bounded_pieces
from tests.crash.shapes import SHAPES
from tests.crash.stage import play

LINES = 3


@pytest.mark.long
@pytest.mark.e2e
async def test_every_failpoint_ends_well(tmp_path: Path) -> None:
    counts = await play(tmp_path, bounded_pieces(), LINES, lambda _: None)
    assert not counts.violations, "\n".join(counts.violations)
    assert counts.kills >= len(Failpoint)


def test_every_failpoint_is_in_the_matrix_once() -> None:
    crossed = [point for point, shapes in matrix.ordinary() if shapes]
    assert sorted(map(str, [*crossed, *matrix.SITUATIONS])) == sorted(map(str, Failpoint))


def test_every_shape_reaches_some_failpoint() -> None:
    reached = {shape.name for _, shapes in matrix.ordinary() for shape in shapes}
    assert reached == {shape.name for shape in SHAPES}
