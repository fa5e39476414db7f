"""Events, indexes and appends for the journal's tests."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from coordinator.core.instants import to_timestamp
from coordinator.journal.port import Append, SagaIndex, Tombstone
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING

EPOCH_NS = 1_700_000_000_000_000_000

UNKNOWN_EVENT = b"\x9a\x06\x00"  # as a newer program might write it: an empty message in field 99


def event(saga_id: str, sequence: int, note: str = "") -> SagaEvent:
    """The first event creates the saga, every other one skips a step called `note`."""
    result = SagaEvent(saga_id=saga_id, sequence=sequence, time=to_timestamp(EPOCH_NS + sequence))
    if sequence == 1:
        result.saga_created.definition = "order"
    else:
        result.step_skipped.step = note
    return result


def events(saga_id: str, first: int, count: int = 1, note: str = "") -> list[SagaEvent]:
    return [event(saga_id, sequence, note) for sequence in range(first, first + count)]


def uid_of(saga_id: str) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(saga_id.encode()).digest()[:16]))


def index(saga_id: str, last_sequence: int = 1, **fields: Any) -> SagaIndex:
    defaults: dict[str, Any] = {
        "uid": uid_of(saga_id),
        "definition": "order",
        "version": 1,
        "state": SAGA_STATE_RUNNING,
        "create_time_ns": EPOCH_NS,
    }
    return SagaIndex(saga_id=saga_id, last_sequence=last_sequence, **(defaults | fields))


def start(saga_id: str, count: int = 1, **fields: Any) -> Append:
    """A saga's first append."""
    return Append(saga_id, events(saga_id, 1, count), index(saga_id, count, **fields))


def follow(saga_id: str, first: int, count: int = 1, note: str = "") -> Append:
    """A later append that changes nothing in lists."""
    return Append(saga_id, events(saga_id, first, count, note))


def show(saga_id: str, sequence: int, **fields: Any) -> Append:
    """A later append of one event that changes what lists show."""
    return Append(saga_id, events(saga_id, sequence), index(saga_id, sequence, **fields))


def sequences(found: Sequence[SagaEvent]) -> list[int]:
    return [item.sequence for item in found]


def ended(saga_id: str, count: int = 1, **fields: Any) -> Append:
    """A saga's first append, which is its last: COMPLETED a second after it was created."""
    defaults: dict[str, Any] = {"state": SAGA_STATE_COMPLETED, "end_time_ns": EPOCH_NS + 1_000_000_000}
    return start(saga_id, count, **(defaults | fields))


def tombstone(append: Append, retire_time_ns: int = EPOCH_NS + 2_000_000_000) -> Tombstone:
    """What the saga of a first append is to leave."""
    index = append.index
    assert index is not None
    end_time_ns = index.end_time_ns or 0
    return Tombstone(index.saga_id, index.uid, index.state, b"digest", end_time_ns, retire_time_ns)
