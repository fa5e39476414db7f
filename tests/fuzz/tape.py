"""Choices for the fuzz, drawn by Hypothesis as one tape of bytes, and how many tapes are drawn.

An option that stands first is the least harmful, and a tape that is over chooses it for ever: so Hypothesis shrinks
towards a valid request with one thing wrong. A default run is the same each time; SAGA_PROPERTY_EXAMPLES=n draws n anew
for each test, from SAGA_FUZZ_SEED where that is set (see `python -m tests.fuzz`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.support.properties import EXAMPLES, drawing

T = TypeVar("T")

SEED = os.environ.get("SAGA_FUZZ_SEED", "")

TAPES = st.binary(min_size=192, max_size=192)


def profile(examples: int) -> Callable[[Any], Any]:
    """How a test draws: so many examples by default."""
    chosen = settings(
        drawing(examples),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),  # a request is as large as it is, and a call takes what it takes
    )

    def apply(test: Any) -> Any:
        return chosen(hypothesis.seed(int(SEED))(test) if EXAMPLES and SEED else test)

    return apply


class Tape:
    """One choice after the other."""

    def __init__(self, numbers: bytes) -> None:
        self._numbers = numbers
        self._next = 0

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        if limit <= 1 or self._next >= len(self._numbers):
            return 0
        width = (limit.bit_length() + 7) // 8
        taken = self._numbers[self._next : self._next + width]
        self._next += width
        return int.from_bytes(taken, "big") % limit

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def once_in(self, times: int) -> bool:
        """True about once in so many times; never when the tape is over."""
        return self.below(times) == times - 1

    def data(self, size: int) -> bytes:
        return bytes(self.below(256) for _ in range(size))
