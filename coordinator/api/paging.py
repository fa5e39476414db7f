"""Page tokens: a place in a list, opaque to the caller and good for the same filter only.

This module must not know what is listed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from coordinator.api.errors import InvalidPageToken
from coordinator.core import limits

Place = tuple[str | int, ...]

ROOM_BYTES: Final = limits.MESSAGE_BYTES_MAX - 4096
"""What an answer may hold beside its page token and other small fields."""
_FIELD_BYTES: Final = 8  # a message within a message has a tag and a length


def page_size(asked: int, default: int) -> int:
    """How many to list; more than the most is cut to it (AIP-158)."""
    return min(asked, limits.PAGE_SIZE_MAX) if asked else default


def token(place: Place | None, of: Message | str) -> str:
    """The token for the rest of the list; empty where there is none."""
    if place is None:
        return ""
    return base64.urlsafe_b64encode(json.dumps([_fingerprint(of), *place]).encode()).decode().rstrip("=")


def place(page_token: str, of: Message | str, shape: tuple[type, ...]) -> Place | None:
    """The place that a token stands for; None where there is no token. InvalidPageToken."""
    if not page_token:
        return None
    try:
        decoded = json.loads(base64.b64decode(page_token + "=" * (-len(page_token) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidPageToken from None
    if not isinstance(decoded, list) or [type(part) for part in decoded] != [str, *shape]:
        raise InvalidPageToken
    if decoded[0] != _fingerprint(of) or not all(_fits(part) for part in decoded[1:]):
        raise InvalidPageToken
    return tuple(decoded[1:])


def fitting(messages: Sequence[Message]) -> int:
    """How many of them fit into one answer, the first always: a page may hold less than was asked for (AIP-158)."""
    size = 0
    for count, message in enumerate(messages):
        size += message.ByteSize() + _FIELD_BYTES
        if size > ROOM_BYTES:
            return max(count, 1)
    return len(messages)


def _fits(part: str | int) -> bool:
    return isinstance(part, str) or -(1 << 63) <= part < 1 << 63


def _fingerprint(of: Message | str) -> str:
    data = of.encode() if isinstance(of, str) else of.SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()[:16]
