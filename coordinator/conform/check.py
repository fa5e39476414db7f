"""What a check is: an id that stays, a sentence, where the contract demands it, what it needs, and how it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from coordinator.conform.caller import Lane
from coordinator.conform.trial import Trial, can_be_compensated, kinds_of
from saga.v1.participant_pb2 import DescribeResponse
from saga.v1.types_pb2 import STEP_KIND_RESERVABLE

Warn: TypeAlias = Callable[[str], None]
OfDescription: TypeAlias = Callable[[DescribeResponse, Warn], None]
OfAction: TypeAlias = Callable[[Trial], Awaitable[None]]
OverKill: TypeAlias = Callable[[Trial], AsyncIterator[None]]


class Need(Enum):
    """What a check cannot do without. The value is what is said of an action, or a file, that lacks it."""

    INPUT = "the file has no input for this action"
    REFUSED = "the file has no input that is `refused`"
    PENDING = "the file has no input that is `pending`"
    COMPENSATE = "the action is never compensated: it is neither COMPENSATABLE nor RESERVABLE"
    CONFIRM = "the action is not RESERVABLE"
    NO_CONFIRM = "the action is RESERVABLE"
    START = "needs a participant that `saga conform` starts: `start` in the file, and not --running"


@dataclass(frozen=True, slots=True)
class Check:
    """One check. Exactly one of `of_description`, `of_action` and `over_kill` is set.

    `over_kill` yields once: there the participant is killed and started again.
    """

    id: str
    sentence: str
    source: str
    needs: Sequence[Need] = ()
    lanes: Collection[Lane] = tuple(Lane)
    """Over which it is made, where it is about calls."""
    of_description: OfDescription | None = None
    of_action: OfAction | None = None
    over_kill: OverKill | None = None

    def lacks(self, trial: Trial, *, can_kill: bool) -> str:
        """Why the check cannot be made of an action; empty where it can."""
        return next((need.value for need in self.needs if not _is_met(need, trial, can_kill)), "")


def _is_met(need: Need, trial: Trial, can_kill: bool) -> bool:
    is_reservable = STEP_KIND_RESERVABLE in kinds_of(trial.action)
    return bool(
        {
            Need.INPUT: trial.examples.inputs,
            Need.REFUSED: trial.examples.refused,
            Need.PENDING: trial.examples.pending,
            Need.COMPENSATE: can_be_compensated(trial.action),
            Need.CONFIRM: is_reservable,
            Need.NO_CONFIRM: not is_reservable,
            Need.START: can_kill,
        }[need]
    )
