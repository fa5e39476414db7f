"""The notification service: what buyers are told, as rows of an outbox that a mail server empties.

Putting one there cannot be refused, so it is RETRIABLE: it stands behind every step that can be, and is tried until it
succeeds. The barrier keeps a repeated call from sending a second notification.
"""

from pathlib import Path

import typer

from participant_sdk import RETRIABLE, Action, Participant, SqliteBarrier, Step
from sample_services.purchase.v1.notifications_pb2 import Notification, SendNotificationRequest
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class SendNotification(Action[SendNotificationRequest, Notification]):
    """Tells the buyer that the purchase is made."""

    kinds = (RETRIABLE,)

    async def execute(self, request: SendNotificationRequest, step: Step) -> Notification:
        """Put the notification into the outbox."""
        notification_id = reference(step)
        step.transaction.execute(
            "INSERT INTO notifications (notification_id, purchase_id, account_id, text) VALUES (?, ?, ?, ?)",
            (notification_id, request.purchase_id, request.account_id, request.text),
        )
        return Notification(notification_id=notification_id)


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant(
        "notifications", [SendNotification()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION
    )


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("notifications.db")) -> None:
    """Serve the notifications."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
