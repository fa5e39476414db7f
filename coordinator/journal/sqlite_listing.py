"""From a filter to the statement that lists sagas.

Pages are found by key, not by offset, and every statement names the index that it walks: in order of creation, never
sorting, so that a page costs what it holds and what it passes on the way. A filter offers several walks, one for each
index that holds all it lets through; whoever lists counts how far each goes, and takes the shortest. Only what that
walk does not answer is looked at saga by saga. So what stays slow is little: two conditions that many sagas meet, and
hardly any meets both. This module must not execute anything.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.instants import from_timestamp
from coordinator.journal.codec import decode_failure
from coordinator.journal.port import INSTANT_NS_MAX, EndedCursor, SagaCursor
from coordinator.journal.queries import QUERIES
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING

Statement = tuple[str, list[object]]

STRETCHES_MAX: Final = 256  # SQLite merges at most 500


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of an index that holds sagas in order of creation."""

    part: str
    arguments: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Walk:
    """A way past all sagas that a filter can let through: one stretch, or several that are merged.

    `table` is the one whose index is walked; `count_part` stands for the part where only a number is wanted.
    """

    stretches: tuple[Stretch, ...]
    table: str = "sagas"
    count_part: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed and from where on. `pins` are those that the filter's `pins_statement` finds; None: any."""

    saga_filter: SagaFilter
    pins: Sequence[int] | None = None
    after: SagaCursor | None = None
    oldest_first: bool = False


def find_statement(saga_id: str) -> Statement:
    """The row of one saga."""
    return _select("find_part"), [saga_id]


def unfinished_statement(after: SagaCursor | None, limit: int) -> Statement:
    """Rows of sagas that have not ended, oldest first."""
    query = _Query(_select("unfinished_part"))
    _add_place(query, "sagas", after, oldest_first=True)
    return query.finish("ORDER BY sagas.create_time_ns, sagas.saga LIMIT ?", limit)


def keyed_statement(after: SagaCursor | None, limit: int) -> Statement:
    """Rows of sagas whose exclusive keys are not free, oldest first. What it sorts are children of unfinished roots."""
    queries = [_Query(_select(part)) for part in ("keyed_unfinished_part", "keyed_below_part")]
    for query in queries:
        _add_place(query, "sagas", after, oldest_first=True)
    return _merged(queries).finish("ORDER BY sagas.create_time_ns, sagas.saga LIMIT ?", limit)


def ended_statement(before_ns: int, after: EndedCursor | None, limit: int) -> Statement:
    """Rows of sagas that ended before an instant and whose roots have ended, the earliest first."""
    query = _Query(_select("ended_part"), [before_ns])
    if after is not None:
        query.add("(sagas.end_time_ns, sagas.saga) > (?, ?)", after.end_time_ns, after.key)
    return query.finish("ORDER BY sagas.end_time_ns, sagas.saga LIMIT ?", limit)


def pins_statement(saga_filter: SagaFilter) -> Statement | None:
    """The pins that the filter lets through; None where it lets any through."""
    definition, version, participant = saga_filter.definition, saga_filter.version, saga_filter.participant
    if not (definition or version or participant):
        return None
    return QUERIES["find_pins"], [definition, version, participant, participant]


def walks(asked: Listing) -> list[Walk]:
    """The walks that lead past every saga which is asked for; first those likely to be short in a large journal."""
    wanted = asked.saga_filter
    found: list[Walk] = []
    if wanted.exclusive_key:
        found.append(Walk((Stretch("key_part", (wanted.exclusive_key,)),), "walked", "key_count_part"))
    if wanted.parent_saga_id:
        found.append(_along("parent_part", wanted.parent_saga_id))
    found += [Walk((Stretch("label_part", label),), "walked", "label_count_part") for label in wanted.labels.items()]
    marks = (
        ("attention_part", wanted.needs_attention),
        ("paused_part", wanted.paused),
        ("overdue_part", wanted.overdue),
    )
    found += [_along(part) for part, is_wanted in marks if is_wanted]
    if wanted.states and SAGA_STATE_COMPLETED not in wanted.states:
        found.append(Walk(_state_stretches(set(wanted.states))))
    if wanted.failure_text:
        found.append(_along("failing_part"))
    if asked.pins is not None and len(asked.pins) <= STRETCHES_MAX:
        found.append(Walk(tuple(Stretch("pin_part", (pin,)) for pin in asked.pins)))
    return found or [_along("newest_part")]


