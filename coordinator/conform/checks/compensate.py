"""Compensate: whatever Execute did or did not do, no effect stands afterwards, and none comes late (G8)."""

import asyncio
from typing import Final

from coordinator.conform import limits
from coordinator.conform.check import Check, Need
from coordinator.conform.trial import Trial, one_outcome
from coordinator.core.inputs import Done


async def compensate(trial: Trial) -> None:
    subject, _ = await trial.executed()
    answer = await subject.compensated()
    trial.require(answer, "compensated")
    if isinstance(answer.reply, Done) and answer.reply.noop:
        trial.warn("Compensate of a completed step says noop: there was nothing to compensate")
    await trial.require_effects(subject, count=0)
    trial.require_barred(await subject.executed(2))
    await trial.require_effects(subject, count=0)


async def compensate_repeated(trial: Trial) -> None:
    subject, _ = await trial.executed()
    first = await subject.compensated()
    trial.require(first, "compensated")
    trial.require_same(first, await subject.compensate(2))
    await trial.require_effects(subject, count=0)


async def compensate_overlapping(trial: Trial) -> None:
    subject, _ = await trial.executed()
    attempts = range(1, limits.OVERLAPPING_CALLS + 1)
    answers = await asyncio.gather(*(subject.compensate(attempt) for attempt in attempts))
    last = await subject.compensated(limits.OVERLAPPING_CALLS + 1)
    trial.require(last, "compensated")
    for answer in one_outcome(answers, "compensated"):
        trial.require_same(last, answer)
    await trial.require_effects(subject, count=0, stay=True)


async def compensate_without_output(trial: Trial) -> None:
    subject, _ = await trial.executed()
    subject.output = None  # the reply was lost: the coordinator does not know it
    trial.require(await subject.compensated(), "compensated")
    await trial.require_effects(subject, count=0)


async def compensate_first(trial: Trial) -> None:
    subject = trial.subject()
    first = await subject.compensated()
    trial.require(first, "compensated")
    if not (isinstance(first.reply, Done) and first.reply.noop):
        trial.fail("compensated with noop", str(first), first.sent)
    trial.require_barred(await subject.executed())
    trial.require_same(first, await subject.compensate(2))
    await trial.require_effects(subject, count=0)


async def compensate_overtakes(trial: Trial) -> None:
    subjects = list(trial.inputs(len(limits.OVERTAKEN_BY_S)))
    for subject, by_s in zip(subjects, limits.OVERTAKEN_BY_S, strict=True):
        executing = asyncio.create_task(subject.execute())
        await asyncio.sleep(by_s)
        answer, executed = await asyncio.gather(subject.compensated(), executing)
        trial.require(answer, "compensated")
        if not executed.is_retryable:
            trial.require(executed, "completed", "rejected", "pending")
        trial.require_barred(await subject.executed(2))
    await trial.require_effects(*subjects, count=0, stay=True)


_NEEDS: Final = (Need.INPUT, Need.COMPENSATE)
_TABLE: Final = "semantics.md, What a participant promises"

CHECKS: Final = (
    Check(
        "compensate",
        "Compensate after Execute leaves no effect, and a late Execute is rejected, reason BARRED.",
        f"G4, G8; {_TABLE}",
        _NEEDS,
        of_action=compensate,
    ),
    Check(
        "compensate-repeated",
        "A repeated Compensate gets the same reply, and compensates once.",
        f"G2; {_TABLE}",
        _NEEDS,
        of_action=compensate_repeated,
    ),
    Check(
        "compensate-overlapping",
        f"{limits.OVERLAPPING_CALLS} attempts of Compensate at once compensate once.",
        f"G2; {_TABLE}",
        _NEEDS,
        of_action=compensate_overlapping,
    ),
    Check(
        "compensate-without-output",
        "Compensate works where the output of Execute is not known to the coordinator.",
        "participant.proto, CompensateRequest.output; G4",
        _NEEDS,
        of_action=compensate_without_output,
    ),
    Check(
        "compensate-first",
        "Compensate without Execute is compensated with noop, and the late Execute is rejected, reason BARRED.",
        f"G8; {_TABLE}",
        _NEEDS,
        of_action=compensate_first,
    ),
    Check(
        "compensate-overtakes",
        "After an Execute and a Compensate that overlap no effect stands, and none comes late.",
        f"G8; {_TABLE}",
        _NEEDS,
        of_action=compensate_overtakes,
    ),
)
