"""Cuts what participants write down to the limits.

A participant's texts end up in the journal, in logs and in other participants' requests, so they are bounded where they
come in. Nothing here fails: a text that is too long is no reason to doubt what a participant says it did.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from coordinator.core import limits

UNSPECIFIED_REASON: Final = "UNSPECIFIED"

_NOT_OF_A_REASON: Final = re.compile(r"[^A-Z0-9_]+")


def text(value: str, bytes_max: int) -> str:
    """The longest beginning of `value` that fits, ending at a character's boundary."""
    encoded = value.encode()
    return value if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")


def message(value: str) -> str:
    """A text for people."""
    return text(value, limits.FAILURE_MESSAGE_BYTES_MAX)


def reason(value: str) -> str:
    """An UPPER_SNAKE_CASE word that programs can compare; UNSPECIFIED where nothing is left of `value`."""
    word = _NOT_OF_A_REASON.sub("_", value.upper()).strip("_")
    return text(word, limits.FAILURE_REASON_BYTES_MAX) or UNSPECIFIED_REASON


def metadata(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """By key, as many entries as fit; an entry is kept whole or not at all."""
    kept: list[tuple[str, str]] = []
    room = limits.FAILURE_METADATA_BYTES_MAX
    for key, value in sorted(values.items()):
        size = len(key.encode()) + len(value.encode())
        if size <= room and len(kept) < limits.FAILURE_METADATA_ENTRIES_MAX:
            kept.append((key, value))
            room -= size
    return tuple(kept)


def problems(values: Iterable[str]) -> tuple[str, ...]:
    """As many as fit into a description's size, each cut to a message's; then how many more there are."""
    cut = [message(value) for value in values]
    room = limits.DESCRIPTION_BYTES_MAX
    for index, problem in enumerate(cut):
        room -= len(problem.encode())
        if room < 0:
            return (*cut[:index], f"and {len(cut) - index} more")
    return tuple(cut)
