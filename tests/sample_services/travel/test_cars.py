"""The car rental: one car for every day of a stay."""

from pathlib import Path

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.travel import cars
from sample_services.travel.v1.cars_pb2 import RentCarRequest
from sample_services.travel.v1.trips_pb2 import Booking, Dates
from tests.sample_services.conftest import Select


async def test_a_car_is_held_for_each_day(tmp_path: Path, select: Select) -> None:
    stay = Dates(check_in="2027-05-01", check_out="2027-05-03")
    async with ActionHarness(cars.participant(tmp_path / "cars.db")) as harness:
        reply = await harness.execute(RentCarRequest(car_class="van", dates=stay))

    assert unpack(reply.completed.output, Booking).total_cents == 2 * 7900
    assert select("cars.db", "SELECT item, free, held FROM allotment WHERE held > 0 ORDER BY item") == [
        ("van/2027-05-01", 1, 1),
        ("van/2027-05-02", 1, 1),
    ]
