"""From what a handler answers to the reply that is stored and sent, and back from stored bytes.

A reply is serialized once, deterministically; what is stored is what is sent, then and ever after. A handler that
answers with something else than its action declares is a defect of the handler, and fails before anything commits.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from participant_sdk.action import RESERVABLE, Action
from participant_sdk.limits import OUTPUT_BYTES_MAX, TEXT_LENGTH_MAX
from participant_sdk.outcome import Held, Noop, Pending, Rejected
from saga.v1 import types_pb2
from saga.v1.participant_pb2 import CompensateResponse, ConfirmResponse, ExecuteResponse
from saga.v1.participant_pb2 import Pending as PendingReply
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation

Reply: TypeAlias = ExecuteResponse | CompensateResponse | ConfirmResponse

_REPLY_TYPES: Final[Mapping[Operation.ValueType, type[Reply]]] = {
    OPERATION_EXECUTE: ExecuteResponse,
    OPERATION_COMPENSATE: CompensateResponse,
    OPERATION_CONFIRM: ConfirmResponse,
}


def executed(action: Action[Any, Any, Any], answer: object) -> ExecuteResponse:
    """Return the reply for what `execute` or `poll` returned. Errors: `TypeError`, `ValueError`."""
    if isinstance(answer, Pending):
        return ExecuteResponse(pending=_pending(answer))
    completed = types_pb2.Completed()
    if isinstance(answer, Held):
        if RESERVABLE not in action.kinds:
            raise TypeError(f"{action.name} answered Held and is not RESERVABLE")
        completed.hold_until.FromDatetime(answer.until)
        answer = answer.output
    completed.output.CopyFrom(_output(action, answer))
    return ExecuteResponse(completed=completed)


def compensated(action: Action[Any, Any, Any], answer: object) -> CompensateResponse:
    """Return the reply for what `compensate` returned. Errors: `TypeError`."""
    if isinstance(answer, Pending):
        return CompensateResponse(pending=_pending(answer))
    if answer is None or isinstance(answer, Noop):
        return CompensateResponse(compensated=types_pb2.Compensated(noop=answer is not None))
    raise TypeError(f"compensate of {action.name} answered {type(answer).__name__}, not None, Noop or Pending")


def confirmed(action: Action[Any, Any, Any], answer: object) -> ConfirmResponse:
    """Return the reply for what `confirm` returned. Errors: `TypeError`."""
    if isinstance(answer, Pending):
        return ConfirmResponse(pending=_pending(answer))
    if answer is None:
        return ConfirmResponse(confirmed=types_pb2.Confirmed())
    raise TypeError(f"confirm of {action.name} answered {type(answer).__name__}, not None or Pending")


def rejected(operation: Operation.ValueType, refusal: Rejected) -> Reply:
    """Return the reply for a refusal."""
    body = types_pb2.Rejected(
        reason=refusal.reason, message=refusal.message[:TEXT_LENGTH_MAX], metadata=refusal.metadata
    )
    return _REPLY_TYPES[operation](rejected=body)


def serialized(reply: Reply) -> bytes:
    """Return the bytes to store and send."""
    return reply.SerializeToString(deterministic=True)


def parsed(operation: Operation.ValueType, reply: bytes) -> Reply:
    """Read a stored reply."""
    return _REPLY_TYPES[operation].FromString(reply)


def outcome_of(reply: Reply) -> str:
    """Return which outcome a reply holds: completed, compensated, confirmed, rejected or pending."""
    return reply.WhichOneof("outcome") or ""


def _pending(answer: Pending) -> PendingReply:
    reply = PendingReply(message=answer.message[:TEXT_LENGTH_MAX], needs_attention=answer.needs_attention)
    if answer.poll_after is not None:
        reply.poll_after.FromTimedelta(answer.poll_after)
    return reply


def _output(action: Action[Any, Any, Any], answer: object) -> AnyMessage:
    if not isinstance(answer, Message) or answer.DESCRIPTOR.full_name != action.output_type.DESCRIPTOR.full_name:
        expected = action.output_type.DESCRIPTOR.full_name
        raise TypeError(f"{action.name} answered {type(answer).__name__}, not {expected}, Held or Pending")
    if answer.ByteSize() > OUTPUT_BYTES_MAX:
        raise ValueError(f"{action.name} answered {answer.ByteSize()} bytes, more than {OUTPUT_BYTES_MAX}")
    packed = AnyMessage()
    packed.Pack(answer, deterministic=True)
    return packed
