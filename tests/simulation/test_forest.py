"""Any forest of sagas within sagas that share keys, any failures, crashes at any point (G1-G4, G6-G8, G12, rules 6, 9).

Hypothesis draws a scene and two tapes of choices: what participants do with each call, and what befalls the
coordinator. While the tapes last, participants fail, clients and operators meddle, the journal fails and the
coordinator dies; then everything heals, and every saga must come to an end that can be trusted. The run is the same
each time; SAGA_PROPERTY_EXAMPLES=5000 draws anew, for as long as one likes.
"""

from __future__ import annotations

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from coordinator.core.definition import BUILT_IN
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, PauseRequested, ResumeRequested
from coordinator.core.keys import Blocked
from tests.coordinator.engine.bench import COMPENSATE, EXECUTE, REFUSED, bench, done, step
from tests.simulation.scenes import forest_of
from tests.simulation.seeds import play
from tests.support.properties import drawing
from tests.support.virtual_time import settled

SEEDS = st.integers(0, 2**64 - 1)


def everything_holds(seed: int, answers: bytes, deeds: bytes) -> None:
    """The whole life of a forest."""
    scene = forest_of(seed)
    run = play(scene, answers, deeds)
    if run.complaint:
        note("\n\n".join(f"{each.name}:\n{each}" for each in scene.definitions))
        note(run.transcript)
    assert run.complaint == ""


@pytest.mark.long
@drawing(60)
@given(SEEDS, st.binary(min_size=150, max_size=150), st.binary(min_size=60, max_size=60))
def test_every_forest_comes_to_an_end_that_can_be_trusted(seed: int, answers: bytes, deeds: bytes) -> None:
    """The court complains by itself; see `court`."""
    everything_holds(seed, answers, deeds)


@drawing(20)
@given(SEEDS)
def test_g3_without_failures_every_forest_ends(seed: int) -> None:
    everything_holds(seed, b"", b"")


# --- What it found, made small ----------------------------------------------------------------------------------------


async def test_a_saga_that_failed_while_it_was_paused_can_be_resumed() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.script("b", EXECUTE, REFUSED)
        b.participants.hold("a", COMPENSATE)
        await b.start()
        await settled()
        await b.engine.steer("s", PauseRequested("a look first"))
        b.participants.answer("a", REFUSED, COMPENSATE)
        assert await b.ended() == "FAILED"
        await b.engine.steer("s", ResumeRequested("looked"))
        assert not (await b.look()).paused


async def test_resuming_a_saga_that_ended_while_it_was_paused_is_forbidden() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        await b.engine.steer("s", PauseRequested("a look first"))
        b.participants.answer("a", done())
        assert await b.ended() == "COMPLETED"
        with pytest.raises(Forbidden):
            await b.engine.steer("s", ResumeRequested("looked"))


async def test_rule_6_a_child_that_ended_before_its_turn_came_holds_no_key_after_a_restart() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", exclusive_keys=["input.text"])
        children = [step(name, participant=BUILT_IN, action="ship") for name in ("left", "right")]
        await b.register(*children, graph=True)
        b.participants.hold("send")
        await b.start("other", "ada", definition="ship")
        await b.start("root", "ada")
        await settled()
        await b.engine.steer("root", PauseRequested("a look first"))
        await b.engine.cancel("root/right", CancelRequested("too dear"))
        assert b.engine.blocked("root/left") == [Blocked("ada", "other")]
        again = await b.crash()
        try:
            assert again.engine.blocked("root/left") == [Blocked("ada", "other")]
        finally:
            await again.engine.close()
