"""From a filter to the statement that lists sagas.

Pages are found by key, not by offset, and every statement names the index that it walks: newest first, never sorting,
so that a page costs what it holds. Only what no index answers is looked at row by row. This module must not execute
anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.instants import from_timestamp
from coordinator.journal.codec import decode_failure
from coordinator.journal.port import INSTANT_NS_MAX, EndedCursor, SagaCursor
from coordinator.journal.queries import QUERIES
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED

Statement = tuple[str, list[object]]

_ENDED: Final = frozenset((SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED))


def find_statement(saga_id: str) -> Statement:
    """The row of one saga."""
    return _select("find_part"), [saga_id]


def unfinished_statement(after: SagaCursor | None, limit: int) -> Statement:
    """Rows of sagas that have not ended, oldest first."""
    query = _Query(_select("unfinished_part"))
    if after is not None:
        query.add("(sagas.create_time_ns, sagas.saga) > (?, ?)", after.create_time_ns, after.key)
    return query.finish("ORDER BY sagas.create_time_ns, sagas.saga LIMIT ?", limit)


def ended_statement(before_ns: int, after: EndedCursor | None, limit: int) -> Statement:
    """Rows of sagas that ended before an instant, the earliest first."""
    query = _Query(_select("ended_part"), [before_ns])
    if after is not None:
        query.add("(sagas.end_time_ns, sagas.saga) > (?, ?)", after.end_time_ns, after.key)
    return query.finish("ORDER BY sagas.end_time_ns, sagas.saga LIMIT ?", limit)


def list_statement(
    saga_filter: SagaFilter, labels: Sequence[tuple[str, str]], after: SagaCursor | None, limit: int
) -> Statement:
    """Rows of the sagas that the filter lets through, newest first. `labels` are the filter's, the rarest first."""
    if labels:
        walked, query = "walked", _Query(_select("label_part"), [*labels[0]])
    else:
        walked, query = "sagas", _Query(_select(_narrowest_part(saga_filter)))
    for name, value in labels[1:]:
        query.add(QUERIES["has_label_part"], name, value)
    _add_conditions(query, saga_filter)
    if after is not None:
        query.add(f"({walked}.create_time_ns, {walked}.saga) < (?, ?)", after.create_time_ns, after.key)
    if saga_filter.HasField("create_time_from"):
        query.add(f"{walked}.create_time_ns >= ?", _instant(saga_filter.create_time_from))
    if saga_filter.HasField("create_time_until"):
        query.add(f"{walked}.create_time_ns < ?", _instant(saga_filter.create_time_until))
    return query.finish(f"ORDER BY {walked}.create_time_ns DESC, {walked}.saga DESC LIMIT ?", limit)


def rarest_first(counts: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Labels in the order in which they narrow a list down best."""
    return sorted(counts, key=counts.__getitem__)


def failure_mentions(failure: bytes, text: str) -> bool:
    """Whether reason or message of a stored failure contains the text; a function of SQL's `failure_mentions`."""
    decoded = decode_failure(failure)
    return text in decoded.reason or text in decoded.message


@dataclass(slots=True)
class _Query:
    """A statement that ends in a WHERE, and what is added to it."""

    text: str
    arguments: list[object] = field(default_factory=list)

    def add(self, condition: str, *arguments: object) -> None:
        self.text += f" AND {condition}"
        self.arguments += arguments

    def finish(self, ending: str, limit: int) -> Statement:
        return f"{self.text} {ending}", [*self.arguments, limit]


def _select(part: str) -> str:
    return f"{QUERIES['columns_part']} {QUERIES[part]}"


def _narrowest_part(saga_filter: SagaFilter) -> str:
    """The smallest index that holds every saga which the filter can let through."""
    states = set(saga_filter.states)
    if saga_filter.needs_attention:
        return "attention_part"
    if states and not states & _ENDED:
        return "unfinished_part"
    if states == {SAGA_STATE_COMPENSATED}:
        return "compensated_part"
    return "newest_part"


def _add_conditions(query: _Query, saga_filter: SagaFilter) -> None:
    if saga_filter.states:
        marks = ", ".join("?" * len(saga_filter.states))
        query.add(f"sagas.state IN ({marks})", *saga_filter.states)
    if saga_filter.definition:
        query.add("pins.definition = ?", saga_filter.definition)
    if saga_filter.version:
        query.add("pins.version = ?", saga_filter.version)
    if saga_filter.HasField("needs_attention"):
        query.add("sagas.needs_attention = ?", saga_filter.needs_attention)
    if saga_filter.HasField("paused"):
        query.add("sagas.paused = ?", saga_filter.paused)
    if saga_filter.HasField("overdue"):
        query.add("sagas.overdue = ?", saga_filter.overdue)
    if saga_filter.participant:
        query.add(QUERIES["has_participant_part"], saga_filter.participant)
    if saga_filter.failure_text:
        query.add(QUERIES["failure_mentions_part"], saga_filter.failure_text, saga_filter.failure_text)


def _instant(message: Timestamp) -> int:
    """An instant that SQLite can hold: a timestamp reaches further than 64 bits of nanoseconds, sagas do not."""
    return max(0, min(from_timestamp(message), INSTANT_NS_MAX))
