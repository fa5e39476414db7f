"""What is malformed is refused with a status that ends the attempts, and changes nothing (G13)."""

from typing import Final

import grpc

from coordinator.conform import limits
from coordinator.conform.caller import Answer, Lane, Sent
from coordinator.conform.check import Check, Need
from coordinator.conform.subject import Subject
from coordinator.conform.trial import Trial
from saga.v1.participant_pb2 import ExecuteRequest
from saga.v1.types_pb2 import OPERATION_EXECUTE

_UNDECODABLE: Final = b"\x0a\xff"  # a field whose length is cut off: no message at all
_PADDING_TAG: Final = b"\xfa\xff\xff\xff\x0f"  # field 536870911, which no message here has; of bytes
_ANOTHER_TYPE: Final = "type.googleapis.com/saga.v1.conform.AnotherType"


async def unknown_action(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.context.action = "NoSuchAction_" + subject.unique
    answer = await _refused(trial, subject, request)
    if answer.code is not grpc.StatusCode.UNIMPLEMENTED:
        trial.warn(f"an unknown action is best answered UNIMPLEMENTED; came {answer}")


async def input_of_another_type(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.input.type_url = _ANOTHER_TYPE
    _advise_invalid(trial, await _refused(trial, subject, request))
    await _still_works(trial, subject)


async def input_undecodable(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.input.value = _UNDECODABLE
    _advise_invalid(trial, await _refused(trial, subject, request))
    await _still_works(trial, subject)


async def input_missing(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.ClearField("input")
    _advise_invalid(trial, await _refused(trial, subject, request))
    await _still_works(trial, subject)


async def request_undecodable(trial: Trial) -> None:
    subject = trial.subject()
    _advise_invalid(trial, await _refused_bytes(trial, subject, _UNDECODABLE))


async def context_missing(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.ClearField("context")
    _advise_invalid(trial, await _refused(trial, subject, request))


async def key_empty(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.context.ClearField("idempotency_key")
    answer = await subject.send(subject.malformed(request.SerializeToString()))
    if answer.code is grpc.StatusCode.OK:
        trial.warn(f"a call without an idempotency key is best refused with INVALID_ARGUMENT; came {answer}")
        return
    _advise_invalid(trial, answer)
    await trial.require_effects(subject, count=0)


async def input_oversized(trial: Trial) -> None:
    subject = trial.subject()
    request = _request(subject)
    request.input.value += _padding(limits.OVERSIZED_BYTES)
    answer = await subject.send(subject.malformed(request.SerializeToString()))
    if answer.code is grpc.StatusCode.OK:
        trial.warn(f"{limits.OVERSIZED_BYTES >> 20} MiB are taken in; a bound, such as gRPC's 4 MiB, is advised")
        return
    if answer.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        _advise_invalid(trial, answer)
    await _still_works(trial, subject)


def _request(subject: Subject) -> ExecuteRequest:
    return ExecuteRequest.FromString(subject.request(OPERATION_EXECUTE).data)


async def _refused(trial: Trial, subject: Subject, request: ExecuteRequest) -> Answer:
    return await _refused_bytes(trial, subject, request.SerializeToString())


async def _refused_bytes(trial: Trial, subject: Subject, data: bytes) -> Answer:
    """The answer to what must be refused with a status. Errors: `Violation`."""
    sent: Sent = subject.malformed(data)
    answer = await subject.send(sent)
    if answer.code is grpc.StatusCode.OK:
        trial.fail("a status other than OK", str(answer), sent)
    await trial.require_effects(subject, count=0)
    return answer


async def _still_works(trial: Trial, subject: Subject) -> None:
    """Nothing of the refused request was kept: the proper one has its effect."""
    await trial.executed(subject)
    await trial.require_effects(subject, count=1)


def _advise_invalid(trial: Trial, answer: Answer) -> None:
    if answer.is_retryable:
        trial.warn(f"what is malformed is best refused with INVALID_ARGUMENT: it is retried after {answer}")


def _padding(size: int) -> bytes:
    length, digits = size, bytearray()
    while length:
        length, digit = length >> 7, length & 0x7F
        digits.append(digit | (0x80 if length else 0))
    return _PADDING_TAG + bytes(digits) + bytes(size)


_INPUT: Final = (Need.INPUT,)
_UNARY: Final = (Lane.UNARY,)  # of a stream it breaks the whole; see `exchange`
_G13: Final = "G13; semantics.md, G5 (the table of replies)"

CHECKS: Final = (
    Check(
        "unknown-action",
        "An unknown action is refused with a status (UNIMPLEMENTED is advised), without effect.",
        _G13,
        _INPUT,
        of_action=unknown_action,
    ),
    Check(
        "input-of-another-type",
        "An input of another type is refused with a status, and nothing is kept.",
        _G13,
        _INPUT,
        of_action=input_of_another_type,
    ),
    Check(
        "input-undecodable",
        "An input whose bytes do not decode is refused with a status, and nothing is kept.",
        _G13,
        _INPUT,
        of_action=input_undecodable,
    ),
    Check(
        "input-missing",
        "A request without an input is refused with a status, and nothing is kept.",
        _G13,
        _INPUT,
        of_action=input_missing,
    ),
    Check(
        "request-undecodable",
        "A request whose bytes do not decode is refused with a status.",
        _G13,
        _INPUT,
        lanes=_UNARY,
        of_action=request_undecodable,
    ),
    Check(
        "context-missing",
        "A request without a context is refused with a status, without effect.",
        _G13,
        _INPUT,
        of_action=context_missing,
    ),
    Check(
        "key-empty",
        "A request without an idempotency key is refused; advised.",
        _G13,
        _INPUT,
        of_action=key_empty,
    ),
    Check(
        "input-oversized",
        f"An input of {limits.OVERSIZED_BYTES >> 20} MiB is refused (advised), and nothing is kept of one that is.",
        "G13, G14",
        _INPUT,
        lanes=_UNARY,
        of_action=input_oversized,
    ),
)
