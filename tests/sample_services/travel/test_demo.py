"""The sums of the travel services: right when nothing is lost, and wrong when anything is."""

import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from participant_sdk.testing import ActionHarness
from sample_services.travel import cars, flights, hotels, itinerary, payment
from sample_services.travel.demo import Travel
from sample_services.travel.v1.cars_pb2 import RentCarRequest
from sample_services.travel.v1.flights_pb2 import BookFlightRequest
from sample_services.travel.v1.hotels_pb2 import BookHotelRequest
from sample_services.travel.v1.itinerary_pb2 import SendItineraryRequest
from sample_services.travel.v1.payment_pb2 import ChargePaymentRequest
from sample_services.travel.v1.trips_pb2 import Dates

STAY = Dates(check_in="2027-06-11", check_out="2027-06-12")


@pytest.fixture
async def travel(tmp_path: Path) -> Travel:
    """Two trips, one of them booked and one given up, in real databases."""
    entry = Travel(tmp_path)
    async with AsyncExitStack() as opened:
        seats, rooms, wheels, cards, mails = [
            await opened.enter_async_context(ActionHarness(module.participant(tmp_path / f"{name}.db")))
            for module, name in (
                (flights, "flights"),
                (hotels, "hotels"),
                (cars, "cars"),
                (payment, "travel_payment"),
                (itinerary, "itinerary"),
            )
        ]
        entry.remember()
        for saga_uid in ("booked", "given up"):
            await seats.execute(BookFlightRequest(flight_id="TP675", passengers=["Ada"]), saga_uid=saga_uid)
            await rooms.execute(BookHotelRequest(hotel_id="mar", dates=STAY, rooms=1), saga_uid=saga_uid)
            await wheels.execute(RentCarRequest(car_class="compact", dates=STAY), saga_uid=saga_uid)
        price_cents = 18900 + 11000 + 3900
        await cards.execute(
            ChargePaymentRequest(trip_id="booked", payment_card="card_gold", amount_cents=price_cents),
            saga_uid="booked",
        )
        await mails.execute(SendItineraryRequest(trip_id="booked", email="ada@example.com"), saga_uid="booked")
        for held in (seats, rooms, wheels):
            await held.confirm(saga_uid="booked")
            await held.compensate(saga_uid="given up")
    return entry


def wrong(travel: Travel) -> list[str]:
    return [each.name for each in travel.sums() if not each.adds_up]


async def test_they_add_up_after_a_trip_that_was_booked_and_one_that_was_not(travel: Travel) -> None:
    assert wrong(travel) == []
    [seats] = [each for each in travel.sums() if each.name == "seats"]
    assert seats.terms == (("free", 15), ("held", 0), ("booked", 1))


@pytest.mark.parametrize(
    ("database", "damage", "found"),
    [
        ("flights", "UPDATE allotment SET free = free - 1 WHERE item = 'TP675'", "seats"),
        ("hotels", "UPDATE allotment SET free = free + 1 WHERE item = 'mar/2027-06-11'", "room nights"),
        ("cars", "UPDATE allotment SET booked = booked + 1 WHERE item = 'van/2027-06-11'", "car days"),
        (
            "flights",
            "UPDATE allotment SET held = 1, free = free - 1 WHERE item = 'TP675'",
            "cents of bookings",
        ),
        ("travel_payment", "UPDATE payments SET amount_cents = amount_cents * 2", "cents of travellers"),
        ("travel_payment", "UPDATE cards SET balance_cents = 0", "cents of travellers"),
        ("travel_payment", "DELETE FROM payments", "cents of bookings"),
        ("itinerary", "DELETE FROM mails", "itineraries"),
        ("itinerary", "INSERT INTO mails SELECT 'again', trip_id, email, text FROM mails", "itineraries"),
    ],
)
async def test_what_is_lost_or_doubled_is_found(
    travel: Travel, tmp_path: Path, database: str, damage: str, found: str
) -> None:
    with closing(sqlite3.connect(tmp_path / f"{database}.db")) as connection:
        connection.execute(damage)
        connection.commit()

    assert found in wrong(travel)
