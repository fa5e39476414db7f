"""What the demo prints: timelines in the order of what happened, rows as they are, sums that tell the truth."""

import sqlite3
from contextlib import closing
from io import StringIO
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, RenderableType

from saga.v1.coordinator_pb2 import KeyWait, OperationProgress, ParentWait, Saga, Step, StepWait, TimerWait, Wait
from saga.v1.types_pb2 import (
    FAILURE_KIND_LOST,
    FAILURE_KIND_REJECTED,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    STEP_KIND_COMPENSATABLE,
    STEP_STATE_COMPENSATED,
    STEP_STATE_REJECTED,
    STEP_STATE_WAITING,
    Failure,
)
from sample_services.demo import show
from sample_services.demo.sample import Sum


def printed(table: RenderableType) -> list[str]:
    """Return the lines without the white space between their columns."""
    out = StringIO()
    Console(file=out, width=160).print(table)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def progress(start_ms: int, end_ms: int | None, attempts: int = 1, failure: Failure | None = None) -> OperationProgress:
    end = None if end_ms is None else Timestamp(nanos=end_ms * 1_000_000)
    return OperationProgress(
        attempts=attempts, start_time=Timestamp(nanos=start_ms * 1_000_000), end_time=end, last_failure=failure
    )


def step(name: str, state: int, **operations: OperationProgress) -> Step:
    return Step(name=name, state=state, kind=STEP_KIND_COMPENSATABLE, **operations)  # type: ignore[arg-type]  # a value of the enum


def test_a_timeline_has_what_was_started_in_the_order_of_its_start() -> None:
    refused = Failure(kind=FAILURE_KIND_REJECTED, reason="ADDRESS_NOT_SERVED", step="ship")
    lost = Failure(kind=FAILURE_KIND_LOST)
    saga = Saga(
        saga_id="order-1",
        state=SAGA_STATE_COMPENSATED,
        failure=refused,
        create_time=Timestamp(),
        steps=[
            step("reserve", STEP_STATE_COMPENSATED, execute=progress(1, 3), compensate=progress(40, 50)),
            step("charge", STEP_STATE_COMPENSATED, execute=progress(4, 20, 2, lost), compensate=progress(30, None)),
            step("ship", STEP_STATE_REJECTED, execute=progress(21, 29, 1, refused)),
            step("mail", STEP_STATE_WAITING),
        ],
    )

    title, _, _, *rows = printed(show.timeline(saga))

    assert title == "Saga order-1: COMPENSATED, because of REJECTED ADDRESS_NOT_SERVED in step ship"
    assert rows == [
        "+0.001 s 0.002 s reserve COMPENSATABLE execute 1 COMPENSATED",
        "+0.004 s 0.016 s charge COMPENSATABLE execute 2 LOST COMPENSATED",
        "+0.021 s 0.008 s ship COMPENSATABLE execute 1 REJECTED ADDRESS_NOT_SERVED REJECTED",
        "+0.030 s unknown charge COMPENSATABLE compensate 1 COMPENSATED",
        "+0.040 s 0.010 s reserve COMPENSATABLE compensate 1 COMPENSATED",
    ]


def test_sagas_show_why_they_went_back_and_what_they_wait_for() -> None:
    refused = Failure(kind=FAILURE_KIND_REJECTED, reason="ACCOUNT_CLOSED", step="credit")
    waits = [
        Wait(exclusive_key=KeyWait(key="account:ada", holder_saga_id="one")),
        Wait(timer=TimerWait(reason="deadline")),
    ]
    found = [
        Saga(saga_id="one", state=SAGA_STATE_RUNNING, waits=[Wait(step=StepWait(step="credit"))]),
        Saga(saga_id="two", state=SAGA_STATE_PENDING, waits=waits),
        Saga(saga_id="three", state=SAGA_STATE_COMPENSATED, failure=refused),
        Saga(saga_id="four", state=SAGA_STATE_RUNNING, waits=[Wait(parent=ParentWait(saga_id="five"))]),
    ]

    title, header, _, *rows = printed(show.sagas("Who waits", found))

    assert (title, header) == ("Who waits", "saga state failure waits for")
    assert rows == [
        "one RUNNING step credit",
        "two PENDING account:ada after one, deadline",
        "three COMPENSATED REJECTED ACCOUNT_CLOSED in step credit",
        "four RUNNING saga five",
    ]


def test_rows_are_what_the_query_finds(tmp_path: Path) -> None:
    database = tmp_path / "a b.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("CREATE TABLE t (x, y); INSERT INTO t VALUES (1, '[red]'), (2, NULL)")

    title, header, _, *found = printed(show.rows("title", database, "SELECT x, y AS why FROM t ORDER BY x"))

    assert (title, header) == ("title", "x why")
    assert found == ["1 [red]", "2"]


def test_sums_show_their_terms_and_whether_they_add_up() -> None:
    good = Sum("cents", (("charges", 70), ("refunds", -20)), 50, "cents of goods")
    bad = Sum("pieces", (("available", 3), ("shipped", 4)), 8, "pieces before")

    assert (good.adds_up, bad.adds_up) == (True, False)
    title, _, _, *rows = printed(show.sums("Do they add up?", [good, bad]))
    assert title == "Do they add up?"
    assert rows == [
        "cents charges 70 - refunds 20 = 50 50 cents of goods yes",
        "pieces available 3 + shipped 4 = 7 8 pieces before NO",
    ]


def test_without_a_terminal_there_are_no_colours_and_room_enough() -> None:
    assert show.console().width >= 132
    assert not show.console().is_terminal
