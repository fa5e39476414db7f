"""The payment service of the travel agency: prepaid cards, and what was paid with them.

Charging is the pivot of a trip: there is no compensation, so a payment that was made stands. All it does happens in its
own database, in the database transaction of the barrier. (For one that calls a gateway, see the order services.)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import PIVOT, Action, Participant, Rejected, SqliteBarrier, Step
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve
from sample_services.travel.v1.payment_pb2 import ChargePaymentRequest, Payment


class ChargePayment(Action[ChargePaymentRequest, Payment]):
    """Charges a trip to a card, for good."""

    kinds = (PIVOT,)
    rejections: ClassVar[Mapping[str, str]] = {
        "CARD_DECLINED": "The card is unknown, or has less on it than the amount.",
        "INVALID_AMOUNT": "The amount is below 1 cent.",
    }

    async def execute(self, request: ChargePaymentRequest, step: Step) -> Payment:
        """Take the money from the card."""
        if request.amount_cents < 1:
            raise Rejected("INVALID_AMOUNT", f"{request.amount_cents} cents")
        charged = step.transaction.execute(
            """UPDATE cards SET balance_cents = balance_cents - :amount_cents
               WHERE payment_card = :payment_card AND balance_cents >= :amount_cents RETURNING 1""",
            {"payment_card": request.payment_card, "amount_cents": request.amount_cents},
        ).fetchall()
        if not charged:
            raise Rejected("CARD_DECLINED", f"{request.payment_card} does not have {request.amount_cents} cents")
        payment_id = reference(step)
        step.transaction.execute(
            "INSERT INTO payments (payment_id, trip_id, payment_card, amount_cents) VALUES (?, ?, ?, ?)",
            (payment_id, request.trip_id, request.payment_card, request.amount_cents),
        )
        return Payment(payment_id=payment_id, amount_cents=request.amount_cents)


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant(
        "travel_payment", [ChargePayment()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION
    )


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("travel_payment.db")) -> None:
    """Serve the payment."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
