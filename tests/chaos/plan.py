"""What goes wrong, when, and for how long: drawn from a seed before anything runs.

Each target has a line of faults of its own, one after the other; the lines overlap, so that several things fail at
once. Pure: this module must not touch what it plans for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, TypeAlias


class ProcessFault(StrEnum):
    """What befalls a process."""

    KILL = "kill -9"
    KILL_TWICE = "kill -9, and again as it starts"
    STOP = "SIGSTOP"


class LinkFault(StrEnum):
    """What befalls the connections of a link."""

    CUT = "cut"
    """All are reset once; new ones are fine."""
    TEAR = "torn"
    """Each is reset in the middle of what it carries next."""
    REFUSE = "refused"
    """All are reset, and new ones as soon as they are made."""
    FREEZE = "frozen"
    """Nothing comes through; afterwards everything does."""
    SWALLOW = "half-open"
    """Both ends believe in a connection that carries nothing; afterwards it is reset."""
    DELAY_REQUESTS = "requests delayed"
    DELAY_REPLIES = "replies delayed"
    THROTTLE = "throttled"


Fault: TypeAlias = ProcessFault | LinkFault

_PROCESS_WEIGHTS: Final[Mapping[Fault, int]] = {ProcessFault.KILL: 5, ProcessFault.KILL_TWICE: 2, ProcessFault.STOP: 4}
_LINK_WEIGHTS: Final[Mapping[Fault, int]] = {
    LinkFault.CUT: 3,
    LinkFault.TEAR: 3,
    LinkFault.REFUSE: 2,
    LinkFault.FREEZE: 2,
    LinkFault.SWALLOW: 2,
    LinkFault.DELAY_REQUESTS: 2,
    LinkFault.DELAY_REPLIES: 2,
    LinkFault.THROTTLE: 1,
}
_LENGTH_S: Final = (0.05, 2.0)
_LONG_LENGTH_S: Final = (16.0, 20.0)  # both sides' keepalives end a connection that is dead for 15 s
_LONG_SHARE: Final = 0.04
_LONG_FROM_S: Final = 60.0  # a shorter round has no time for them
_GAP_S: Final = 6.0  # on average, from the end of one fault of a target to its next


@dataclass(frozen=True, slots=True)
class Act:
    """One fault of one target: from `at_s` after the round's begin, for so long."""

    at_s: float
    target: str
    fault: Fault
    for_s: float

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s


def acts(chance: Random, processes: Sequence[str], links: Sequence[str], seconds: float) -> list[list[Act]]:
    """Return for each target its faults in a round of this length, in order; all are over when the round is."""
    lines = [list(_line(chance, process, _PROCESS_WEIGHTS, seconds)) for process in processes]
    return lines + [list(_line(chance, link, _LINK_WEIGHTS, seconds)) for link in links]


def _line(chance: Random, target: str, weights: Mapping[Fault, int], seconds: float) -> Iterator[Act]:
    at_s = chance.uniform(0, _GAP_S)
    while True:
        [fault] = chance.choices(list(weights), weights=list(weights.values()))
        act = Act(at_s, target, fault, _length_s(chance, seconds))
        if act.until_s > seconds:
            return
        yield act
        at_s = act.until_s + chance.expovariate(1 / _GAP_S)


def _length_s(chance: Random, seconds: float) -> float:
    long = chance.random() < _LONG_SHARE and seconds >= _LONG_FROM_S
    return chance.uniform(*(_LONG_LENGTH_S if long else _LENGTH_S))
