"""The flights: a seat for each passenger."""

from pathlib import Path

from participant_sdk.testing import ActionHarness
from sample_services.travel import flights
from sample_services.travel.v1.flights_pb2 import BookFlightRequest
from tests.sample_services.conftest import Select


async def test_each_passenger_has_a_seat_on_the_flight_that_was_asked_for(tmp_path: Path, select: Select) -> None:
    async with ActionHarness(flights.participant(tmp_path / "flights.db")) as harness:
        await harness.execute(BookFlightRequest(flight_id="TP675", passengers=["Ada", "Grace", "Edsger"]))

    assert select("flights.db", "SELECT item, units FROM booking_units") == [("TP675", 3)]
    assert select("flights.db", "SELECT item, free, held FROM allotment ORDER BY item") == [
        ("KL1693", 4, 0),
        ("TP675", 9, 3),
    ]
