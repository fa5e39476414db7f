"""What a handler can answer besides its output: `Held`, `Pending`, `Noop`, and `Rejected`, which is raised.

Each checks itself when it is made, so that a mistake shows in the handler that makes it.

This module must not know the wire.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from participant_sdk.limits import METADATA_BYTES_MAX, REASON_LENGTH_MAX

_REASON: Final = re.compile(rf"[A-Z][A-Z0-9_]{{0,{REASON_LENGTH_MAX - 1}}}")

T = TypeVar("T")


class Rejected(Exception):
    """The operation is refused, and nothing took effect.

    It is a promise: no attempt up to this one has had or will have an effect. What the handler wrote is rolled back
    (except out of `Pending`: then it is the clean-up, and is kept). Of Execute the saga goes back; of Compensate and
    Confirm an operator is needed. Raise it only if that is certain: any other exception leaves the outcome unknown,
    and another attempt follows.

    `reason` is an UPPER_SNAKE_CASE word that programs compare, `message` is for people, `metadata` for programs.
    """

    def __init__(self, reason: str, message: str = "", **metadata: str) -> None:
        if not _REASON.fullmatch(reason):
            raise ValueError(f"not an UPPER_SNAKE_CASE word of 1 to {REASON_LENGTH_MAX} letters: {reason!r}")
        if sum(len(text.encode()) for entry in metadata.items() for text in entry) > METADATA_BYTES_MAX:
            raise ValueError(f"a rejection's metadata is at most {METADATA_BYTES_MAX} bytes")
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        self.message = message
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """Execute of a RESERVABLE action succeeded, and the hold is kept `until` then (with a time zone)."""

    output: T
    until: datetime

    def __post_init__(self) -> None:
        if self.until.tzinfo is None:
            raise ValueError("Held(until=...) needs a time zone, for instance datetime.now(UTC) + timedelta(...)")


@dataclass(frozen=True, slots=True)
class Pending:
    """The operation is accepted, and the result comes later.

    What the handler wrote is committed. The coordinator asks again after `poll_after` (unset: 30 s; 10 ms to 24 h
    are honoured), or the participant reports through `CoordinatorService.CompleteStep`. `needs_attention` says that it
    does not go on without an operator: the saga is marked so until an answer no longer says it.
    """

    poll_after: timedelta | None = None
    message: str = ""
    needs_attention: bool = False

    def __post_init__(self) -> None:
        if self.poll_after is not None and self.poll_after < timedelta(0):
            raise ValueError(f"Pending(poll_after=...) is a duration, not negative: {self.poll_after}")


@dataclass(frozen=True, slots=True)
class Noop:
    """Compensate found nothing to compensate."""
