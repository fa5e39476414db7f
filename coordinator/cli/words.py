"""States, operations and failures in words, wherever they are shown.

What is newer than this program is shown by its number rather than refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.text import Text

from coordinator.cli.output import short_name
from saga.v1.types_pb2 import FAILURE_KIND_DEADLOCK, Failure, FailureKind, Operation, SagaState

_STYLES: Final[Mapping[str, str]] = {
    "PENDING": "blue",
    "RUNNING": "cyan",
    "EXECUTING": "cyan",
    "CONFIRMING": "cyan",
    "COMPLETED": "green",
    "CONFIRMED": "green",
    "REJECTED": "red",
    "UNKNOWN": "magenta",
    "COMPENSATING": "yellow",
    "COMPENSATED": "yellow",
    "SKIPPED": "dim",
    "WAITING": "dim",
    "COMPENSATION_FAILED": "bold red",
    "FAILED": "bold red",
}

# What a kind means, for failures that say no more themselves.
_MEANINGS: Final[Mapping[FailureKind.ValueType, str]] = {
    FAILURE_KIND_DEADLOCK: "the holder of an exclusive key waits, directly or not, for what this saga's own root holds",
}


def count(number: int, noun: str) -> str:
    """`1 path`, `2 paths`, `1,000 crashes`."""
    plural = "es" if noun.endswith("sh") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def coloured(state: str) -> Text:
    """The name of a saga's or a step's state in its colour."""
    return Text(state, style=_STYLES.get(state, ""))


def state_text(state: SagaState.ValueType) -> Text:
    """A saga's state in its colour."""
    return coloured(short_name(SagaState.DESCRIPTOR, state))


def operation_name(operation: Operation.ValueType) -> str:
    """`execute`; empty where none is meant."""
    return short_name(Operation.DESCRIPTOR, operation).lower() if operation else ""


def failure_text(failure: Failure, *, where: str | None = None) -> str:
    """A failure in one line. `where`, if given, is said instead of its step and operation."""
    if where is None:
        where = " ".join(part for part in (failure.step, operation_name(failure.operation)) if part)
    place = f" at {where}" if where else ""
    code = f" (gRPC status {failure.grpc_code})" if failure.grpc_code else ""
    what = ": ".join(part for part in (failure.reason, failure.message) if part) or _MEANINGS.get(failure.kind, "")
    more = ", ".join(f"{key}={value}" for key, value in sorted(failure.metadata.items()))
    kind = short_name(FailureKind.DESCRIPTOR, failure.kind)
    return f"{kind}{place}{code}{f': {what}' if what else ''}{f' [{more}]' if more else ''}"


def labels_text(labels: Mapping[str, str]) -> str:
    """`key=value key=value`, by key."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
