import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.journal.errors import UnreadableSaga
from coordinator.journal.port import Append
from coordinator.journal.queries import SCHEMA
from coordinator.journal.sqlite_appends import encode_append, write_appends
from coordinator.journal.sqlite_listing import failure_mentions
from coordinator.journal.sqlite_sagas import decode_events, find_saga, list_sagas, read_events
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, Failure
from tests.coordinator.journal.builders import EPOCH_NS, UNKNOWN_EVENT, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(SCHEMA)
    connection.create_function("failure_mentions", 2, failure_mentions, deterministic=True)
    yield connection
    connection.close()


def write(db: sqlite3.Connection, *appends: Append) -> None:
    assert write_appends(db, [encode_append(append) for append in appends]) == [None] * len(appends)


def test_a_missing_event_makes_its_saga_unreadable(db: sqlite3.Connection) -> None:
    write(db, start("a", 4))
    db.execute("DELETE FROM events WHERE sequence = 3")
    with pytest.raises(UnreadableSaga, match="event 3 is missing"):
        read_events(db, "a", 0, None)
    assert [sequence for sequence, _ in read_events(db, "a", 3, None)] == [4]
    assert [sequence for sequence, _ in read_events(db, "a", 0, 2)] == [1, 2]


def test_a_saga_without_events_is_unreadable_not_empty(db: sqlite3.Connection) -> None:
    write(db, start("a"))
    db.execute("DELETE FROM events")
    with pytest.raises(UnreadableSaga, match="no events"):
        read_events(db, "a", 0, None)


def test_a_damaged_page_makes_the_sagas_on_it_unreadable_and_no_other(db: sqlite3.Connection, path: Path) -> None:
    for number in range(200):
        write(db, start(f"s{number}", 10))
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    page = _page_of_the_last_event(db)
    db.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\xee" * page_size)
    damaged = sqlite3.connect(path)
    assert len(read_events(damaged, "s3", 0, None)) == 10
    with pytest.raises(UnreadableSaga, match="damaged"):
        read_events(damaged, "s199", 0, None)
    damaged.close()


def _page_of_the_last_event(db: sqlite3.Connection) -> int:
    """The last leaf of the table of events: its root page ends in a pointer to it."""
    (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    (_, _, file) = db.execute("PRAGMA database_list").fetchone()
    with Path(file).open("rb") as opened:
        opened.seek((root - 1) * page_size)
        header = opened.read(12)
    assert header[0] == 5  # an inner page of a table
    return int.from_bytes(header[8:12], "big")


def test_an_unknown_event_makes_its_saga_unreadable() -> None:
    with pytest.raises(UnreadableSaga, match="event 2"):
        decode_events("a", [(2, UNKNOWN_EVENT)])


def test_a_damaged_failure_does_not_take_the_list_with_it(db: sqlite3.Connection) -> None:
    write(db, start("a", failure=Failure(reason="R")), start("b", create_time_ns=EPOCH_NS + 1))
    db.execute("UPDATE sagas SET failure = ? WHERE saga_id = 'a'", (b"\xff\xffR",))
    page = list_sagas(db, SagaFilter(), None, 10)
    assert [saga.saga_id for saga in page.items] == ["b", "a"]
    found = find_saga(db, "a")
    assert found is not None
    assert found.failure is not None
    assert found.failure.kind == FAILURE_KIND_UNREADABLE
    assert list_sagas(db, SagaFilter(failure_text="R"), None, 10).items == []


def test_a_rare_label_is_found_among_many_of_a_common_one(db: sqlite3.Connection) -> None:
    appends = [start(f"s{number}", labels={"region": "eu", "order": str(number)}) for number in range(50)]
    write(db, *appends)
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    page = list_sagas(db, SagaFilter(labels={"region": "eu", "order": "17"}), None, 10)
    assert [saga.saga_id for saga in page.items] == ["s17"]
    assert "walked.name = 'order'" in statements[-1]
