"""The flight service: seats, and for whom they are held or booked."""

from collections.abc import Mapping
from pathlib import Path

import typer

from participant_sdk import Participant
from sample_services.service import KEY_RETENTION, Database, Listen, serve
from sample_services.travel import allotment
from sample_services.travel.v1.flights_pb2 import BookFlightRequest


class BookFlight(allotment.Book[BookFlightRequest]):
    """Holds a seat for each passenger, all on one flight."""

    def wanted(self, request: BookFlightRequest) -> Mapping[str, int]:
        """Return the seats of the flight."""
        return {request.flight_id: len(request.passengers)}


def participant(database: Path, clock: allotment.Clock = allotment.now) -> Participant:
    """Return the service over its database."""
    return Participant(
        "flights", [BookFlight(clock)], allotment.barrier(database, "flights"), key_retention=KEY_RETENTION
    )


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("flights.db")) -> None:
    """Serve the flights."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
