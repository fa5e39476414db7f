"""The allotment: units move between free, held and booked, and are never lost, made, or given to two."""

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from participant_sdk import Rejected
from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.travel import allotment, flights
from sample_services.travel.v1.flights_pb2 import BookFlightRequest
from sample_services.travel.v1.trips_pb2 import Booking, Dates
from tests.sample_services.conftest import Select
from tests.sample_services.travel.conftest import Clock

SEATS = "SELECT free, held, booked FROM allotment WHERE item = 'KL1693'"
STATES = "SELECT saga_id, state FROM bookings ORDER BY rowid"
MOMENT = timedelta(milliseconds=1)


@pytest.fixture
async def harness(tmp_path: Path, clock: Clock) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(flights.participant(tmp_path / "flights.db", clock)) as opened:
        yield opened


def request(passengers: int, flight_id: str = "KL1693") -> BookFlightRequest:
    return BookFlightRequest(flight_id=flight_id, passengers=["Ada"] * passengers)


async def test_units_are_held_until_an_instant_that_is_said(
    harness: ActionHarness, clock: Clock, select: Select
) -> None:
    reply = await harness.execute(request(3))

    assert unpack(reply.completed.output, Booking).total_cents == 3 * 21500
    assert reply.completed.hold_until.ToDatetime(UTC) == clock.time + allotment.HOLD
    assert select("flights.db", SEATS) == [(1, 3, 0)]


async def test_a_repeated_execute_holds_once_g2(harness: ActionHarness, clock: Clock, select: Select) -> None:
    first = await harness.execute(request(3))
    clock.turn(MOMENT)

    assert await harness.execute(request(3)) == first
    assert select("flights.db", SEATS) == [(1, 3, 0)]


async def test_the_last_units_can_be_held_and_no_more(harness: ActionHarness, select: Select) -> None:
    assert (await harness.execute(request(4), saga_uid="first")).HasField("completed")
    reply = await harness.execute(request(1), saga_uid="second")

    assert reply.rejected.reason == "SOLD_OUT"
    assert reply.rejected.metadata["item"] == "KL1693"
    assert select("flights.db", SEATS) == [(0, 4, 0)]
    assert len(select("flights.db", STATES)) == 1


@pytest.mark.parametrize(
    ("asked", "reason"), [(request(1, "XX1"), "NOT_OFFERED"), (request(0), "INVALID_REQUEST"), (request(5), "SOLD_OUT")]
)
async def test_what_cannot_be_held_is_refused_and_leaves_nothing(
    harness: ActionHarness, select: Select, asked: BookFlightRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("flights.db", SEATS) == [(4, 0, 0)]
    assert select("flights.db", STATES) == []


async def test_compensate_releases_the_hold_and_no_other_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(2))
    await harness.execute(request(1), saga_uid="another")
    for _ in range(2):
        await harness.compensate()

    assert select("flights.db", SEATS) == [(3, 1, 0)]
    assert [state for _, state in select("flights.db", STATES)] == ["RELEASED", "HELD"]


async def test_confirm_books_what_is_held_and_no_other_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(2))
    await harness.execute(request(1), saga_uid="another")
    for _ in range(2):
        assert (await harness.confirm()).HasField("confirmed")

    assert select("flights.db", SEATS) == [(1, 1, 2)]
    assert [state for _, state in select("flights.db", STATES)] == ["BOOKED", "HELD"]


async def test_a_late_execute_after_compensate_holds_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request(2))).compensated.noop
    assert (await harness.execute(request(2))).rejected.reason == "BARRED"
    assert select("flights.db", SEATS) == [(4, 0, 0)]


async def test_until_a_hold_lapses_nobody_else_gets_its_units(
    harness: ActionHarness, clock: Clock, select: Select
) -> None:
    await harness.execute(request(4), saga_uid="slow")
    clock.turn(allotment.HOLD - MOMENT)

    assert (await harness.execute(request(1), saga_uid="other")).rejected.reason == "SOLD_OUT"
    assert select("flights.db", SEATS) == [(0, 4, 0)]


async def test_a_hold_that_lapsed_goes_to_the_next_and_can_neither_be_confirmed_nor_released_twice(
    harness: ActionHarness, clock: Clock, select: Select
) -> None:
    for slow in ("confirmed late", "compensated late"):
        await harness.execute(request(2), saga_uid=slow)
    clock.turn(allotment.HOLD)
    await harness.execute(request(4), saga_uid="next")

    assert (await harness.confirm(saga_uid="confirmed late")).rejected.reason == "HOLD_LAPSED"
    assert (await harness.compensate(saga_uid="compensated late")).HasField("compensated")
    assert select("flights.db", SEATS) == [(0, 4, 0)]
    assert [state for _, state in select("flights.db", STATES)] == ["LAPSED", "LAPSED", "HELD"]


async def test_a_hold_that_lapsed_can_be_confirmed_while_nobody_has_asked(
    harness: ActionHarness, clock: Clock, select: Select
) -> None:
    await harness.execute(request(2))
    clock.turn(2 * allotment.HOLD)

    assert (await harness.confirm()).HasField("confirmed")
    assert select("flights.db", SEATS) == [(2, 0, 2)]


async def test_a_booking_does_not_lapse(harness: ActionHarness, clock: Clock, select: Select) -> None:
    await harness.execute(request(4))
    await harness.confirm()
    clock.turn(2 * allotment.HOLD)

    assert (await harness.execute(request(1), saga_uid="another")).rejected.reason == "SOLD_OUT"
    assert select("flights.db", SEATS) == [(0, 0, 4)]


async def test_a_restart_keeps_what_happened(tmp_path: Path, select: Select) -> None:
    for saga_uid in ("first", "second"):
        async with ActionHarness(flights.participant(tmp_path / "flights.db")) as harness:
            await harness.execute(request(1), saga_uid=saga_uid)

    assert select("flights.db", SEATS) == [(2, 2, 0)]


def test_the_days_of_a_stay_end_with_the_one_before_the_departure() -> None:
    assert allotment.days(Dates(check_in="2027-02-27", check_out="2027-03-02")) == [
        "2027-02-27",
        "2027-02-28",
        "2027-03-01",
    ]
    assert len(allotment.days(Dates(check_in="2027-06-01", check_out="2027-07-01"))) == allotment.STAY_DAYS_MAX


@pytest.mark.parametrize(
    ("check_in", "check_out"),
    [
        ("2027-06-01", "2027-06-01"),
        ("2027-06-02", "2027-06-01"),
        ("2027-06-01", "2027-07-02"),
        ("2027-06-31", "2027-07-02"),
        ("", ""),
    ],
)
def test_what_is_no_stay_is_refused(check_in: str, check_out: str) -> None:
    with pytest.raises(Rejected, match="INVALID_REQUEST"):
        allotment.days(Dates(check_in=check_in, check_out=check_out))
