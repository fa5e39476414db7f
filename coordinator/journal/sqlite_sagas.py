"""Reads sagas: their events, and the rows that lists show.

The functions run on a reading connection's thread, each on what is committed at that moment. This module must not
write.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeVar

from coordinator.journal.codec import decode_event, decode_failure
from coordinator.journal.errors import SagaNotFound, UnreadableSaga
from coordinator.journal.port import EndedCursor, Page, SagaCursor, SagaIndex
from coordinator.journal.queries import QUERIES
from coordinator.journal.sqlite_database import sqlite_code
from coordinator.journal.sqlite_listing import (
    Listing,
    Statement,
    Walk,
    count_statement,
    ended_statement,
    find_statement,
    keyed_statement,
    list_statement,
    pins_statement,
    unfinished_statement,
    walks,
)
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SagaState

T = TypeVar("T")
SagaPage = Page[SagaIndex, SagaCursor]

WALK_COUNT_MAX: Final = 10_000  # counting them takes well below a millisecond, looking at as many sagas some twenty
_UNLIMITED: Final = -1
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def read_events(
    db: sqlite3.Connection, saga_id: str, after_sequence: int, limit: int | None
) -> list[tuple[int, bytes]]:
    """Sequences and bodies behind `after_sequence`. Raises SagaNotFound, and UnreadableSaga where one is missing."""
    try:
        rows = db.execute(
            QUERIES["read_events"], (saga_id, after_sequence, _UNLIMITED if limit is None else limit)
        ).fetchall()
        if not rows:
            _check_position(db, saga_id)
    except sqlite3.DatabaseError as error:
        if sqlite_code(error) not in _DAMAGED:
            raise
        raise UnreadableSaga(saga_id, f"the file is damaged: {error}") from error
    for expected, (sequence, _) in enumerate(rows, after_sequence + 1):
        if sequence != expected:
            raise UnreadableSaga(saga_id, f"event {expected} is missing")
    return rows


def decode_events(saga_id: str, rows: Sequence[tuple[int, bytes]]) -> list[SagaEvent]:
    """The events of rows. Raises UnreadableSaga."""
    return [decode_event(saga_id, sequence, body) for sequence, body in rows]


def read_many(db: sqlite3.Connection, saga_ids: Sequence[str]) -> dict[str, list[SagaEvent]]:
    """All events of each saga that is there and can be read."""
    found = {}
    for saga_id in saga_ids:
        with suppress(SagaNotFound, UnreadableSaga):
            found[saga_id] = decode_events(saga_id, read_events(db, saga_id, 0, None))
    return found


def find_saga(db: sqlite3.Connection, saga_id: str) -> SagaIndex | None:
    """One saga's row."""
    rows = _fetch(db, find_statement(saga_id))
    return _saga(rows[0]) if rows else None


def unfinished_sagas(db: sqlite3.Connection, after: SagaCursor | None, limit: int) -> SagaPage:
    """A page of sagas that have not ended."""
    return _page(_fetch(db, unfinished_statement(after, limit + 1)), limit)


def ended_sagas(
    db: sqlite3.Connection, before_ns: int, after: EndedCursor | None, limit: int
) -> Page[SagaIndex, EndedCursor]:
    """A page of sagas that ended before an instant."""
    rows = _fetch(db, ended_statement(before_ns, after, limit + 1))
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(
        items=[_saga(row) for row in shown],
        next=EndedCursor(shown[-1]["end_time_ns"], shown[-1]["saga"]) if more else None,
    )


def count_unfinished(db: sqlite3.Connection) -> dict[tuple[str, int], int]:
    """How many have not ended, by definition and version."""
    return {(name, version): count for name, version, count in db.execute(QUERIES["count_unfinished"])}


def keyed_sagas(db: sqlite3.Connection, after: SagaCursor | None, limit: int) -> SagaPage:
    """A page of sagas whose exclusive keys are not free."""
    return _page(_fetch(db, keyed_statement(after, limit + 1)), limit)


def list_sagas(
    db: sqlite3.Connection, saga_filter: SagaFilter, after: SagaCursor | None, limit: int, oldest_first: bool = False
) -> SagaPage:
    """A page of the sagas that the filter lets through."""
    statement = pins_statement(saga_filter)
    pins = None if statement is None else [pin for (pin,) in db.execute(*statement)]
    if pins == []:
        return Page(items=[], next=None)
    asked = Listing(saga_filter, pins, after, oldest_first)
    return _page(_fetch(db, list_statement(asked, _shortest(db, asked), limit + 1)), limit)


def _shortest(db: sqlite3.Connection, asked: Listing) -> Walk:
    """The walk with the fewest sagas ahead of it; of those that are all long, the first."""
    possible = walks(asked)
    if len(possible) == 1:
        return possible[0]
    return min(possible, key=lambda walk: _count(db, count_statement(asked, walk, WALK_COUNT_MAX)))


def _check_position(db: sqlite3.Connection, saga_id: str) -> None:
    position = db.execute(QUERIES["position"], (saga_id,)).fetchone()
    if position is None:
        raise SagaNotFound(saga_id)
    if position[0] == 0:
        raise UnreadableSaga(saga_id, "it has no events")


def _count(db: sqlite3.Connection, statement: Statement) -> int:
    (count,) = db.execute(*statement).fetchone()
    return int(count)


def _fetch(db: sqlite3.Connection, statement: Statement) -> list[sqlite3.Row]:
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(*statement).fetchall()


def _page(rows: Sequence[sqlite3.Row], limit: int) -> SagaPage:
    """A page of `limit` rows; one more than that says that there is another page."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(
        items=[_saga(row) for row in shown],
        next=SagaCursor(shown[-1]["create_time_ns"], shown[-1]["saga"]) if more else None,
    )


def _saga(row: sqlite3.Row) -> SagaIndex:
    return SagaIndex(
        saga_id=row["saga_id"],
        uid=row["uid"],
        definition=row["definition"],
        version=row["version"],
        state=SagaState.ValueType(row["state"]),
        create_time_ns=row["create_time_ns"],
        last_sequence=row["last_sequence"],
        start_time_ns=row["start_time_ns"],
        end_time_ns=row["end_time_ns"],
        deadline_ns=row["deadline_ns"],
        needs_attention=bool(row["needs_attention"]),
        paused=bool(row["paused"]),
        overdue=bool(row["overdue"]),
        failure=None if row["failure"] is None else decode_failure(row["failure"]),
        parent_saga_id=row["parent_saga_id"],
        root_saga_id=row["root_saga_id"],
        exclusive_keys=tuple(_decoded(row["exclusive_keys"], [])),
        labels=_decoded(row["labels"], {}),
        participants=tuple(_decoded(row["participants"], [])),
    )


def _decoded(text: str, otherwise: T) -> T:
    """What JSON says; a damaged column must not take a whole list with it, nor the saga: its events say it too."""
    try:
        value = json.loads(text)
    except ValueError:
        return otherwise
    return value if isinstance(value, type(otherwise)) else otherwise
