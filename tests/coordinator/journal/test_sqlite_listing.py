import sqlite3
from collections.abc import Iterator

import pytest

from coordinator.core.instants import to_timestamp
from coordinator.journal.port import SagaCursor
from coordinator.journal.queries import SCHEMA
from coordinator.journal.sqlite_listing import (
    Statement,
    failure_mentions,
    find_statement,
    list_statement,
    rarest_first,
    unfinished_statement,
)
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_RUNNING,
    Failure,
)
from tests.coordinator.journal.builders import EPOCH_NS

HERE = SagaCursor(EPOCH_NS, 7)
NOW = to_timestamp(EPOCH_NS)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    connection.create_function("failure_mentions", 2, failure_mentions, deterministic=True)
    yield connection
    connection.close()


def plan(db: sqlite3.Connection, statement: Statement) -> list[str]:
    sql, arguments = statement
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", arguments)]


@pytest.mark.parametrize(
    ("saga_filter", "index"),
    [
        (SagaFilter(), "sagas_newest"),
        (SagaFilter(definition="order", version=1, participant="x", failure_text="t", paused=True), "sagas_newest"),
        (SagaFilter(states=[SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING]), "sagas_newest"),
        (SagaFilter(needs_attention=False), "sagas_newest"),
        (SagaFilter(needs_attention=True, states=[SAGA_STATE_RUNNING]), "sagas_attention"),
        (SagaFilter(states=[SAGA_STATE_RUNNING, SAGA_STATE_FAILED], overdue=True), "sagas_unfinished"),
        (SagaFilter(states=[SAGA_STATE_COMPENSATED]), "sagas_compensated"),
        (SagaFilter(create_time_from=NOW, create_time_until=NOW), "sagas_newest"),
        (SagaFilter(labels={"a": "b", "c": "d"}, states=[SAGA_STATE_RUNNING], create_time_from=NOW), "PRIMARY KEY"),
    ],
    ids=str,
)
@pytest.mark.parametrize("after", [None, HERE], ids=["first page", "next page"])
def test_a_page_walks_one_index_from_its_place_on_and_never_sorts(
    db: sqlite3.Connection, saga_filter: SagaFilter, index: str, after: SagaCursor | None
) -> None:
    steps = plan(db, list_statement(saga_filter, list(saga_filter.labels.items()), after, 10))
    assert index in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps)
    if after is not None:
        assert "create_time_ns<" in steps[0] or "create_time_ns>" in steps[0]


def test_unfinished_pages_walk_the_unfinished_only(db: sqlite3.Connection) -> None:
    steps = plan(db, unfinished_statement(HERE, 10))
    assert "sagas_unfinished (create_time_ns>?)" in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps)


def test_one_saga_is_found_by_its_id(db: sqlite3.Connection) -> None:
    assert "(saga_id=?)" in plan(db, find_statement("a"))[0]


def test_the_rarest_label_leads() -> None:
    assert rarest_first({("region", "eu"): 900, ("order", "17"): 1}) == [("order", "17"), ("region", "eu")]


def test_only_reason_and_message_of_a_failure_are_searched() -> None:
    body = Failure(step="ship", reason="LOST", message="in the post", metadata={"k": "v"}).SerializeToString()
    assert failure_mentions(body, "LOS")
    assert failure_mentions(body, "the post")
    assert not failure_mentions(body, "ship")
    assert not failure_mentions(b"\xff\xffLOST", "LOST")
