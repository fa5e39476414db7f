"""What lists show of a saga, taken from its state.

This module must not look anything up.
"""

from __future__ import annotations

from coordinator.core.state import Saga
from coordinator.journal.port import SagaIndex
from saga.v1.types_pb2 import SAGA_STATE_PENDING


def index_of(saga: Saga) -> SagaIndex:
    """The saga's row in lists, as of its last event."""
    return SagaIndex(
        saga_id=saga.saga_id,
        uid=saga.uid,
        definition=saga.plan.name,
        version=saga.plan.version,
        state=saga.state,
        create_time_ns=saga.created_ns,
        last_sequence=saga.last_sequence,
        start_time_ns=saga.start_ns if saga.state == SAGA_STATE_PENDING else saga.started_ns,
        end_time_ns=saga.ended_ns,
        deadline_ns=saga.deadline_ns,
        needs_attention=saga.needs_attention,
        paused=saga.paused,
        overdue=saga.overdue,
        failure=saga.failure,
        labels=saga.labels,
        participants=saga.plan.participants,
        parent_saga_id=saga.parent.saga_id if saga.parent is not None else "",
        root_saga_id=saga.root_saga_id if saga.root_saga_id != saga.saga_id else "",
        exclusive_keys=saga.exclusive_keys,
    )


def listed(saga: Saga) -> tuple[object, ...]:
    """What can change in that row, apart from the sequence: while this is equal the row need not be written again."""
    return (saga.state, saga.started_ns, saga.needs_attention, saga.paused, saga.overdue, saga.failure is not None)
