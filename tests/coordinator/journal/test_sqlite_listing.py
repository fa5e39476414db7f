import re
import sqlite3
from collections.abc import Iterator

import pytest

from coordinator.core.instants import to_timestamp
from coordinator.journal.port import EndedCursor, SagaCursor
from coordinator.journal.queries import SCHEMA
from coordinator.journal.sqlite_listing import (
    STRETCHES_MAX,
    Listing,
    Statement,
    count_statement,
    ended_statement,
    failure_mentions,
    find_statement,
    keyed_statement,
    list_statement,
    pins_statement,
    unfinished_statement,
    walks,
)
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
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


PINS = (3, 5, 8)
FROM_THE_PLACE = re.compile(r"create_time_ns(,saga\))?[<>]")
STATES = [SAGA_STATE_FAILED, SAGA_STATE_COMPENSATED]


@pytest.mark.parametrize(
    ("saga_filter", "part", "index"),
    [
        (SagaFilter(), "newest_part", "sagas_newest"),
        (SagaFilter(create_time_from=NOW, create_time_until=NOW), "newest_part", "sagas_newest"),
        (SagaFilter(definition="order"), "pin_part", "sagas_by_pin (pin=?"),
        (SagaFilter(version=1, create_time_until=NOW), "pin_part", "sagas_by_pin (pin=?"),
        (SagaFilter(participant="x", overdue=False), "pin_part", "sagas_by_pin (pin=?"),
        (SagaFilter(states=STATES), "state_part", "sagas_by_state (state=?"),
        (SagaFilter(states=[SAGA_STATE_RUNNING]), "unfinished_part", "sagas_unfinished"),
        (SagaFilter(states=[SAGA_STATE_RUNNING, *STATES]), "unfinished_part", "sagas_unfinished"),
        (SagaFilter(needs_attention=True, failure_text="t"), "attention_part", "sagas_attention"),
        (SagaFilter(paused=True), "paused_part", "sagas_paused"),
        (SagaFilter(overdue=True), "overdue_part", "sagas_overdue"),
        (SagaFilter(failure_text="t", exclusive_key="k"), "failing_part", "sagas_failing"),
        (SagaFilter(parent_saga_id="m"), "parent_part", "sagas_by_parent (parent_saga_id=?"),
        (SagaFilter(exclusive_key="k", parent_saga_id="m"), "key_part", "PRIMARY KEY (key=?"),
        (SagaFilter(labels={"a": "b", "c": "d"}), "label_part", "PRIMARY KEY (name=? AND value=?"),
    ],
    ids=str,
)
@pytest.mark.parametrize("oldest_first", [False, True], ids=["newest first", "oldest first"])
def test_a_walk_goes_along_its_index_from_the_place_on_and_never_sorts(
    db: sqlite3.Connection, saga_filter: SagaFilter, part: str, index: str, oldest_first: bool
) -> None:
    pins = PINS if pins_statement(saga_filter) is not None else None
    walk = next(walk for walk in walks(Listing(saga_filter, pins)) if walk.stretches[0].part == part)
    for after in (None, HERE):
        asked = Listing(saga_filter, pins, after, oldest_first)
        for statement in (list_statement(asked, walk, 10), count_statement(asked, walk, 10)):
            steps = plan(db, statement)
            walked = [step for step in steps if step.startswith(("SCAN sagas", "SEARCH sagas", "SEARCH walked"))]
            walked = [step for step in walked if "rowid=?" not in step]
            assert len(walked) == len(walk.stretches), steps
            assert index in walked[0]
            assert not any("TEMP B-TREE" in step for step in steps)
            if after is not None:
                assert all(FROM_THE_PLACE.search(step) for step in walked)


@pytest.mark.parametrize(
    ("saga_filter", "parts"),
    [
        (SagaFilter(), ["newest_part"]),
        (
            SagaFilter(states=[SAGA_STATE_COMPLETED, SAGA_STATE_FAILED], paused=False, needs_attention=False),
            ["newest_part"],
        ),
        (SagaFilter(states=[SAGA_STATE_COMPENSATED, SAGA_STATE_PENDING]), ["state_part"]),
        (SagaFilter(labels={"a": "b"}, paused=True, failure_text="t"), ["label_part", "paused_part", "failing_part"]),
    ],
    ids=str,
)
def test_a_filter_offers_every_index_that_holds_all_it_lets_through(saga_filter: SagaFilter, parts: list[str]) -> None:
    found = [walk.stretches[0].part for walk in walks(Listing(saga_filter))]
    assert found == parts


def test_running_is_walked_with_all_that_has_not_ended() -> None:
    """Its own stretch would cost every saga; no state is walked twice."""
    wanted = SagaFilter(states=[SAGA_STATE_RUNNING, SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED])
    stretches = walks(Listing(wanted))[0].stretches
    assert [(stretch.part, *stretch.arguments) for stretch in stretches] == [
        ("unfinished_part",),
        ("state_part", SAGA_STATE_COMPENSATED),
    ]


def test_more_pins_than_can_be_merged_are_looked_for_along_all_sagas(db: sqlite3.Connection) -> None:
    wanted = SagaFilter(version=1)
    most, more = Listing(wanted, range(STRETCHES_MAX)), Listing(wanted, range(STRETCHES_MAX + 1))
    assert len(plan(db, list_statement(most, walks(most)[0], 10))) > STRETCHES_MAX
    assert [walk.stretches[0].part for walk in walks(more)] == ["newest_part"]
    assert "sagas_newest" in plan(db, list_statement(more, walks(more)[0], 10))[0]


def test_only_what_names_a_definition_a_version_or_a_participant_asks_for_pins() -> None:
    assert pins_statement(SagaFilter(labels={"a": "b"}, paused=True)) is None
    for wanted in (SagaFilter(definition="order"), SagaFilter(version=1), SagaFilter(participant="x")):
        assert pins_statement(wanted) is not None


def test_keys_that_are_not_free_are_found_without_a_walk_past_what_has_ended(db: sqlite3.Connection) -> None:
    for after in (None, HERE):
        steps = plan(db, keyed_statement(after, 10))
        walked = [step for step in steps if "sagas" in step or "root" in step]
        assert [step.split("USING ")[1].split(" (")[0] for step in walked] == [
            "INDEX sagas_unfinished",
            "INDEX sagas_unfinished",
            "INDEX sagas_keyed_below",
        ], steps


def test_what_has_ended_is_found_in_order_and_its_root_by_id(db: sqlite3.Connection) -> None:
    steps = plan(db, ended_statement(EPOCH_NS, EndedCursor(EPOCH_NS, 7), 10))
    assert "sagas_ended (end_time_ns>? AND end_time_ns<?)" in steps[0]
    assert any("root" in step and "(saga_id=?)" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


def test_unfinished_pages_walk_the_unfinished_only(db: sqlite3.Connection) -> None:
    steps = plan(db, unfinished_statement(HERE, 10))
    assert "sagas_unfinished (create_time_ns>?)" in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps)


def test_one_saga_is_found_by_its_id(db: sqlite3.Connection) -> None:
    assert "(saga_id=?)" in plan(db, find_statement("a"))[0]


def test_only_reason_and_message_of_a_failure_are_searched() -> None:
    body = Failure(step="ship", reason="LOST", message="in the post", metadata={"k": "v"}).SerializeToString()
    assert failure_mentions(body, "LOS")
    assert failure_mentions(body, "the post")
    assert not failure_mentions(body, "ship")
    assert not failure_mentions(b"\xff\xffLOST", "LOST")
