"""Any forest of sagas within sagas that share keys, any failures, crashes at any point (G1-G4, G6-G8, G12, rules 6, 9).

Hypothesis draws a scene and two tapes of choices: what participants do with each call, and what befalls the
coordinator. While the tapes last, participants fail, clients and operators meddle, the journal fails and the
coordinator dies; then everything heals, and every saga must come to an end that can be trusted. The run is the same each
time; SAGA_PROPERTY_EXAMPLES=5000 draws anew, for as long as one likes.
"""

from __future__ import annotations

import asyncio
import os

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from tests.coordinator.core.test_properties import Tape
from tests.coordinator.engine.forest import Forest
from tests.coordinator.engine.forest_scenes import NEWCOMER, Scene, scene_of
from tests.support.virtual_time import VirtualTimeLoop

EXAMPLES = int(os.environ.get("SAGA_PROPERTY_EXAMPLES", "0"))

PROFILE = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],  # a run is as long as its tapes
)
SEEDS = st.integers(0, 2**64 - 1)


def play(seed: int, answers: bytes, deeds: bytes) -> Forest:
    """The whole life of a forest."""

    async def life() -> Forest:
        forest = Forest(scene_of(seed), Tape(answers), Tape(deeds))
        try:
            await forest.play()
        except BaseException:
            note("\n".join(str(each) for each in scene_of(seed).definitions))
            note("\n".join(forest.court.story))
            raise
        return forest

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(life())


@PROFILE
@given(SEEDS, st.binary(min_size=150, max_size=150), st.binary(min_size=60, max_size=60))
def test_every_forest_comes_to_an_end_that_can_be_trusted(seed: int, answers: bytes, deeds: bytes) -> None:
    """The court and the participants complain by themselves; see `forest`."""
    play(seed, answers, deeds)


@settings(PROFILE, max_examples=30)
@given(SEEDS)
def test_g3_without_failures_every_forest_ends(seed: int) -> None:
    play(seed, b"", b"")
