"""Between messages and the bytes that are stored.

An event's row already says which saga and which sequence, so its bytes leave both out: a third of a small event. This
module must not look into an event beyond that, except to see whether this program knows its type.
"""

import hashlib

from google.protobuf.message import DecodeError

from coordinator.journal.errors import UnreadableSaga
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, Failure


def encode_event(event: SagaEvent) -> bytes:
    """The bytes of the event's row."""
    body = SagaEvent()
    body.CopyFrom(event)
    body.ClearField("saga_id")
    body.ClearField("sequence")
    return body.SerializeToString()


def decode_event(saga_id: str, sequence: int, body: bytes) -> SagaEvent:
    """The event of a row. Raises UnreadableSaga for bytes that are not one, or one of a type not known here."""
    try:
        event = SagaEvent.FromString(body)
    except DecodeError as error:
        raise UnreadableSaga(saga_id, f"event {sequence} cannot be decoded") from error
    if event.WhichOneof("event") is None:
        raise UnreadableSaga(saga_id, f"event {sequence} is of a type that this program does not know")
    event.saga_id = saga_id
    event.sequence = sequence
    return event


def decode_failure(body: bytes) -> Failure:
    """The failure of a saga's row. One that is damaged says so itself: it must not take a whole list with it."""
    try:
        return Failure.FromString(body)
    except DecodeError:
        return Failure(kind=FAILURE_KIND_UNREADABLE, message="the stored failure cannot be decoded")


def descriptors_digest(descriptors: bytes) -> str:
    """What a descriptor set is stored under: SHA-256, hexadecimal."""
    return hashlib.sha256(descriptors).hexdigest()
