"""Instants and durations: integers of nanoseconds inside the core, protobuf's messages outside of it.

An integer compares, adds and takes the minimum without surprises; a float would lose nanoseconds. This module must
not read a clock.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.limits import SECOND_NS


def to_timestamp(instant_ns: int) -> Timestamp:
    """An instant as a message."""
    message = Timestamp()
    message.seconds, message.nanos = divmod(instant_ns, SECOND_NS)
    return message


def put_instant(message: Timestamp, instant_ns: int | None) -> None:
    """Set a field of a message to an instant, where there is one; without the copy that handing one over makes."""
    if instant_ns is not None:
        message.seconds, message.nanos = divmod(instant_ns, SECOND_NS)


def from_timestamp(message: Timestamp) -> int:
    """An instant from a message."""
    return message.seconds * SECOND_NS + message.nanos


def to_duration(length_ns: int) -> Duration:
    """A duration, not negative, as a message."""
    message = Duration()
    message.seconds, message.nanos = divmod(length_ns, SECOND_NS)
    return message


def from_duration(message: Duration) -> int:
    """A duration from a message."""
    return message.seconds * SECOND_NS + message.nanos


def earliest(*instants_ns: int | None) -> int | None:
    """The earliest of those that are set (G9); None where none is."""
    found = None
    for instant_ns in instants_ns:
        if instant_ns is not None and (found is None or instant_ns < found):
            found = instant_ns
    return found
