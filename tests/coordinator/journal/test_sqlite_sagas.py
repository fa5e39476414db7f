import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.core.instants import to_timestamp
from coordinator.journal.errors import UnreadableSaga
from coordinator.journal.port import Append
from coordinator.journal.queries import SCHEMA
from coordinator.journal.sqlite_appends import encode_append, write_appends
from coordinator.journal.sqlite_listing import failure_mentions
from coordinator.journal.sqlite_sagas import decode_events, find_saga, keyed_sagas, list_sagas, read_events
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, Failure
from tests.coordinator.journal.builders import EPOCH_NS, UNKNOWN_EVENT, start

LATER = to_timestamp(EPOCH_NS + 1)


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


@pytest.mark.parametrize(
    ("saga_filter", "walked"),
    [
        (SagaFilter(labels={"region": "eu", "order": "17"}), "walked.name = 'order'"),
        (SagaFilter(labels={"region": "eu"}, paused=True), "sagas_paused"),
        (SagaFilter(labels={"region": "eu"}, definition="order"), "walked.name = 'region'"),
        (SagaFilter(labels={"order": "17"}, paused=True, create_time_from=LATER), "walked.name = 'order'"),
    ],
    ids=str,
)
def test_a_list_goes_where_it_meets_the_fewest(db: sqlite3.Connection, saga_filter: SagaFilter, walked: str) -> None:
    """Within the time asked for; of those that are as long the first: likely the shorter one as a journal grows."""
    appends = [start(f"s{number}", labels={"region": "eu", "order": str(number)}) for number in range(50)]
    found = start("found", create_time_ns=EPOCH_NS + 1, paused=True, labels={"region": "eu", "order": "50"})
    write(db, *appends, found)
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    list_sagas(db, saga_filter, None, 10)
    assert walked in statements[-1]


def test_no_pin_is_no_saga(db: sqlite3.Connection) -> None:
    write(db, start("a"))
    assert list_sagas(db, SagaFilter(definition="nobody"), None, 10).items == []


def test_damaged_keys_do_not_take_the_list_with_it(db: sqlite3.Connection) -> None:
    write(db, start("a", exclusive_keys=("k",)), start("b", exclusive_keys=("k",)))
    db.execute("UPDATE sagas SET exclusive_keys = 'not json' WHERE saga_id = 'a'")
    assert [(saga.saga_id, saga.exclusive_keys) for saga in keyed_sagas(db, None, 10).items] == [
        ("a", ()),
        ("b", ("k",)),
    ]


def test_a_saga_without_keys_pays_nothing_for_those_that_have_some(db: sqlite3.Connection) -> None:
    write(db, start("a"))
    assert db.execute("SELECT exclusive_keys, root_saga_id FROM sagas").fetchall() == [(None, "")]
    assert db.execute("SELECT count(*) FROM exclusive_keys").fetchone() == (0,)