def count_statement(asked: Listing, walk: Walk, most: int) -> Statement:
    """How many sagas the walk has ahead of it, from its place on and within the time asked for; at most `most`."""
    queries = []
    for stretch in walk.stretches:
        query = _Query(f"{QUERIES['counted_part']} {QUERIES[walk.count_part or stretch.part]}", [*stretch.arguments])
        _add_bounds(query, walk.table, asked)
        queries.append(query)
    text, arguments = _merged(queries).finish("LIMIT ?", most)
    return f"{QUERIES['count_part']} ({text})", arguments


def list_statement(asked: Listing, walk: Walk, limit: int) -> Statement:
    """Rows of the sagas that are asked for, found along the walk."""
    queries = []
    for stretch in walk.stretches:
        query = _Query(_select(stretch.part), [*stretch.arguments])
        _add_bounds(query, walk.table, asked)
        _add_conditions(query, asked, stretch)
        queries.append(query)
    direction = "ASC" if asked.oldest_first else "DESC"
    order = f"ORDER BY {walk.table}.create_time_ns {direction}, {walk.table}.saga {direction} LIMIT ?"
    return _merged(queries).finish(order, limit)


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


def _merged(queries: Sequence[_Query]) -> _Query:
    """All of them as one. With an ORDER BY that each index gives, SQLite merges them row by row."""
    return _Query(
        " UNION ALL ".join(query.text for query in queries),
        [argument for query in queries for argument in query.arguments],
    )


def _along(part: str, *arguments: object) -> Walk:
    return Walk((Stretch(part, arguments),))


def _state_stretches(states: set[int]) -> tuple[Stretch, ...]:
    """Each state has its stretch, but for RUNNING: that is most of what has not ended."""
    if SAGA_STATE_RUNNING not in states:
        return tuple(Stretch("state_part", (state,)) for state in sorted(states))
    unfinished = Stretch("unfinished_part")
    return (
        (unfinished, Stretch("state_part", (SAGA_STATE_COMPENSATED,)))
        if SAGA_STATE_COMPENSATED in states
        else (unfinished,)
    )


def _add_bounds(query: _Query, table: str, asked: Listing) -> None:
    """From the place on, and within the time asked for: what the index itself answers."""
    _add_place(query, table, asked.after, oldest_first=asked.oldest_first)
    if asked.saga_filter.HasField("create_time_from"):
        query.add(f"{table}.create_time_ns >= ?", _instant(asked.saga_filter.create_time_from))
    if asked.saga_filter.HasField("create_time_until"):
        query.add(f"{table}.create_time_ns < ?", _instant(asked.saga_filter.create_time_until))


def _add_place(query: _Query, table: str, after: SagaCursor | None, *, oldest_first: bool) -> None:
    if after is not None:
        behind = ">" if oldest_first else "<"
        query.add(f"({table}.create_time_ns, {table}.saga) {behind} (?, ?)", after.create_time_ns, after.key)


def _add_conditions(query: _Query, asked: Listing, stretch: Stretch) -> None:
    """What is asked of each saga, quick questions first; costly ones only where the stretch leaves them open."""
    wanted = asked.saga_filter
    if wanted.states:
        states = sorted(set(wanted.states))
        query.add(f"sagas.state IN ({', '.join('?' * len(states))})", *states)
    if wanted.HasField("needs_attention"):
        query.add("sagas.needs_attention = ?", wanted.needs_attention)
    if wanted.HasField("paused"):
        query.add("sagas.paused = ?", wanted.paused)
    if wanted.HasField("overdue"):
        query.add("sagas.overdue = ?", wanted.overdue)
    if wanted.parent_saga_id:
        query.add("sagas.parent_saga_id = ?", wanted.parent_saga_id)
    if asked.pins is not None and stretch.part != "pin_part":
        query.add(QUERIES["has_pin_part"], json.dumps(list(asked.pins)))
    if wanted.failure_text:
        query.add(QUERIES["failure_mentions_part"], wanted.failure_text, wanted.failure_text)
    if wanted.exclusive_key and stretch.part != "key_part":
        query.add(QUERIES["has_key_part"], wanted.exclusive_key)
    labels = {name: value for name, value in wanted.labels.items() if (name, value) != stretch.arguments}
    if labels:
        query.add(QUERIES["has_labels_part"], json.dumps(labels))


def _instant(message: Timestamp) -> int:
    """An instant that SQLite can hold: a timestamp reaches further than 64 bits of nanoseconds, sagas do not."""
    return max(0, min(from_timestamp(message), INSTANT_NS_MAX))
