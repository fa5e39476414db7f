"""UUIDv7 (RFC 9562, 5.7): names in the order of time, which keeps the journal's indexes compact.

Python's uuid module has it from 3.14 on. This module must not read a clock.
"""

from __future__ import annotations

import os
import uuid

_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0b10 << 62


def uuid7(now_ns: int) -> str:
    """A new one; 48 bits are the millisecond, 74 are random."""
    random = int.from_bytes(os.urandom(10), "big")
    milliseconds = (now_ns // 1_000_000) & ((1 << 48) - 1)
    value = milliseconds << 80 | _VERSION_7 | (random >> 68) << 64 | _VARIANT_RFC | (random & ((1 << 62) - 1))
    return str(uuid.UUID(int=value))
