"""Execute: at least once on the wire, once in effect (G2), whatever is repeated, overlapped or lost."""

import asyncio
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any

from coordinator.conform import limits
from coordinator.conform.caller import Answer
from coordinator.conform.check import Check, Need
from coordinator.conform.subject import Subject
from coordinator.conform.trial import Trial, one_outcome
from saga.v1.types_pb2 import OPERATION_EXECUTE

EXECUTE: Final = "execute"
"""The check that all others of an action rest on."""


async def execute(trial: Trial) -> None:
    for given in trial.examples.inputs:
        subject, _ = await trial.executed(trial.subject(given))
        await trial.require_effects(subject, count=1)


async def execute_repeated(trial: Trial) -> None:
    subject, first = await trial.executed()
    for attempt in (1, 2):  # the same attempt again, as after a restart of the coordinator, and another one
        trial.require_same(first, await subject.execute(attempt))
    await trial.require_effects(subject, count=1)


async def execute_overlapping(trial: Trial) -> None:
    subject = trial.subject()
    attempts = range(1, limits.OVERLAPPING_CALLS + 1)
    answers = await asyncio.gather(*(subject.execute(attempt) for attempt in attempts))
    for answer in answers:
        if not answer.is_retryable:
            trial.require(answer, "completed", "pending", expected="completed, pending, or a status to come back with")
    last = await subject.executed(limits.OVERLAPPING_CALLS + 1)
    trial.require(last, "completed")
    for answer in one_outcome(answers, "completed"):
        trial.require_same(last, answer)
    await trial.require_effects(subject, count=1, stay=True)


async def execute_lost(trial: Trial) -> None:
    takes_s = await trial.takes_s()
    subjects = []
    for cut in (False, True):
        for share in limits.LOST_AFTER:
            subject = trial.subject()
            subjects.append(subject)
            async with trial.second_connection() as caller:
                await subject.lose(subject.request(OPERATION_EXECUTE), share * takes_s, cut=cut, caller=caller)
    await _completed_anew(trial, subjects)


async def execute_deadline(trial: Trial) -> None:
    takes_s = await trial.takes_s()
    subjects = list(trial.inputs(len(limits.SHORT_DEADLINES)))
    timed = zip(subjects, limits.SHORT_DEADLINES, strict=True)
    await asyncio.gather(*(subject.execute(timeout_s=share * takes_s) for subject, share in timed))
    await _completed_anew(trial, subjects)


async def _completed_anew(trial: Trial, subjects: list[Subject]) -> None:
    """That a further attempt of each completes, and each has one effect."""
    for answer in await asyncio.gather(*(subject.executed(2) for subject in subjects)):
        trial.require(answer, "completed", expected="completed at a further attempt")
    await trial.require_effects(*subjects, count=1, stay=True)


async def keys_in_parallel(trial: Trial) -> None:
    subjects = list(trial.inputs(limits.PARALLEL_KEYS))
    for answer in await asyncio.gather(*(subject.executed() for subject in subjects)):
        trial.require(answer, "completed")
    await trial.require_effects(*subjects, count=1)


async def key_reused(trial: Trial) -> None:
    subject = trial.subject()
    other = trial.other_input(subject)
    await trial.executed(subject)
    _require_key_reused(trial, await subject.execute(2, input=other.request(OPERATION_EXECUTE).call.input))
    await trial.require_effects(subject, count=1)


def _require_key_reused(trial: Trial, answer: Answer) -> None:
    if (answer.code, answer.reason) != (grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED"):
        trial.fail("status FAILED_PRECONDITION, reason KEY_REUSED", str(answer), answer.sent)


async def key_reused_compensate(trial: Trial) -> None:
    subject = trial.subject()
    other = trial.other_input(subject)
    await trial.executed(subject)
    _require_key_reused(trial, await subject.compensate(input=other.request(OPERATION_EXECUTE).call.input))
    await trial.require_effects(subject, count=1)


async def key_reordered(trial: Trial) -> None:
    subject, first = await trial.executed()
    packed = subject.request(OPERATION_EXECUTE).call.input
    fields = [type(subject.message)() for _ in subject.message.ListFields()]
    for (described, _), alone in zip(subject.message.ListFields(), fields, strict=True):
        alone.CopyFrom(subject.message)
        for other, _ in subject.message.ListFields():
            if other is not described:
                alone.ClearField(other.name)
    turned = Any(
        type_url=packed.type_url,
        value=b"".join(alone.SerializeToString(deterministic=True) for alone in reversed(fields)),
    )
    answer = await subject.execute(2, input=turned)
    if answer.body != first.body or answer.outcome != first.outcome:
        trial.warn(f"the same input with its fields in another order is taken for another request: {answer}")
    await trial.require_effects(subject, count=1)


_INPUT: Final = (Need.INPUT,)
_TABLE: Final = "semantics.md, What a participant promises"

CHECKS: Final = (
    Check(
        EXECUTE,
        "Each example input is completed, with an output of the described type and one effect.",
        "participant.proto, ExecuteResponse; G5",
        _INPUT,
        of_action=execute,
    ),
    Check(
        "execute-repeated",
        "The same key again gets the same reply, byte for byte, and there is one effect.",
        f"G2; {_TABLE}",
        _INPUT,
        of_action=execute_repeated,
    ),
    Check(
        "execute-overlapping",
        f"{limits.OVERLAPPING_CALLS} attempts at once have one effect and one reply.",
        f"G2; {_TABLE}",
        _INPUT,
        of_action=execute_overlapping,
    ),
    Check(
        "execute-lost",
        "An attempt whose reply is lost (cancelled, or its connection cut) and that is repeated has one effect.",
        "G2, G5",
        _INPUT,
        of_action=execute_lost,
    ),
    Check(
        "execute-deadline",
        "After an attempt with a very short deadline the next one is answered in time, and there is one effect.",
        "G2, G8; participant.proto, StepContext.deadline",
        _INPUT,
        of_action=execute_deadline,
    ),
    Check(
        "keys-in-parallel",
        f"{limits.PARALLEL_KEYS} different steps at once all complete, with one effect each.",
        "G2",
        _INPUT,
        of_action=keys_in_parallel,
    ),
    Check(
        "key-reused",
        "Execute with another input under the same key is refused, and changes nothing.",
        f"G13; {_TABLE}",
        _INPUT,
        of_action=key_reused,
    ),
    Check(
        "key-reused-compensate",
        "Compensate with another input than Execute's is refused, and changes nothing.",
        f"G13; {_TABLE}",
        (Need.INPUT, Need.COMPENSATE),
        of_action=key_reused_compensate,
    ),
    Check(
        "key-reordered",
        "The same input with its fields in another order is the same request; advised.",
        "participants.md, In another language",
        _INPUT,
        of_action=key_reordered,
    ),
)
