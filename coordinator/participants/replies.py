"""How a participant's answer is read: the contract's table, and nothing else (G5).

Only a reply body says what happened. A status never does: it leaves the outcome unknown, and says at most whether
another attempt may help. Everything here is a function of the call and its answer; this module must not send, wait or
look at a clock.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from coordinator.core import limits
from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.participants import limited
from coordinator.participants.call import EXCHANGE_FIELDS, Call
from saga.v1.participant_pb2 import CompensateResponse, ConfirmResponse, ExchangeAnswer, ExecuteResponse, Pending
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_PROTOCOL_VIOLATION,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Compensated,
    Completed,
    Confirmed,
    Failure,
    FailureKind,
    Operation,
    Rejected,
)

Response: TypeAlias = ExecuteResponse | CompensateResponse | ConfirmResponse

_RESPONSES: Final[Mapping[Operation.ValueType, type[Response]]] = {
    OPERATION_EXECUTE: ExecuteResponse,
    OPERATION_COMPENSATE: CompensateResponse,
    OPERATION_CONFIRM: ConfirmResponse,
}

# Another attempt may end differently.
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)

# The transport can end a call with these while the participant is still at work, so they answer nothing: the attempt
# counts as under way until its deadline (G8). DEADLINE_EXCEEDED is among them because the participant's own clock may
# be behind; the attempt's deadline is the call's, so waiting for it costs nothing. RESOURCE_EXHAUSTED, because a stream
# that is reset with ENHANCE_YOUR_CALM becomes it.
_MADE_BY_TRANSPORT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)

_STATUS_DETAILS: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def read_body(call: Call, body: bytes, *, barriered: bool) -> Reply:
    """Reads what came with status OK. `barriered` is what the participant declares of itself."""
    try:
        response = _RESPONSES[call.operation].FromString(body)
    except DecodeError:
        return _violation(call, "the reply does not decode")
    return read_response(call, response, barriered=barriered)


def read_response(call: Call, response: Response, *, barriered: bool) -> Reply:
    """Reads a decoded reply body."""
    outcome = response.WhichOneof("outcome")
    match getattr(response, outcome) if outcome else None:
        case Completed() as completed:
            return _read_completed(call, completed)
        case Compensated(noop=noop):
            return Done(noop=noop)
        case Confirmed():
            return Done()
        case Rejected() as rejected:
            return Refused(
                reason=limited.reason(rejected.reason),
                message=limited.message(rejected.message),
                metadata=limited.metadata(rejected.metadata),
                covers_earlier=barriered,
            )
        case Pending() as pending:
            return Accepted(_poll_after_ns(pending), limited.message(pending.message), pending.needs_attention)
        case _:
            return _violation(call, "the reply sets no outcome")


def read_answer(call: Call, answer: ExchangeAnswer, *, barriered: bool) -> Reply:
    """Reads an answer of the fast lane, as the same response or the same status of the unary call."""
    kind = answer.WhichOneof("response")
    if kind == "status":
        return _read_answered_status(call, answer.status)
    if kind != EXCHANGE_FIELDS[call.operation]:
        return _violation(call, f"the answer is one to {kind}" if kind else "the answer sets no response")
    return read_response(call, getattr(answer, kind), barriered=barriered)


def read_error(call: Call, error: grpc.aio.AioRpcError) -> Unknown:
    """Reads a call that ended with a status other than OK."""
    return read_status(call, error.code(), error.details() or "", reason=_error_reason(error))


def read_status(call: Call, code: grpc.StatusCode, message: str, *, reason: str = "") -> Unknown:
    """Reads a status other than OK."""
    return Unknown(
        failure=_failure(call, _kind(code), message, reason=reason, grpc_code=code.value[0]),
        retryable=code in _RETRYABLE,
        answered=code not in _MADE_BY_TRANSPORT,
    )


def code_of(status: Status) -> grpc.StatusCode:
    """The code of a status that came in a message; UNKNOWN for one that gRPC does not have."""
    return _CODES.get(status.code, grpc.StatusCode.UNKNOWN)


def _read_answered_status(call: Call, status: Status) -> Unknown:
    code = code_of(status)
    if code is grpc.StatusCode.OK:
        return _violation(call, "the answer is a status that says OK, and no reply")
    return read_status(call, code, status.message, reason=_reason(status))


def _read_completed(call: Call, completed: Completed) -> Reply:
    if problem := _output_problem(call, completed.output):
        return _violation(call, problem)
    if not completed.HasField("hold_until"):
        return Done(output=completed.output)
    try:
        return Done(output=completed.output, hold_until_ns=completed.hold_until.ToNanoseconds())
    except ValueError:
        return _violation(call, "hold_until is not a valid timestamp")


def _output_problem(call: Call, output: Any) -> str | None:
    if output.TypeName() != call.expected_output_type:
        found = f"of type {output.TypeName()}" if output.type_url else "not there"
        return f"the output is {found}, and not of type {call.expected_output_type}"
    if len(output.value) > limits.PAYLOAD_BYTES_MAX:
        return f"the output is {len(output.value)} bytes, over the {limits.PAYLOAD_BYTES_MAX} that are allowed"
    return call.check_output(output)


def _poll_after_ns(pending: Pending) -> int:
    if not pending.HasField("poll_after"):
        return limits.POLL_AFTER_DEFAULT_NS
    asked: Duration = pending.poll_after
    asked_ns = asked.seconds * limits.SECOND_NS + asked.nanos
    return min(max(asked_ns, limits.POLL_AFTER_MIN_NS), limits.POLL_AFTER_MAX_NS)


def _kind(code: grpc.StatusCode) -> FailureKind.ValueType:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return FAILURE_KIND_TIMED_OUT
    return FAILURE_KIND_UNAVAILABLE if code in _RETRYABLE else FAILURE_KIND_CALL_REFUSED


def _error_reason(error: grpc.aio.AioRpcError) -> str:
    """The reason of the ErrorInfo that came with the status; empty where there is none that can be read."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            try:
                return _reason(Status.FromString(value))
            except DecodeError:
                return ""
    return ""


def _reason(status: Status) -> str:
    info = ErrorInfo()
    try:
        if any(detail.Unpack(info) for detail in status.details) and info.reason:
            return limited.reason(info.reason)
    except DecodeError:
        return ""
    return ""


def _violation(call: Call, message: str) -> Unknown:
    failure = _failure(call, FAILURE_KIND_PROTOCOL_VIOLATION, message)
    return Unknown(failure, retryable=False, answered=True)


def _failure(call: Call, kind: FailureKind.ValueType, message: str, *, reason: str = "", grpc_code: int = 0) -> Failure:
    return Failure(
        kind=kind,
        step=call.context.step,
        operation=call.operation,
        reason=reason,
        message=limited.message(message),
        grpc_code=grpc_code,
    )
