"""Durations as people write them: `5m`, `1.5s`, `100ms`, `2h30m`.

This module must not round: what cannot be said in whole nanoseconds is refused.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from google.protobuf.duration_pb2 import Duration

from coordinator.core.limits import HOUR_NS, MILLISECOND_NS, MINUTE_NS, SECOND_NS

EXPECTED: Final = "a duration such as 5m, 300s, 1.5s, 100ms or 2h30m"

_SECONDS_MAX: Final = 315_576_000_000  # protobuf's own limit, 10,000 years
_NUMBER: Final = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)"
_FORM: Final = re.compile(
    rf"(-?)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?(?:{_NUMBER}us)?(?:{_NUMBER}ns)?"
)
_UNITS_NS: Final = (HOUR_NS, MINUTE_NS, SECOND_NS, MILLISECOND_NS, 1000, 1)


def parse(text: str) -> Duration:
    """The duration that `text` says. Raises ValueError, with what is wrong with it."""
    form = _FORM.fullmatch(text)
    if not form or not any(form.groups()[1:]):
        raise ValueError(f"`{text}` is no duration")
    sign, *numbers = form.groups()
    total_ns = sum(Decimal(number) * unit for number, unit in zip(numbers, _UNITS_NS, strict=True) if number)
    if total_ns != int(total_ns):
        raise ValueError(f"`{text}` is not a whole number of nanoseconds")
    if total_ns > _SECONDS_MAX * SECOND_NS:
        raise ValueError(f"`{text}` is too long")
    seconds, nanos = divmod(int(total_ns), SECOND_NS)
    return Duration(seconds=-seconds, nanos=-nanos) if sign else Duration(seconds=seconds, nanos=nanos)


def write(duration: Duration) -> str:
    """The duration in its shortest usual form; `parse` reads it back."""
    total_ns = duration.seconds * SECOND_NS + duration.nanos
    sign, total_ns = ("-" if total_ns < 0 else ""), abs(total_ns)
    if 0 < total_ns < SECOND_NS:
        unit, unit_ns = next(
            (u, ns) for u, ns in (("ms", MILLISECOND_NS), ("us", 1000), ("ns", 1)) if total_ns % ns == 0
        )
        return f"{sign}{total_ns // unit_ns}{unit}"
    hours, rest_ns = divmod(total_ns, HOUR_NS)
    minutes, rest_ns = divmod(rest_ns, MINUTE_NS)
    seconds = f"{Decimal(rest_ns) / SECOND_NS:f}"
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{seconds}s" if rest_ns else ""]
    return sign + "".join(parts) if total_ns else "0s"
