"""The hotel service: rooms night by night, and for whom they are held or booked."""

from collections.abc import Mapping
from pathlib import Path

import typer

from participant_sdk import Participant
from sample_services.service import KEY_RETENTION, Database, Listen, serve
from sample_services.travel import allotment
from sample_services.travel.v1.hotels_pb2 import BookHotelRequest


class BookHotel(allotment.Book[BookHotelRequest]):
    """Holds rooms for every night of a stay."""

    def wanted(self, request: BookHotelRequest) -> Mapping[str, int]:
        """Return the rooms of each night."""
        return {f"{request.hotel_id}/{night}": request.rooms for night in allotment.days(request.dates)}


def participant(database: Path, clock: allotment.Clock = allotment.now) -> Participant:
    """Return the service over its database."""
    return Participant("hotels", [BookHotel(clock)], allotment.barrier(database, "hotels"), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("hotels.db")) -> None:
    """Serve the hotels."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
