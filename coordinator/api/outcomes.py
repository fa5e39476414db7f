"""What operators and participants state of a step, as inputs of the core.

Texts are cut to their limits here, as those of replies are. This module must not look anything up.
"""

from __future__ import annotations

from coordinator.core import limits
from coordinator.core.inputs import Done, Refused, ResolveRequested, Unknown
from coordinator.core.instants import from_timestamp
from saga.v1 import coordinator_pb2 as pb
from saga.v1.event_pb2 import (
    RESOLUTION_COMPENSATED,
    RESOLUTION_COMPLETED,
    RESOLUTION_CONFIRMED,
    RESOLUTION_NO_EFFECT,
)
from saga.v1.types_pb2 import FAILURE_KIND_BROKEN, Completed, Failure, Rejected

_RESOLUTIONS = {
    "completed": RESOLUTION_COMPLETED,
    "no_effect": RESOLUTION_NO_EFFECT,
    "compensated": RESOLUTION_COMPENSATED,
    "confirmed": RESOLUTION_CONFIRMED,
}


def resolution_of(request: pb.ResolveStepRequest) -> ResolveRequested:
    """What the operator states."""
    completed = request.completed
    return ResolveRequested(
        step=request.step,
        resolution=_RESOLUTIONS[request.WhichOneof("resolution") or ""],
        reason=request.reason,
        actor=request.actor,
        output=completed.output if completed.HasField("output") else None,
        hold_until_ns=_hold_until_ns(completed),
    )


def reply_of(request: pb.CompleteStepRequest) -> Done | Refused | Unknown:
    """What the participant reports."""
    match request.WhichOneof("outcome"):
        case "completed":
            return Done(output=request.completed.output, hold_until_ns=_hold_until_ns(request.completed))
        case "compensated":
            return Done(noop=request.compensated.noop)
        case "confirmed":
            return Done()
        case "rejected":
            return _refused(request.rejected)
        case _:
            message = _cut(request.failed.message, limits.FAILURE_MESSAGE_BYTES_MAX)
            failure = Failure(kind=FAILURE_KIND_BROKEN, step=request.step, message=message)
            return Unknown(failure, retryable=False, answered=True)


def _refused(rejected: Rejected) -> Refused:
    return Refused(
        reason=_cut(rejected.reason, limits.FAILURE_REASON_BYTES_MAX) or "UNSPECIFIED",
        message=_cut(rejected.message, limits.FAILURE_MESSAGE_BYTES_MAX),
        metadata=tuple(sorted(rejected.metadata.items()))[: limits.FAILURE_METADATA_ENTRIES_MAX],
    )


def _hold_until_ns(completed: Completed) -> int | None:
    return from_timestamp(completed.hold_until) if completed.HasField("hold_until") else None


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")
