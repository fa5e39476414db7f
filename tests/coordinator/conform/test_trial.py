"""What a check works with: steps that nobody else has, expectations, and what it leaves behind."""

from pathlib import Path

import pytest

from coordinator.conform.examples import ActionExamples, EffectsSource, Input
from coordinator.conform.trial import NotApplicable, Trial, Violation, can_be_compensated, kinds_of
from saga.v1.participant_pb2 import Action
from saga.v1.types_pb2 import (
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
)
from tests.coordinator.conform.test_caller import PLACE, trial_of
from tests.coordinator.conform.wrong_participant import serving

COUNT = "SELECT sum(count) FROM effects WHERE key = :saga_uid || '/' || :step"


def test_what_can_be_compensated_follows_from_the_kinds() -> None:
    assert kinds_of(Action()) == (STEP_KIND_COMPENSATABLE,)
    assert can_be_compensated(Action())
    assert can_be_compensated(Action(kinds=[STEP_KIND_PIVOT, STEP_KIND_RESERVABLE]))
    assert not can_be_compensated(Action(kinds=[STEP_KIND_PIVOT, STEP_KIND_RETRIABLE, STEP_KIND_READ_ONLY]))


async def test_what_a_check_leaves_is_compensated(tmp_path: Path) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await counting(target, tmp_path)
        stands, _ = await trial.executed()
        ended, _ = await trial.executed()
        await ended.compensated()
        await trial.require_effects(stands, count=1)
        with pytest.raises(Violation, match="expected 0 effects of this step, came 1 effect of this step"):
            await trial.require_effects(stands, count=0)
        sent = len(trial.log)
        await trial.clean_up()
        assert len(trial.log) == sent + 1
        await trial.require_effects(stands, ended, count=0)
        await trial.caller.close()


async def test_steps_take_the_inputs_in_turn_and_another_input_is_another(tmp_path: Path) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await trial_of(target, "ok")
        first, second = trial.inputs(2)
        assert first.uid != second.uid
        assert first.message != second.message
        assert trial.other_input(first).message != first.message
        alone = ActionExamples(PLACE, [Input({"account_id": "ok"}, PLACE)])
        trial = Trial(trial.caller, trial.types, trial.action, alone, None)  # type: ignore[arg-type]  # not reached
        with pytest.raises(NotApplicable, match="needs two different inputs"):
            trial.other_input(trial.subject())
        await trial.caller.close()


async def test_without_a_way_to_count_nothing_is_claimed(tmp_path: Path) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await trial_of(target, "ok")
        await trial.require_effects(trial.subject(), count=7)
        assert trial.is_unobserved
        await trial.caller.close()


async def counting(target: str, directory: Path) -> Trial:
    trial = await trial_of(target, "ok")
    source = EffectsSource(PLACE, sqlite=str(directory / "wrong.db"), query=COUNT)
    trial.examples = ActionExamples(PLACE, trial.examples.inputs, effects=source)
    return trial
