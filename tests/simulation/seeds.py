"""From one number to one run: scene, tapes, chance, everything.

A run depends on nothing else: no clock, no thread, no hash, no other run. This module must not print.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from tests.coordinator.core.test_properties import Tape
from tests.simulation.forest import Forest
from tests.simulation.scenes import Scene, scene_of
from tests.support.virtual_time import ClosedLoop

ANSWERS_MAX = 120
DEEDS_MAX = (0, 8, 16, 24, 40)


@dataclass(frozen=True)
class Run:
    """What came of it. `complaint` is empty where everything held."""

    complaint: str
    write: Callable[[], str]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def transcript(self) -> str:
        """All that happened, a line each. Written only where somebody wants to read it."""
        return self.write()


@contextmanager
def without_collections() -> Iterator[None]:
    """Runs are short: what they leave behind is collected afterwards, at once."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def run(seed: int) -> Run:
    """The run of that number."""
    random = Random(f"tapes {seed}")
    length = random.choice(DEEDS_MAX)
    return play(scene_of(seed), random.randbytes(ANSWERS_MAX if length else 20), random.randbytes(length), seed)


def play(scene: Scene, answers: bytes, deeds: bytes, seed: int = 0) -> Run:
    """One run of a scene: `answers` say how messages and handlers fare, `deeds` what befalls everybody."""

    async def life() -> Run:
        forest = Forest(scene, Tape(answers), Tape(deeds), seed)
        complaint = ""
        try:
            await forest.play()
        except Exception as error:  # whatever it is, it has to be looked at
            complaint = f"{type(error).__name__}: {error}"
        return Run(complaint, forest.court.transcript, forest.counts)

    with asyncio.Runner(loop_factory=ClosedLoop) as runner:
        return runner.run(life())
