"""Deletes what ended long ago, remembers that it was there, and gives the room back.

The functions run on a connection's thread; those that write, inside the writer's transaction, and as long as one of
them takes nobody else writes: how much one does is its caller's to say. This module must not decide what is old.
"""

import sqlite3
from collections.abc import Sequence

from coordinator.journal.port import Tombstone
from coordinator.journal.queries import QUERIES
from saga.v1.types_pb2 import SagaState


def retire(db: sqlite3.Connection, tombstones: Sequence[Tombstone]) -> int:
    """Delete the sagas that are as their tombstones say; returns how many were."""
    return sum(_retire(db, tombstone) for tombstone in tombstones)


def find_tombstone(db: sqlite3.Connection, saga_id: str) -> Tombstone | None:
    """What a retired saga left."""
    row = db.execute(QUERIES["find_tombstone"], (saga_id,)).fetchone()
    if row is None:
        return None
    found_id, uid, state, request_digest, end_time_ns, retire_time_ns = row
    return Tombstone(found_id, uid, SagaState.ValueType(state), request_digest, end_time_ns, retire_time_ns)


def count_tombstones(db: sqlite3.Connection) -> int:
    """How many retired sagas are remembered."""
    (count,) = db.execute(QUERIES["count_tombstones"]).fetchone()
    return int(count)


def drop_tombstones(db: sqlite3.Connection, before_ns: int, limit: int) -> int:
    """Forget sagas that were retired before an instant; returns how many."""
    return db.execute(QUERIES["drop_tombstones"], (before_ns, limit)).rowcount


def reclaim(db: sqlite3.Connection, bytes_max: int, bytes_kept: int) -> int:
    """Cut free pages off the file; returns how many bytes.

    A file that was made before its pages could be cut off, by schema version 1, keeps them for what comes next.
    """
    page_bytes = _number(db, "page_size")
    free = _number(db, "freelist_count")
    pages = min(free - bytes_kept // page_bytes, bytes_max // page_bytes)
    if pages <= 0:
        return 0
    db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()  # a page is freed only as its row is fetched
    return (free - _number(db, "freelist_count")) * page_bytes


def _retire(db: sqlite3.Connection, tombstone: Tombstone) -> bool:
    left = db.execute(
        QUERIES["leave_tombstone"],
        (
            *(tombstone.request_digest, tombstone.retire_time_ns),
            *(tombstone.saga_id, tombstone.uid, tombstone.state, tombstone.end_time_ns),
        ),
    )
    if not left.rowcount:
        return False
    for deletion in (
        "delete_labels",
        "delete_keys",
        "delete_events",
        "delete_saga",
    ):  # the row last: the others go by it
        db.execute(QUERIES[deletion], (tombstone.saga_id,))
    return True


def _number(db: sqlite3.Connection, pragma: str) -> int:
    (value,) = db.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
