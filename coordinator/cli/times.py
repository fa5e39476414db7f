"""Instants and lengths as people read them at night: UTC, and no more digits than matter.

This module must not read a clock: `now` is an argument.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.instants import from_timestamp, to_duration
from coordinator.core.limits import MILLISECOND_NS, MINUTE_NS, SECOND_NS
from coordinator.dataflow import durations

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS_NS: Final = ((10 * SECOND_NS, MILLISECOND_NS), (MINUTE_NS, 100 * MILLISECOND_NS))


def instant(timestamp: Timestamp) -> str:
    """`2026-01-31T12:00:00.123Z`: what `--since` and ISO 8601 parsers take back."""
    moment = _EPOCH + timedelta(milliseconds=from_timestamp(timestamp) // MILLISECOND_NS)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def length(length_ns: int) -> str:
    """`12ms`, `1.234s`, `12.3s`, `2h3m4s`: the longer, the coarser."""
    whole_ns = max(length_ns, 0)
    step_ns = next((step_ns for below_ns, step_ns in _STEPS_NS if whole_ns < below_ns), SECOND_NS)
    return durations.write(to_duration((whole_ns + step_ns // 2) // step_ns * step_ns))


def between(start: Timestamp, end: Timestamp) -> str:
    """How long it took."""
    return length(from_timestamp(end) - from_timestamp(start))


def offset(timestamp: Timestamp, start_ns: int) -> str:
    """`+1.234s` after the start."""
    return f"+{length(from_timestamp(timestamp) - start_ns)}"


def until(timestamp: Timestamp, now_ns: int) -> str:
    """The instant, and how far away it is."""
    left_ns = from_timestamp(timestamp) - now_ns
    return f"{instant(timestamp)} ({f'in {length(left_ns)}' if left_ns >= 0 else f'{length(-left_ns)} ago'})"
