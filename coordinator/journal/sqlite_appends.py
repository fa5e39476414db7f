"""Writes appends: from dataclasses and messages to rows, a whole group in one transaction.

The functions that take a plain connection run on its thread, where an exception other than a refusal fails the whole
group. This module must not wait, retry or know of callers.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from coordinator import failpoints
from coordinator.failpoints import Failpoint
from coordinator.journal.codec import encode_event
from coordinator.journal.errors import Conflict, JournalError, SagaExists, SagaNotFound
from coordinator.journal.port import Append, SagaIndex
from coordinator.journal.queries import QUERIES
from coordinator.journal.sqlite_database import transaction
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, Failure

Row: TypeAlias = tuple[object, ...]

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class EncodedAppend:
    """An append as the rows it will become, made before it queues so that the writer's thread does as little as it can.

    `created` is set in a saga's first append, `updated` in a later one with an index.
    """

    saga_id: str
    first_sequence: int
    events: list[Row]
    size_bytes: int
    created: "_CreatedRows | None"
    updated: Row | None


@dataclass(frozen=True, slots=True)
class _CreatedRows:
    uid: str
    pin: Row
    saga: Row
    labels: list[Row]
    keys: list[Row]


class _OutOfPlace(Exception):
    """Some event of the group does not follow its saga's last one."""


def encode_append(append: Append) -> EncodedAppend:
    """The append as rows."""
    bodies = [encode_event(event) for event in append.events]
    first = append.first_sequence
    index = append.index
    return EncodedAppend(
        saga_id=append.saga_id,
        first_sequence=first,
        events=[(number, body, append.saga_id, number - 1) for number, body in enumerate(bodies, first)],
        size_bytes=sum(map(len, bodies)),
        created=_created_rows(index) if index is not None and first == 1 else None,
        updated=(*_status(index), index.saga_id) if index is not None and first > 1 else None,
    )


def write_appends(db: sqlite3.Connection, appends: Sequence[EncodedAppend]) -> list[JournalError | None]:
    """Commit a group; for each append None, or why it was refused.

    First all at once, which is quick. Only if some append does not fit is the group done again one by one, each looked
    at before it writes: nobody else can write in between, so what was seen still holds.
    """
    _reach(Failpoint.JOURNAL_BEFORE_BEGIN, appends)
    outcomes: list[JournalError | None]
    try:
        with transaction(db):
            _write(db, appends)
            _reach(Failpoint.JOURNAL_BEFORE_COMMIT, appends)
        outcomes = [None] * len(appends)
    except (_OutOfPlace, sqlite3.IntegrityError):
        with transaction(db):
            outcomes = [_write_if_fitting(db, append) for append in appends]
            _reach(Failpoint.JOURNAL_BEFORE_COMMIT, appends)
    _reach(Failpoint.JOURNAL_AFTER_COMMIT, appends)
    return outcomes


def quarantine(db: sqlite3.Connection, saga_id: str, reason: str) -> None:
    """Mark a saga as unreadable. Raises SagaNotFound."""
    failure = Failure(kind=FAILURE_KIND_UNREADABLE, message=reason)
    if not db.execute(QUERIES["quarantine"], (failure.SerializeToString(), saga_id)).rowcount:
        raise SagaNotFound(saga_id)


def probe(db: sqlite3.Connection) -> None:
    """Write something that leaves no trace, to see whether the disk takes it."""
    with transaction(db):
        db.execute(QUERIES["probe_write"])
        db.execute(QUERIES["probe_take_back"])


def _write(db: sqlite3.Connection, appends: Sequence[EncodedAppend]) -> None:
    created = [append.created for append in appends if append.created is not None]
    db.executemany(QUERIES["put_pin"], {rows.pin for rows in created})
    db.executemany(QUERIES["create_saga"], [rows.saga for rows in created])
    db.executemany(QUERIES["put_label"], [label for rows in created for label in rows.labels])
    db.executemany(QUERIES["put_key"], [key for rows in created for key in rows.keys])
    _reach(Failpoint.JOURNAL_BETWEEN_ROWS, appends)
    events = [event for append in appends for event in append.events]
    if db.executemany(QUERIES["append_event"], events).rowcount != len(events):
        raise _OutOfPlace
    db.executemany(QUERIES["update_saga"], [append.updated for append in appends if append.updated is not None])


def _write_if_fitting(db: sqlite3.Connection, append: EncodedAppend) -> JournalError | None:
    _reach(Failpoint.JOURNAL_BETWEEN_APPENDS, [append])
    refusal = _refusal(db, append)
    if refusal is None:
        _write(db, [append])
    return refusal


def _reach(point: Failpoint, appends: Sequence[EncodedAppend]) -> None:
    failpoints.hit(point, error=sqlite3.OperationalError, sagas=(append.saga_id for append in appends))


def _refusal(db: sqlite3.Connection, append: EncodedAppend) -> JournalError | None:
    if append.created is not None:
        taken = db.execute(QUERIES["is_taken"], (append.saga_id, append.created.uid) * 2).fetchone()
        return SagaExists(append.saga_id) if taken else None
    position = db.execute(QUERIES["position"], (append.saga_id,)).fetchone()
    if position is None:
        return SagaNotFound(append.saga_id)
    if position[0] != append.first_sequence - 1:
        return Conflict(append.saga_id, append.first_sequence, position[0])
    return None


def _created_rows(index: SagaIndex) -> _CreatedRows:
    pin = (index.definition, index.version, _JSON.encode(index.participants))
    return _CreatedRows(
        uid=index.uid,
        pin=pin,
        saga=(
            *(
                index.saga_id,
                index.uid,
                *pin,
                index.parent_saga_id,
                index.root_saga_id,
                _JSON.encode(index.exclusive_keys) if index.exclusive_keys else None,
                _JSON.encode(dict(index.labels)),
                index.create_time_ns,
            ),
            *_status(index),
        ),
        labels=[(name, value, index.saga_id) for name, value in index.labels.items()],
        keys=[(key, index.saga_id) for key in dict.fromkeys(index.exclusive_keys)],
    )


def _status(index: SagaIndex) -> Row:
    """What later appends change, in the order of the statements that write it."""
    return (
        index.state,
        index.start_time_ns,
        index.end_time_ns,
        index.deadline_ns,
        index.needs_attention,
        index.paused,
        index.overdue,
        None if index.failure is None else index.failure.SerializeToString(),
    )
