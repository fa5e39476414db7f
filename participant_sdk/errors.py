"""How a call fails, on either side of the wire.

    Exception
    ├── CallError    a participant does not say what became of a call (a refusal is an answer: see Rejected)
    └── SagaError    the coordinator refused a client's request, or could not be reached

Both are a `google.rpc.Status` with an `ErrorInfo` of domain `saga.v1`. What a handler raised never travels: an
exception's text may hold what only the participant's log should.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from participant_sdk.limits import QUOTED_LENGTH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from google.protobuf.message import Message

DOMAIN: Final = "saga.v1"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"
_REASON_PREFIX: Final = "ERROR_REASON_"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class Violation(NamedTuple):
    """One thing that is wrong with a request: where, and what."""

    field: str
    description: str


class CallError(Exception):
    """A call that ends with a status: what became of the step is not said.

    `code` is the gRPC status code, `reason` a word for programs, `message` and `violations` are for people.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)

    def status(self) -> status_pb2.Status:
        """Return what travels as the details of the gRPC status."""
        details: list[Message] = [error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)]
        if self.violations:
            fields = [
                error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
                for field, description in self.violations
            ]
            details.append(error_details_pb2.BadRequest(field_violations=fields))
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=map(_pack, details))


class SagaError(Exception):
    """The coordinator refused a request, or could not be reached.

    `code` is the gRPC status code, `reason` the name of the ErrorReason without its prefix (`SAGA_NOT_FOUND`; empty
    where the coordinator did not answer), `violations` name every problem of the request, and `retry_after` says
    when to come back, where the coordinator said so.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str = "",
        message: str = "",
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> SagaError:
        """Read a gRPC error with its details."""
        return cls._read(error.code(), _status_of(error), error.details() or "")

    @classmethod
    def of_status(cls, status: status_pb2.Status) -> SagaError:
        """Read the status of one call of many."""
        return cls._read(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status, "")

    @classmethod
    def _read(cls, code: grpc.StatusCode, status: status_pb2.Status, message: str) -> SagaError:
        """Details that do not decode are left out."""
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        precondition, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
        for detail in status.details:
            for known in (info, bad_request, precondition, retry):
                _unpack(detail, known)
        violations = [
            *(Violation(each.field, each.description) for each in bad_request.field_violations),
            *(Violation(each.subject, each.description) for each in precondition.violations),
        ]
        return cls(
            code,
            info.reason.removeprefix(_REASON_PREFIX),
            status.message or message,
            violations,
            retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None,
        )


def quoted(text: str) -> str:
    """Return a caller's text for an error message, bounded."""
    return repr(text if len(text) <= QUOTED_LENGTH_MAX else text[:QUOTED_LENGTH_MAX] + "…")


def invalid(violations: Iterable[Violation]) -> CallError:
    """Return the error of a request that is malformed."""
    found = tuple(violations)
    message = "; ".join(f"{each.field}: {each.description}" if each.field else each.description for each in found)
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", message, found)


def busy() -> CallError:
    """Return the error of a call that another one on the same row or database stands in the way of."""
    return CallError(grpc.StatusCode.ABORTED, "BUSY", "another call on this step or this database is under way")


def rolled_back() -> CallError:
    """Return the error of a call whose changes the database took back together with another call's."""
    message = "the database rolled back more than the call that failed: this one had no effect"
    return CallError(grpc.StatusCode.ABORTED, "ROLLED_BACK", message)


def _pack(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _unpack(detail: AnyMessage, message: Message) -> None:
    try:
        detail.Unpack(message)
    except DecodeError:
        message.Clear()


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()
