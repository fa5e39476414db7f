import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.journal.errors import Conflict, JournalError, SagaExists, SagaNotFound
from coordinator.journal.port import Append
from coordinator.journal.queries import SCHEMA
from coordinator.journal.sqlite_appends import encode_append, probe, quarantine, write_appends
from tests.coordinator.journal.builders import follow, index, show, start


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


def write(db: sqlite3.Connection, *appends: Append) -> list[JournalError | None]:
    return write_appends(db, [encode_append(append) for append in appends])


def commits(db: sqlite3.Connection) -> list[str]:
    """From now on, how transactions end."""
    ends: list[str] = []
    db.set_trace_callback(lambda sql: ends.append(sql) if sql in ("COMMIT", "ROLLBACK") else None)
    return ends


def test_an_append_is_encoded_before_it_is_written() -> None:
    encoded = encode_append(start("a", 3))
    assert (encoded.saga_id, encoded.first_sequence, len(encoded.events)) == ("a", 1, 3)
    assert encoded.size_bytes > 30
    assert encoded.created is not None
    assert encoded.updated is None
    assert encode_append(follow("a", 4)).updated is None
    assert encode_append(show("a", 4)).updated is not None


def test_a_group_that_fits_is_one_commit(db: sqlite3.Connection) -> None:
    ends = commits(db)
    assert write(db, start("a"), follow("a", 2), start("b"), show("a", 3)) == [None] * 4
    assert ends == ["COMMIT"]
    assert db.execute("SELECT saga, sequence FROM events ORDER BY rowid").fetchall() == [(1, 1), (1, 2), (2, 1), (1, 3)]


def test_one_that_does_not_fit_costs_its_group_a_second_try_and_nothing_else(db: sqlite3.Connection) -> None:
    write(db, start("a"))
    ends = commits(db)
    outcomes = write(
        *(db, start("b"), follow("a", 5), start("a"), start("c", uid=index("b").uid), follow("x", 2), follow("b", 2))
    )
    assert [type(outcome) for outcome in outcomes] == [
        *(type(None), Conflict, SagaExists, SagaExists, SagaNotFound, type(None))
    ]
    assert ends == ["ROLLBACK", "COMMIT"]
    assert db.execute("SELECT saga_id, sequence FROM events JOIN sagas USING (saga)").fetchall() == [
        *(("a", 1), ("b", 1), ("b", 2))
    ]


def test_a_refused_append_leaves_its_index_unwritten(db: sqlite3.Connection) -> None:
    write(db, start("a"))
    assert isinstance(write(db, show("a", 3, paused=True))[0], Conflict)
    assert db.execute("SELECT paused FROM sagas").fetchall() == [(0,)]


def test_g12_the_table_itself_refuses_a_sequence_twice(db: sqlite3.Connection) -> None:
    write(db, start("a"))
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO events VALUES (1, 1, x'00')")


def test_what_sagas_have_in_common_is_said_once(db: sqlite3.Connection) -> None:
    fields: dict[str, Any] = {"participants": ("x", "y")}
    write(db, start("a", **fields), start("b", **fields))
    write(db, start("c", **fields), start("d", version=2, **fields))
    assert db.execute("SELECT count(*) FROM pins").fetchone() == (2,)


def test_quarantine_of_an_unknown_saga_is_not_found(db: sqlite3.Connection) -> None:
    with pytest.raises(SagaNotFound):
        quarantine(db, "a", "odd")


def test_a_probe_commits_and_leaves_no_trace(db: sqlite3.Connection) -> None:
    ends, before = commits(db), db.total_changes
    probe(db)
    assert ends == ["COMMIT"]
    assert db.total_changes > before
    assert db.execute("SELECT count(*) FROM probes").fetchone() == (0,)


def test_a_key_that_is_named_twice_does_not_fail_the_group(db: sqlite3.Connection) -> None:
    assert write(db, start("a", exclusive_keys=("k", "k")), start("b", exclusive_keys=("k",))) == [None, None]
    assert db.execute("SELECT key, saga FROM exclusive_keys").fetchall() == [("k", 1), ("k", 2)]
