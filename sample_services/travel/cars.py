"""The car rental service: cars day by day, and for whom they are held or booked."""

from collections.abc import Mapping
from pathlib import Path

import typer

from participant_sdk import Participant
from sample_services.service import KEY_RETENTION, Database, Listen, serve
from sample_services.travel import allotment
from sample_services.travel.v1.cars_pb2 import RentCarRequest


class RentCar(allotment.Book[RentCarRequest]):
    """Holds a car for every day of a stay."""

    def wanted(self, request: RentCarRequest) -> Mapping[str, int]:
        """Return one car of each day."""
        return {f"{request.car_class}/{day}": 1 for day in allotment.days(request.dates)}


def participant(database: Path, clock: allotment.Clock = allotment.now) -> Participant:
    """Return the service over its database."""
    return Participant("cars", [RentCar(clock)], allotment.barrier(database, "cars"), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("cars.db")) -> None:
    """Serve the car rental."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
