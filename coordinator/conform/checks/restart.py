"""What survives a kill: what was answered stands, and what was under way happens once.

Each check is in two halves. Between them, at the `yield`, the participant is killed and started again: once for all
checks of all actions, so that a run does not wait for many starts.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from coordinator.conform import limits
from coordinator.conform.check import Check, Need
from coordinator.conform.trial import Trial


async def kill_completed(trial: Trial) -> AsyncIterator[None]:
    subject, first = await trial.executed()
    yield
    trial.require_same(first, await subject.executed(2))
    await trial.require_effects(subject, count=1)


async def kill_barred(trial: Trial) -> AsyncIterator[None]:
    subject = trial.subject()
    trial.require(await subject.compensated(), "compensated")
    yield
    trial.require_barred(await subject.executed())
    await trial.require_effects(subject, count=0)


async def kill_under_way(trial: Trial) -> AsyncIterator[None]:
    """Calls are sent evenly over the time that one of them takes, so that the kill meets each elsewhere on its way."""
    takes_s = await trial.takes_s()
    subjects = list(trial.inputs(limits.OVERLAPPING_CALLS))
    calls = []
    for subject in subjects:
        calls.append(asyncio.create_task(subject.execute()))
        await asyncio.sleep(takes_s / limits.OVERLAPPING_CALLS)
    yield
    before = await asyncio.gather(*calls)
    after = await asyncio.gather(*(subject.executed(2) for subject in subjects))
    for earlier, later in zip(before, after, strict=True):
        trial.require(later, "completed", expected="completed at a further attempt")
        if earlier.outcome == "completed":
            trial.require_same(earlier, later)
    await trial.require_effects(*subjects, count=1)


CHECKS: Final = (
    Check(
        "kill-completed",
        "Killed and started again, it still has the reply it gave: the same bytes, and one effect.",
        "G2; semantics.md, What a participant promises",
        (Need.INPUT, Need.START),
        over_kill=kill_completed,
    ),
    Check(
        "kill-barred",
        "Killed and started again, it still bars what was compensated before its Execute.",
        "G8; semantics.md, What a participant promises",
        (Need.INPUT, Need.COMPENSATE, Need.START),
        over_kill=kill_barred,
    ),
    Check(
        "kill-under-way",
        "Killed with calls under way and started again, each of them completes at a further attempt, with one effect.",
        "G2, G5",
        (Need.INPUT, Need.START),
        over_kill=kill_under_way,
    ),
)
