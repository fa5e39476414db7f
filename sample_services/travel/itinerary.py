"""The itinerary service: e-mails to travellers, as rows of an outbox that a mail server empties.

Putting one there cannot be refused, so it is RETRIABLE: it stands behind the point of no return and is tried until it
succeeds. The barrier keeps a repeated call from sending a second e-mail.
"""

from pathlib import Path

import typer

from participant_sdk import RETRIABLE, Action, Participant, SqliteBarrier, Step
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve
from sample_services.travel.v1.itinerary_pb2 import Itinerary, SendItineraryRequest


class SendItinerary(Action[SendItineraryRequest, Itinerary]):
    """Sends the travellers what was booked for them."""

    kinds = (RETRIABLE,)

    async def execute(self, request: SendItineraryRequest, step: Step) -> Itinerary:
        """Put the e-mail into the outbox."""
        mail_id = reference(step)
        text = "\n".join((f"Your trip {request.trip_id} is booked:", *request.booking_ids))
        step.transaction.execute(
            "INSERT INTO mails (mail_id, trip_id, email, text) VALUES (?, ?, ?, ?)",
            (mail_id, request.trip_id, request.email, text),
        )
        return Itinerary(mail_id=mail_id)


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("itinerary", [SendItinerary()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("itinerary.db")) -> None:
    """Serve the itineraries."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
