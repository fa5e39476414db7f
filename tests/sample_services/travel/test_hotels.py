"""The hotels: rooms for every night, or for none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.travel import hotels
from sample_services.travel.v1.hotels_pb2 import BookHotelRequest
from sample_services.travel.v1.trips_pb2 import Booking, Dates
from tests.sample_services.conftest import Select

HELD = "SELECT item, held FROM allotment WHERE held > 0 ORDER BY item"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(hotels.participant(tmp_path / "hotels.db")) as opened:
        yield opened


def request(check_in: str, check_out: str, hotel_id: str = "mar", rooms: int = 1) -> BookHotelRequest:
    return BookHotelRequest(hotel_id=hotel_id, dates=Dates(check_in=check_in, check_out=check_out), rooms=rooms)


async def test_rooms_are_held_for_each_night(harness: ActionHarness, select: Select) -> None:
    reply = await harness.execute(request("2027-06-11", "2027-06-13", rooms=2))

    assert unpack(reply.completed.output, Booking).total_cents == 2 * 2 * 11000
    assert select("hotels.db", HELD) == [("mar/2027-06-11", 2), ("mar/2027-06-12", 2)]


async def test_one_night_that_is_full_refuses_the_stay(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request("2027-06-12", "2027-06-13", "bairro"), saga_uid="first")
    reply = await harness.execute(request("2027-06-11", "2027-06-14", "bairro"), saga_uid="second")

    assert (reply.rejected.reason, reply.rejected.metadata["item"]) == ("SOLD_OUT", "bairro/2027-06-12")
    assert select("hotels.db", HELD) == [("bairro/2027-06-12", 1)]


async def test_a_stay_can_begin_on_the_day_another_ends(harness: ActionHarness) -> None:
    for check_in, check_out in (("2027-06-11", "2027-06-12"), ("2027-06-12", "2027-06-13")):
        reply = await harness.execute(request(check_in, check_out, "bairro"), saga_uid=check_in)
        assert reply.HasField("completed")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("2027-06-11", "2027-06-12", "ritz"), "NOT_OFFERED"),
        (request("2027-09-29", "2027-10-02"), "NOT_OFFERED"),
        (request("2027-06-11", "2027-06-12", rooms=0), "INVALID_REQUEST"),
        (request("2027-06-11", "2027-06-12", rooms=-1), "INVALID_REQUEST"),
        (request("soon", "later"), "INVALID_REQUEST"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    harness: ActionHarness, select: Select, asked: BookHotelRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("hotels.db", HELD) == []
