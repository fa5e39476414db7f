"""What only the fast lane can get wrong. What a call means, all other checks try over it as over unary calls."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc

from coordinator.conform import limits
from coordinator.conform.caller import Answer, Lane, answered
from coordinator.conform.check import Check, Need
from coordinator.conform.stream import Stream, StreamEnded
from coordinator.conform.subject import Subject
from coordinator.conform.trial import NotApplicable, Trial
from coordinator.core.limits import EXCHANGE_IN_FLIGHT_DEFAULT
from saga.v1.participant_pb2 import ExchangeCall
from saga.v1.types_pb2 import OPERATION_EXECUTE


async def batch(trial: Trial) -> None:
    subjects = list(trial.inputs(limits.PARALLEL_KEYS))
    async with _stream(trial) as stream:
        for answer in await _executed_together(trial, stream, subjects):
            if not answer.is_retryable:
                trial.require(answer, "completed", "pending")
    await _completed_anew(trial, subjects)


async def over_limit(trial: Trial) -> None:
    offered = trial.caller.offered
    most = (offered.max_in_flight if offered else 0) or EXCHANGE_IN_FLIGHT_DEFAULT
    if most > limits.IN_FLIGHT_MAX:
        raise NotApplicable(f"it takes more than {limits.IN_FLIGHT_MAX} calls at a time")
    subjects = list(trial.inputs(most + 1))
    async with _stream(trial) as stream:
        for answer in await _executed_together(trial, stream, subjects):
            if not answer.is_retryable:
                trial.require(answer, "completed", "pending", expected="completed, pending, or RESOURCE_EXHAUSTED")
    await _completed_anew(trial, subjects)


async def empty_call(trial: Trial) -> None:
    subject = trial.subject()
    async with _stream(trial) as stream:
        number = stream.number()
        await stream.write([ExchangeCall(id=number)])
        answer = await _answer(trial, stream, subject, number)
        if answer.code is grpc.StatusCode.OK:
            trial.fail("a status for a call that asks for nothing", str(answer))
        if answer.code is not grpc.StatusCode.INVALID_ARGUMENT:
            trial.warn(f"a call that asks for nothing is best answered INVALID_ARGUMENT; came {answer.code.name}")
        [executed] = await _executed_together(trial, stream, [subject])  # the stream has outlived it
        if not executed.is_retryable:
            trial.require(executed, "completed", "pending")
    await _completed_anew(trial, [subject])


async def duplicate_id(trial: Trial) -> None:
    subjects = list(trial.inputs(2))
    async with _stream(trial) as stream:
        number = stream.number()
        await stream.write([_call(trial, subject, number) for subject in subjects])
        await _refused(trial, stream, "the id of a call that is not answered yet")
    await _completed_anew(trial, subjects)


async def garbage(trial: Trial) -> None:
    subject = trial.subject()
    async with _stream(trial) as stream:
        await stream.write([_call(trial, subject, stream.number())])
        await stream.write_garbage()
        await _refused(trial, stream, "a message that does not decode")
    await _completed_anew(trial, [subject])


async def drain(trial: Trial) -> None:
    subjects = list(trial.inputs(limits.OVERLAPPING_CALLS))
    async with _stream(trial) as stream:
        for answer in await _executed_together(trial, stream, subjects, drain=True):
            if not answer.is_retryable:
                trial.require(answer, "completed", "pending")
        try:
            code, message = await stream.end(trial.caller.timeout_s)
        except TimeoutError:
            trial.fail("the end of a stream that drains, once all is answered", "none")
        if code is not grpc.StatusCode.OK:
            trial.fail("status OK at the end of a stream that drains", f"{code.name}: {message}")
    await _completed_anew(trial, subjects)


@asynccontextmanager
async def _stream(trial: Trial) -> AsyncIterator[Stream]:
    try:
        stream = await trial.caller.stream()
    except StreamEnded as ended:
        trial.fail("a stream", str(ended))
    try:
        yield stream
    finally:
        await stream.close()


def _call(trial: Trial, subject: Subject, number: int) -> ExchangeCall:
    return subject.noted(subject.request(OPERATION_EXECUTE)).exchanged(number, trial.caller.timeout_s)


async def _executed_together(
    trial: Trial, stream: Stream, subjects: Sequence[Subject], *, drain: bool = False
) -> Sequence[Answer]:
    """Sends Execute of each in one message; the answer to each. Errors: `Violation` where one is not answered."""
    numbers = [stream.number() for _ in subjects]
    calls = [_call(trial, subject, number) for subject, number in zip(subjects, numbers, strict=True)]
    await stream.write(calls, drain=drain)
    waiting = (_answer(trial, stream, *each) for each in zip(subjects, numbers, strict=True))
    return await asyncio.gather(*waiting)


async def _answer(trial: Trial, stream: Stream, subject: Subject, number: int) -> Answer:
    sent = subject.request(OPERATION_EXECUTE)
    try:
        return answered(sent, await stream.answer(number, trial.caller.timeout_s))
    except TimeoutError:
        trial.fail("an answer to every call", f"none to call {number}", sent)
    except StreamEnded as ended:
        trial.fail(f"an answer to call {number}", str(ended), sent)


async def _refused(trial: Trial, stream: Stream, what: str) -> None:
    """That the participant ends the stream because of this, and not with OK."""
    try:
        code, _ = await stream.end(trial.caller.timeout_s)
    except TimeoutError:
        trial.fail(f"the end of a stream on which {what} came", "none")
    if code is grpc.StatusCode.OK:
        trial.fail(f"a status other than OK at the end of a stream on which {what} came", code.name)
    if code is not grpc.StatusCode.INVALID_ARGUMENT:
        trial.warn(f"a stream on which {what} came is best ended with INVALID_ARGUMENT; came {code.name}")


async def _completed_anew(trial: Trial, subjects: Sequence[Subject]) -> None:
    """That a further attempt of each completes, and each has one effect."""
    for answer in await asyncio.gather(*(subject.executed(2) for subject in subjects)):
        trial.require(answer, "completed", expected="completed at a further attempt")
    await trial.require_effects(*subjects, count=1, stay=True)


_INPUT: Final = (Need.INPUT,)
_FAST: Final = (Lane.FAST,)
_SOURCE: Final = "participant.proto, Exchange; participants.md, The fast lane"

CHECKS: Final = (
    Check(
        "exchange-batch",
        "Each of several calls in one message is answered under its own id, with one effect.",
        _SOURCE,
        _INPUT,
        lanes=_FAST,
        of_action=batch,
    ),
    Check(
        "exchange-over-limit",
        "Of more calls than it takes at a time each is answered: what is too much with a status to come back with.",
        "participant.proto, ExchangeLimits; G14",
        _INPUT,
        lanes=_FAST,
        of_action=over_limit,
    ),
    Check(
        "exchange-empty-call",
        "A call that asks for nothing is answered with a status, and the stream goes on.",
        _SOURCE,
        _INPUT,
        lanes=_FAST,
        of_action=empty_call,
    ),
    Check(
        "exchange-duplicate-id",
        "The id of a call that is not answered yet ends the stream with a status, and nothing happens twice.",
        _SOURCE,
        _INPUT,
        lanes=_FAST,
        of_action=duplicate_id,
    ),
    Check(
        "exchange-garbage",
        "A message that does not decode ends the stream with a status; what was under way completes later, once.",
        "participant.proto, Exchange; G13",
        _INPUT,
        lanes=_FAST,
        of_action=garbage,
    ),
    Check(
        "exchange-drain",
        "A stream that the coordinator drains ends with status OK, after every answer.",
        "participant.proto, ExchangeRequest.drain",
        _INPUT,
        lanes=_FAST,
        of_action=drain,
    ),
)
