"""The welcome service: messages to new users, as rows of an outbox that a mail server empties.

Putting one there cannot be refused, so it is RETRIABLE: it stands behind every step that can be, and is tried until it
succeeds. The barrier keeps a repeated call from sending a second message.
"""

from pathlib import Path

import typer

from participant_sdk import RETRIABLE, Action, Participant, SqliteBarrier, Step
from sample_services.accounts.v1.welcome_pb2 import SendWelcomeRequest, Welcome
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class SendWelcome(Action[SendWelcomeRequest, Welcome]):
    """Welcomes a new user."""

    kinds = (RETRIABLE,)

    async def execute(self, request: SendWelcomeRequest, step: Step) -> Welcome:
        """Put the message into the outbox."""
        message_id = reference(step)
        text = f"Welcome, {request.person.name}! Your wallet for {request.currency} is open."
        step.transaction.execute(
            "INSERT INTO messages (message_id, user_id, email, text) VALUES (?, ?, ?, ?)",
            (message_id, request.user_id, request.person.email, text),
        )
        return Welcome(message_id=message_id)


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("welcome", [SendWelcome()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("welcome.db")) -> None:
    """Serve the welcome messages."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
