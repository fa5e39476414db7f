"""From what went wrong to a google.rpc.Status: one table for the whole API.

Every error carries an ErrorInfo (domain `saga.v1`, a reason of the ErrorReason enum) and, where they fit, a
BadRequest with every problem, a PreconditionFailure, or a RetryInfo. Details are capped: gRPC drops a call whose
trailers are too large, so of many problems the first are named and all are counted (`problems` in the ErrorInfo's
metadata).

This module must not let the text of an unexpected exception out: it goes to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from coordinator.api.errors import InvalidPageToken, Malformed, TooLarge, Unsupported
from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.core.forbidden import Forbidden
from coordinator.core.instants import to_duration
from coordinator.engine import errors as engine
from coordinator.journal import errors as journal
from coordinator.participants.directory import DescribeFailedError, UnknownParticipantError
from saga.v1 import types_pb2 as reasons
from saga.v1.types_pb2 import ErrorReason

log = logging.getLogger(__name__)

DOMAIN: Final = "saga.v1"
# The message travels twice, once percent-encoded, and all of it has to stay below the 8 KiB where gRPC drops calls.
_MESSAGE_BYTES_MAX: Final = 512
_DETAIL_ROOM_BYTES: Final = limits.ERROR_DETAIL_BYTES_MAX - 1024  # the rest is for the ErrorInfo and the message

ErrorT = TypeVar("ErrorT", bound=Exception)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one kind of error is shown."""

    code: int
    reason: ErrorReason.ValueType
    details: Callable[[Any], Iterable[Message]] = lambda _error: ()
    metadata: Callable[[Any], Mapping[str, str]] = field(default=lambda _error: {})


def to_status(error: Exception) -> Status:
    """What the caller is told of an error."""
    for kind in type(error).__mro__:
        if (rule := _RULES.get(kind)) is not None:
            return _status(rule, error, str(error))
    log.error("a call failed in a way that nobody foresaw", exc_info=error)
    return _status(_INTERNAL, error, "the coordinator failed; its log has the details")


def _status(rule: _Rule, error: Exception, message: str) -> Status:
    info = ErrorInfo(reason=ErrorReason.Name(rule.reason), domain=DOMAIN, metadata=rule.metadata(error))
    status = Status(code=rule.code, message=_cut(message, _MESSAGE_BYTES_MAX))
    for detail in (info, *rule.details(error)):
        status.details.add().Pack(detail)
    return status


def _cut(text: str, bytes_max: int = limits.FAILURE_MESSAGE_BYTES_MAX) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")


# --- Details ----------------------------------------------------------------------------------------------------------


def _violations(error: engine.InvalidRequest) -> Iterable[Message]:
    yield bad_request(error.problems)


def bad_request(problems: Sequence[Problem]) -> BadRequest:
    """The problems as violations, as many as there is room for."""
    bad = BadRequest()
    for problem in problems:
        bad.field_violations.add(field=_cut(problem.path), description=describe(problem))
        if bad.ByteSize() > _DETAIL_ROOM_BYTES:
            del bad.field_violations[-1]
            break
    return bad


def describe(problem: Problem) -> str:
    """A problem in one line: `line:column: what was found (expected: what would be right)`."""
    where = f"{problem.line}:{problem.column}: " if problem.line else ""
    expected = f" (expected: {problem.expected})" if problem.expected else ""
    return _cut(f"{where}{problem.message}{expected}")


def _page_token(error: InvalidPageToken) -> Iterable[Message]:
    yield bad_request([Problem("page_token", str(error))])


def _problem_count(error: engine.InvalidRequest) -> dict[str, str]:
    return {"problems": str(len(error.problems))}


def _precondition(error: Forbidden) -> Iterable[Message]:
    failure = PreconditionFailure()
    failure.violations.add(type="STATE", subject="saga", description=_cut(f"{error}; {error.possible}"))
    yield failure


def _come_back(error: engine.OverLimit) -> Iterable[Message]:
    yield RetryInfo(retry_delay=to_duration(error.retry_after_ns))


def _come_back_soon(_error: Exception) -> Iterable[Message]:
    yield RetryInfo(retry_delay=to_duration(limits.ADMISSION_RETRY_AFTER_NS))


_INTERNAL: Final = _Rule(code_pb2.INTERNAL, reasons.ERROR_REASON_INTERNAL)

_RULES: Final[Mapping[type, _Rule]] = {
    Malformed: _Rule(code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_REQUEST),
    InvalidPageToken: _Rule(code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_REQUEST, _page_token),
    Unsupported: _Rule(code_pb2.UNIMPLEMENTED, reasons.ERROR_REASON_UNSUPPORTED),
    engine.InvalidDefinition: _Rule(
        code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_DEFINITION_INVALID, _violations, _problem_count
    ),
    engine.InvalidRequest: _Rule(
        code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_REQUEST, _violations, _problem_count
    ),
    engine.DefinitionNotFound: _Rule(code_pb2.NOT_FOUND, reasons.ERROR_REASON_DEFINITION_NOT_FOUND),
    engine.DefinitionDeprecated: _Rule(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_DEFINITION_DEPRECATED),
    engine.NoChildFits: _Rule(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_NO_CHILD_FITS),
    engine.KeyReused: _Rule(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_KEY_REUSED),
    engine.StartedDifferently: _Rule(code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_SAGA_EXISTS),
    engine.SagaRetired: _Rule(code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_SAGA_EXISTS),
    engine.SequenceMismatch: _Rule(code_pb2.ABORTED, reasons.ERROR_REASON_SEQUENCE_MISMATCH),
    engine.OverLimit: _Rule(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_OVER_LIMIT, _come_back),
    engine.Overloaded: _Rule(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_OVERLOADED, _come_back),
    TooLarge: _Rule(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_OVER_LIMIT),
    engine.ShuttingDown: _Rule(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_SHUTTING_DOWN, _come_back_soon),
    Forbidden: _Rule(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_STATE_FORBIDS, _precondition),
    journal.SagaNotFound: _Rule(code_pb2.NOT_FOUND, reasons.ERROR_REASON_SAGA_NOT_FOUND),
    journal.SagaExists: _Rule(code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_SAGA_EXISTS),
    journal.Conflict: _Rule(code_pb2.ABORTED, reasons.ERROR_REASON_SEQUENCE_MISMATCH),
    journal.UnreadableSaga: _Rule(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_SAGA_UNREADABLE),
    journal.JournalUnavailable: _Rule(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_JOURNAL_UNAVAILABLE, _come_back_soon),
    UnknownParticipantError: _Rule(code_pb2.NOT_FOUND, reasons.ERROR_REASON_PARTICIPANT_NOT_FOUND),
    DescribeFailedError: _Rule(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_PARTICIPANT_UNAVAILABLE),
}
