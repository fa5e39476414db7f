"""What a round was made of, counted, and put into words. Rounds add up."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString

from tests.chaos.ledger import Problem, Wrong

PROBLEMS_SHOWN_MAX: Final = 20
_WIDTH: Final = 12


@dataclass(slots=True)
class Report:
    """Counts by what was counted, and what was wrong."""

    sagas: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
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
        yield _line("kill -9", self.kills.total(), self.kills)
        yield _line("SIGSTOP", self.stops.total(), self.stops)
        yield _line("link faults", self.faults.total(), self.faults)
        yield _line("connections", self.connections["made"], self.connections)
        yield _line("calls", self.calls["made"], self.calls)
        yield _line("attempts", self.attempts["made"], self.attempts)
        yield _line("suppressed", self.suppressed.total(), self.suppressed)
        yield _line("reads", self.reads.total(), self.reads)
        for wrong in Wrong:
            yield _line(wrong, self.count(wrong), Counter())
        for problem in self.problems[:PROBLEMS_SHOWN_MAX]:
            yield f"{problem.wrong.upper()}: {problem.transfer_id or 'all'}: {problem.text}"


def evidence(title: str, rows: Iterable[object]) -> Iterator[str]:
    """Yield rows below a title, each in a line."""
    yield f"  {title}:"
    for row in rows:
        text = MessageToString(row, as_one_line=True) if isinstance(row, Message) else str(row)
        yield "    " + " ".join(text.split())


def _line(name: str, total: int, counts: Counter[str]) -> str:
    parts = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()) if count)
    return f"{name:{_WIDTH}} {total:>7}  {parts}".rstrip()
