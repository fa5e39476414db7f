"""The other outcomes of Execute: refused, pending, and held until a time."""

import time
from typing import Final

from coordinator.conform.check import Check, Need
from coordinator.conform.trial import NotApplicable, Trial
from coordinator.core.inputs import Done


async def rejected(trial: Trial) -> None:
    for refusal in trial.examples.refused:
        subject = trial.subject(refusal.input)
        first = await subject.executed(2)
        trial.require(first, "rejected", reason=refusal.reason)
        if refusal.lifted_by:
            await trial.command(refusal.lifted_by, subject)
        for attempt in (1, 2):
            trial.require_same(first, await subject.execute(attempt))
        await trial.require_effects(subject, count=0)
        later = await subject.executed(3)
        if refusal.lifted_by:
            trial.require(later, "completed", expected="completed: a later attempt runs anew, and the cause is gone")
            await trial.require_effects(subject, count=1)
        else:
            trial.require(later, "rejected", "completed", expected="an answer: a later attempt runs anew")


async def rejected_compensated(trial: Trial) -> None:
    lasting = [refusal.input for refusal in trial.examples.refused if not refusal.lifted_by]
    if not lasting:
        raise NotApplicable("needs an input that stays refused: one without `lifted_by`")
    subject = trial.subject(lasting[0])
    trial.require(await subject.executed(), "rejected")
    answer = await subject.compensated()
    trial.require(answer, "compensated")
    if not (isinstance(answer.reply, Done) and answer.reply.noop):
        trial.fail("compensated with noop: a refused step has nothing to compensate", str(answer), answer.sent)
    trial.require_barred(await subject.executed(2))
    await trial.require_effects(subject, count=0)


async def pending(trial: Trial) -> None:
    for waiting in trial.examples.pending:
        subject = trial.subject(waiting.input)
        trial.require(await subject.execute(), "pending")
        trial.require(await subject.execute(), "pending", "completed")  # a poll carries the same attempt
        if waiting.completed_by:
            await trial.command(waiting.completed_by, subject)
        last = await subject.executed(within_s=waiting.completes_within_s)
        trial.require(last, "completed", expected=f"completed within {waiting.completes_within_s:g} s")
        trial.require_same(last, await subject.execute())
        await trial.require_effects(subject, count=1)


async def pending_compensated(trial: Trial) -> None:
    subject = trial.subject(trial.examples.pending[0].input)
    trial.require(await subject.execute(), "pending")
    trial.require(await subject.compensated(), "compensated")
    trial.require_barred(await subject.executed(2))
    await trial.require_effects(subject, count=0, stay=True)


async def hold_until(trial: Trial) -> None:
    _, answer = await trial.executed()
    held = answer.reply.hold_until_ns if isinstance(answer.reply, Done) else None
    if held is not None and held <= time.time_ns():
        trial.fail("a hold_until that is to come", "one that has passed", answer.sent)


_TABLE: Final = "semantics.md, What a participant promises"

CHECKS: Final = (
    Check(
        "rejected",
        "A refused input is rejected with its reason; attempts up to it get the same reply, a later one runs anew.",
        f"G5; {_TABLE}",
        (Need.REFUSED,),
        of_action=rejected,
    ),
    Check(
        "rejected-compensated",
        "Compensate of a refused step is a noop, and bars it.",
        f"G8; {_TABLE}",
        (Need.REFUSED, Need.COMPENSATE),
        of_action=rejected_compensated,
    ),
    Check(
        "pending",
        "What is pending is asked again with the same key until it is done, and has one effect.",
        f"participant.proto, Pending; {_TABLE}",
        (Need.PENDING,),
        of_action=pending,
    ),
    Check(
        "pending-compensated",
        "Compensate of a pending step ends it: no effect stands, and it is barred.",
        f"G8; {_TABLE}",
        (Need.PENDING, Need.COMPENSATE),
        of_action=pending_compensated,
    ),
    Check(
        "hold-until",
        "Where a hold says until when, that is a time to come.",
        "participant.proto, Completed.hold_until",
        (Need.INPUT, Need.CONFIRM),
        of_action=hold_until,
    ),
)
