"""What holds after every path, whatever the participants are for: what the contract promises.

All of it is read from the saga's journal and from what the participants really answered. This module must not call
anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.any_pb2 import Any

from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.rehearse.caller import Exchange, Key, key_of
from coordinator.rehearse.faults import Attempt
from coordinator.rehearse.paths import REHEARSED, Path
from saga.v1.coordinator_pb2 import Saga
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_LOST,
    FAILURE_KIND_PROTOCOL_VIOLATION,
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    STEP_KIND_READ_ONLY,
    STEP_STATE_COMPENSATION_FAILED,
    STEP_STATE_CONFIRMING,
    STEP_STATE_UNKNOWN,
    Failure,
    FailureKind,
    SagaState,
)

Canonical = Callable[[Any], bytes]
"""The same bytes for the same payload."""

_ENDS: Final = frozenset({SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED})


def own_refusal(saga: Saga) -> Failure | None:
    """Why the saga went back, where that was nothing that the rehearsal made."""
    failure = saga.failure
    made = failure.reason == REHEARSED or failure.kind in (FAILURE_KIND_CANCELLED, FAILURE_KIND_LOST)
    return failure if failure.kind and not made else None


def end_state(path: Path, saga: Saga, *, all_reached: bool) -> Iterator[str]:
    """Whether the saga ended, and where its failures send it."""
    if saga.state == SAGA_STATE_FAILED:
        yield f"it stands FAILED, and needs an operator: {describe(_why_failed(saga))}"
    elif saga.state not in _ENDS:
        waits = ", ".join(f"`{wait.step.step}`" for wait in saga.waits if wait.HasField("step"))
        yield f"it is stuck in {state_name(saga.state)}" + (f", waiting for {waits}" if waits else "")
    elif all_reached and own_refusal(saga) is None and saga.state not in path.ends:
        wanted = " or ".join(sorted(map(state_name, path.ends)))
        yield f"it ended {state_name(saga.state)} and not {wanted}"


def _why_failed(saga: Saga) -> Failure:
    """What keeps the saga from its end, which is rarely why it went back."""
    for step in saga.steps:
        progress = _OPEN.get(step.state)
        if progress is not None and getattr(step, progress).HasField("last_failure"):
            failure: Failure = getattr(step, progress).last_failure
            return failure
    return saga.failure


_OPEN: Final = {
    STEP_STATE_COMPENSATION_FAILED: "compensate",
    STEP_STATE_CONFIRMING: "confirm",
    STEP_STATE_UNKNOWN: "execute",
}
"""Where a step of a FAILED saga stands that an operator is needed for, and which operation came to nothing."""


def protocol_violations(events: Iterable[SagaEvent]) -> Iterator[str]:
    """What a participant answered that the contract does not know."""
    for event in events:
        failure = event.attempt_failed.failure
        if failure.kind == FAILURE_KIND_PROTOCOL_VIOLATION:
            attempt = Attempt(event.attempt_failed.step, event.attempt_failed.operation, event.attempt_failed.attempt)
            yield f"{attempt}: a protocol violation: {failure.message}"


def contradictions(exchanges: Sequence[Exchange], canonical: Canonical) -> Iterator[str]:
    """Where a participant took back what it had answered, or let a late Execute through (G2, G8)."""
    keys: dict[Key, _Answered] = {}
    compensated: set[tuple[str, str]] = set()
    for exchange in exchanges:
        call, key = exchange.call, key_of(exchange.call)
        if call.context.kind == STEP_KIND_READ_ONLY:
            continue  # what is read again may have changed
        step = (key.saga_id, key.step)
        before = keys.setdefault(key, _Answered())
        if call.operation == OPERATION_EXECUTE and step in compensated:
            problem = _let_through(exchange.reply)
        else:
            problem = before.contradicted_by(exchange, canonical)
        if problem is not None:
            yield f"{Attempt(key.step, key.operation, call.context.attempt)}: {problem}"
        before.take(exchange)
        if call.operation == OPERATION_COMPENSATE and isinstance(exchange.reply, Done):
            compensated.add(step)


def _let_through(reply: Reply) -> str | None:
    """What is wrong with the answer to an Execute that comes after its Compensate."""
    if isinstance(reply, Refused) or (isinstance(reply, Unknown) and reply.retryable):
        return None
    return f"it came after its Compensate, and was answered {_what(reply)} instead of rejected"


@dataclass(slots=True)
class _Answered:
    """What the calls of one key were answered so far."""

    done: Done | None = None
    refused: int = 0
    """The last attempt that was refused."""

    def contradicted_by(self, exchange: Exchange, canonical: Canonical) -> str | None:
        """What the answer takes back."""
        reply, attempt = exchange.reply, exchange.call.context.attempt
        if self.done is not None:
            if isinstance(reply, Refused | Accepted):
                return f"it had been completed, and was then answered {_what(reply)}"
            if isinstance(reply, Done) and _payload(reply, canonical) != _payload(self.done, canonical):
                return "the same key was answered with another output"
        elif attempt <= self.refused and isinstance(reply, Done | Accepted):
            return f"it had been rejected, and was then answered {_what(reply)}"
        return None

    def take(self, exchange: Exchange) -> None:
        """Remember an answer."""
        match exchange.reply:
            case Done() as done:
                self.done = self.done or done
            case Refused():
                self.refused = max(self.refused, exchange.call.context.attempt)


def _payload(done: Done, canonical: Canonical) -> bytes | None:
    return canonical(done.output) if done.output is not None else None


def _what(reply: Reply) -> str:
    match reply:
        case Done():
            return "completed"
        case Refused():
            return f"rejected ({reply.reason})"
        case Accepted():
            return "pending"
        case Unknown():
            return f"with a failure ({describe(reply.failure)})"


def describe(failure: Failure) -> str:
    """A failure in a few words."""
    kind = FailureKind.Name(failure.kind).removeprefix("FAILURE_KIND_")
    words = (failure.reason or kind, failure.message)
    where = f" at `{failure.step}`" if failure.step else ""
    return ": ".join(word for word in words if word) + where


def state_name(state: SagaState.ValueType) -> str:
    """A saga's state without the enum's prefix."""
    return SagaState.Name(state).removeprefix("SAGA_STATE_")
