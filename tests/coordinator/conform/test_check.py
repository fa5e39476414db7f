"""What a check needs, and what is said where that is missing."""

import pytest

from coordinator.conform.check import Check, Need
from coordinator.conform.examples import ActionExamples, Input, Place, Refusal, Waiting
from coordinator.conform.trial import Trial
from saga.v1.participant_pb2 import Action
from saga.v1.types_pb2 import STEP_KIND_PIVOT, STEP_KIND_RESERVABLE

PLACE = Place("", 1, 1, "")
INPUT = Input({}, PLACE)
NOTHING = ActionExamples(PLACE)
EVERYTHING = ActionExamples(PLACE, [INPUT], [Refusal(INPUT)], [Waiting(INPUT)])
PIVOT, HOLD = Action(kinds=[STEP_KIND_PIVOT]), Action(kinds=[STEP_KIND_RESERVABLE])


@pytest.mark.parametrize(
    ("need", "action", "examples", "can_kill"),
    [
        (Need.INPUT, HOLD, NOTHING, True),
        (Need.REFUSED, HOLD, NOTHING, True),
        (Need.PENDING, HOLD, NOTHING, True),
        (Need.COMPENSATE, PIVOT, EVERYTHING, True),
        (Need.CONFIRM, PIVOT, EVERYTHING, True),
        (Need.NO_CONFIRM, HOLD, EVERYTHING, True),
        (Need.START, HOLD, EVERYTHING, False),
    ],
)
def test_what_is_missing_is_said(need: Need, action: Action, examples: ActionExamples, can_kill: bool) -> None:
    check = Check("id", "A sentence.", "G0", (need,))
    lacking = Trial(None, None, action, examples, None)  # type: ignore[arg-type]  # nothing is called
    assert check.lacks(lacking, can_kill=can_kill) == need.value
    complete = Trial(None, None, PIVOT if need is Need.NO_CONFIRM else HOLD, EVERYTHING, None)  # type: ignore[arg-type]  # nothing is called
    assert check.lacks(complete, can_kill=True) == ""
