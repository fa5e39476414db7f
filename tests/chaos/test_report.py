"""What a round came to, in words."""

from collections import Counter

from tests.chaos.ledger import Problem, Wrong
from tests.chaos.report import Report


def test_rounds_add_up() -> None:
    total = Report(sagas=Counter(COMPLETED=2))
    total += Report(sagas=Counter(COMPLETED=3, COMPENSATED=1), problems=[Problem(Wrong.LOST, "t", "it is gone")])
    assert total.sagas == {"COMPLETED": 5, "COMPENSATED": 1}
    lines = list(total.lines())
    assert "sagas              6  COMPENSATED 1, COMPLETED 5" in lines
    assert "lost               1" in lines
    assert "doubled            0" in lines
    assert lines[-1] == "LOST: t: it is gone"


def test_several_problems_of_one_transfer_are_one_that_is_lost() -> None:
    problems = [
        Problem(Wrong.LOST, "t", "no credit"),
        Problem(Wrong.LOST, "t", "no saga"),
        Problem(Wrong.LOST, "u", ""),
    ]
    assert Report(problems=problems).count(Wrong.LOST) == 2
