"""Confirm: a hold becomes final, once; what is no hold is not confirmed."""

from typing import Final

import grpc

from coordinator.conform.check import Check, Need
from coordinator.conform.trial import Trial


async def confirm(trial: Trial) -> None:
    subject, _ = await trial.executed()
    trial.require(await subject.confirmed(), "confirmed")
    await trial.require_effects(subject, count=1)


async def confirm_repeated(trial: Trial) -> None:
    subject, _ = await trial.executed()
    first = await subject.confirmed()
    trial.require(first, "confirmed")
    trial.require_same(first, await subject.confirm(2))
    await trial.require_effects(subject, count=1)


async def confirm_first(trial: Trial) -> None:
    subject, _ = await trial.executed()
    subject_without = trial.subject()
    subject_without.output = subject.output
    answer = await subject_without.confirm()
    if answer.outcome in ("confirmed", "pending"):
        trial.fail("a refusal: there is no hold", str(answer), answer.sent)
    if answer.outcome != "rejected":
        trial.warn(f"Confirm without Execute is best answered `rejected`, which calls an operator; came {answer}")
    await trial.require_effects(subject_without, count=0)


async def confirm_unserved(trial: Trial) -> None:
    subject, _ = await trial.executed()
    answer = await subject.confirm()
    if answer.outcome in ("confirmed", "pending"):
        trial.fail("a refusal: the action is not RESERVABLE", str(answer), answer.sent)
    if answer.code is not grpc.StatusCode.UNIMPLEMENTED:
        trial.warn(f"Confirm of an action that is not RESERVABLE is best answered UNIMPLEMENTED; came {answer}")
    await trial.require_effects(subject, count=1)


_NEEDS: Final = (Need.INPUT, Need.CONFIRM)
_TABLE: Final = "semantics.md, What a participant promises"

CHECKS: Final = (
    Check(
        "confirm",
        "Confirm after Execute is confirmed, and the effect stands.",
        "participant.proto, Confirm",
        _NEEDS,
        of_action=confirm,
    ),
    Check(
        "confirm-repeated",
        "A repeated Confirm gets the same reply, and the effect stands once.",
        f"G2; {_TABLE}",
        _NEEDS,
        of_action=confirm_repeated,
    ),
    Check(
        "confirm-first",
        "Confirm without Execute is refused, and has no effect.",
        "participant.proto, ConfirmResponse.rejected",
        _NEEDS,
        of_action=confirm_first,
    ),
    Check(
        "confirm-unserved",
        "Confirm of an action that is not RESERVABLE is refused; UNIMPLEMENTED is advised.",
        "participant.proto, Confirm: RESERVABLE actions only",
        (Need.INPUT, Need.NO_CONFIRM),
        of_action=confirm_unserved,
    ),
)
