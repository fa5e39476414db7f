"""The itinerary: one e-mail for a trip, however often it is asked for."""

from pathlib import Path

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.travel import itinerary
from sample_services.travel.v1.itinerary_pb2 import Itinerary, SendItineraryRequest
from tests.sample_services.conftest import Select


async def test_one_e_mail_with_all_bookings_goes_out_g2(tmp_path: Path, select: Select) -> None:
    request = SendItineraryRequest(trip_id="trip-1", email="ada@example.com", booking_ids=["seats", "room"])
    async with ActionHarness(itinerary.participant(tmp_path / "itinerary.db")) as harness:
        first = await harness.execute(request)
        assert await harness.execute(request) == first

    mail_id = unpack(first.completed.output, Itinerary).mail_id
    text = "Your trip trip-1 is booked:\nseats\nroom"
    assert select("itinerary.db", "SELECT * FROM mails") == [(mail_id, "trip-1", "ada@example.com", text)]
