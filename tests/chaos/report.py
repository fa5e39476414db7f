"""What a round was made of, counted, and put into words. Rounds add up."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from tests.chaos.ledger import Problem, Wrong

PROBLEMS_SHOWN_MAX: Final = 20
_WIDTH: Final = 12


@dataclass(slots=True)
class Report:
    """Counts by what was counted, and what was wrong."""

    sagas: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    connections: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def __iadd__(self, other: Self) -> Self:
        for name in self.__slots__:
            if name != "problems":
                getattr(self, name).update(getattr(other, name))
        self.problems += other.problems
        return self

    def count(self, wrong: Wrong) -> int:
        """How many transfers, or other things, were wrong in that way."""
        return len({(problem.transfer_id or problem.text) for problem in self.problems if problem.wrong is wrong})

    def lines(self) -> Iterator[str]:
        """Yield the report, a line at a time."""
        yield _line("sagas", self.sagas.total(), self.sagas)
        yield _line("clients", self.clients["starts acknowledged"], self.clients)
        yield _line("faults", self.faults.total(), self.faults)
        yield _line("connections", self.connections["connections"], self.connections)
        yield _line("calls", self.calls["calls"], self.calls)
        yield _line("attempts", self.attempts["attempts"], self.attempts)
        yield _line("suppressed", self.suppressed.total(), self.suppressed)
        yield _line("reads", self.reads.total(), self.reads)
        for wrong in Wrong:
            yield _line(wrong, self.count(wrong), Counter())
        for problem in self.problems[:PROBLEMS_SHOWN_MAX]:
            yield f"{problem.wrong.upper()}: {problem.transfer_id or 'all'}: {problem.text}"


def evidence(title: str, rows: Sequence[object]) -> Iterator[str]:
    """Yield rows below a title, indented."""
    yield f"  {title}:"
    yield from (f"    {str(row).strip()}" for row in rows)


def _line(name: str, total: int, counts: Counter[str]) -> str:
    parts = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()) if count)
    return f"{name:{_WIDTH}} {total:>7}  {parts}".rstrip()
