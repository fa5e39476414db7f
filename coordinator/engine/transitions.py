"""What the log says of a saga: at debug a line per transition and end, at info per saga that went back; never payloads.

That a saga has ended well is what lists say too, and a line of it costs a fiftieth of what all the saga does. This
module must not format anything that nobody will read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from coordinator.core.state import Saga
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED, FailureKind, Operation, SagaState

log = logging.getLogger("coordinator.saga")


def log_transitions(saga: Saga, events: Sequence[SagaEvent]) -> None:
    """Log what has become durable; `saga` is as the events left it."""
    if log.isEnabledFor(logging.DEBUG):
        for event in events:
            log.debug("saga transition", extra=_transition(event))
    if saga.ended:
        level = logging.INFO if saga.state == SAGA_STATE_COMPENSATED else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "saga ended", extra=_end(saga))
    elif saga.state == SAGA_STATE_FAILED:
        log.warning("saga needs an operator", extra=_end(saga))


def _transition(event: SagaEvent) -> dict[str, object]:
    name = event.WhichOneof("event") or ""
    fact = getattr(event, name)
    fields: dict[str, object] = {"saga_id": event.saga_id, "sequence": event.sequence, "event": name}
    for field in ("step", "attempt"):
        if field in fact.DESCRIPTOR.fields_by_name:
            fields[field] = getattr(fact, field)
    if "operation" in fact.DESCRIPTOR.fields_by_name:
        fields["operation"] = Operation.Name(fact.operation).removeprefix("OPERATION_")
    return fields


def _end(saga: Saga) -> dict[str, object]:
    fields: dict[str, object] = {
        "saga_id": saga.saga_id,
        "definition": f"{saga.plan.name}@{saga.plan.version}",
        "state": SagaState.Name(saga.state).removeprefix("SAGA_STATE_"),
        "events": saga.last_sequence,
        "duration_ms": (saga.last_time_ns - saga.created_ns) // 1_000_000,
    }
    if saga.failure is not None:
        fields["failure"] = FailureKind.Name(saga.failure.kind).removeprefix("FAILURE_KIND_")
        fields["failed_step"] = saga.failure.step
        fields["reason"] = saga.failure.reason
    return fields
