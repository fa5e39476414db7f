import sqlite3
from collections.abc import Iterator

import pytest

from coordinator.journal.port import DefinitionCursor
from coordinator.journal.queries import SCHEMA
from coordinator.journal.sqlite_definitions import (
    deprecate_definition,
    find_definition,
    find_descriptors,
    list_definitions,
    put_definition,
)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


def test_a_descriptor_set_is_stored_once(db: sqlite3.Connection) -> None:
    for content in (b"one", b"two"):
        put_definition(db, "order", content, content.hex(), b"types", 5)
    put_definition(db, "refund", b"one", "1", b"types", 5)
    assert db.execute("SELECT content FROM descriptors").fetchall() == [(b"types",)]


def test_a_known_digest_writes_nothing(db: sqlite3.Connection) -> None:
    first = put_definition(db, "order", b"one", "1", b"types", 5)
    before = db.total_changes
    again = put_definition(db, "order", b"one", "1", b"types", 6)
    assert db.total_changes == before
    assert (again.definition, again.created) == (first.definition, False)


def test_a_version_is_found_and_listed_as_it_was_put(db: sqlite3.Connection) -> None:
    stored = put_definition(db, "order", b"one", "1", b"types", 5).definition
    assert find_definition(db, "order", 1) == find_definition(db, "order", 0) == stored
    assert list_definitions(db, "", None, 1).items == [stored]
    assert list_definitions(db, "", DefinitionCursor("order", 1), 1).items == []
    assert find_descriptors(db, stored.descriptors_digest) == b"types"


def test_deprecating_touches_one_version(db: sqlite3.Connection) -> None:
    for content in (b"one", b"two"):
        put_definition(db, "order", content, content.hex(), b"types", 5)
    assert deprecate_definition(db, "order", 1) is not None
    assert deprecate_definition(db, "order", 3) is None
    assert [item.deprecated for item in list_definitions(db, "order", None, 9).items] == [False, True]
