"""The payment service: charges cards through a gateway, and keeps the books.

The gateway is outside the service's database, so the action is `external`: it can be cut off between the effect there
and the row here. Then its handler runs again, and the gateway knows by the charge's id whether it has been there. The
books are written through `step.record`, together with the barrier's own row.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Noop, Participant, Rejected, SqliteBarrier, SqliteTransaction, Step
from sample_services.orders.card_gateway import CardDeclined, CardGateway
from sample_services.orders.v1.payment_pb2 import Charge, ChargeCardRequest
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class ChargeCard(Action[ChargeCardRequest, Charge]):
    """Takes money from a card."""

    kinds = (COMPENSATABLE,)
    external = True
    rejections: ClassVar[Mapping[str, str]] = {
        "CARD_DECLINED": "The card is unknown, or the amount is over its credit limit.",
        "INVALID_AMOUNT": "The amount is below 1 cent.",
    }

    def __init__(self, gateway: CardGateway) -> None:
        self._gateway = gateway

    async def execute(self, request: ChargeCardRequest, step: Step) -> Charge:
        """Charge the card, and book it."""
        if request.amount_cents < 1:
            raise Rejected("INVALID_AMOUNT", f"{request.amount_cents} cents")
        charge_id = reference(step)
        try:
            await self._gateway.charge(charge_id, request.card_token, request.amount_cents)
        except CardDeclined as refusal:
            raise Rejected("CARD_DECLINED", str(refusal)) from None
        step.record(lambda books: _book_charge(books, charge_id, request))
        return Charge(charge_id=charge_id, amount_cents=request.amount_cents)

    async def compensate(self, request: ChargeCardRequest, _output: Charge | None, step: Step) -> Noop | None:
        """Give the money back, if it was taken: the gateway knows, also where the output is not known."""
        charge_id = reference(step)
        if not await self._gateway.refund(charge_id):
            return Noop()
        reason = step.cause.reason if step.cause else ""
        step.record(lambda books: _book_charge(books, charge_id, request))  # an execute that was cut off did not
        step.record(lambda books: _book_refund(books, charge_id, request, reason))
        return None


def _book_charge(books: SqliteTransaction, charge_id: str, request: ChargeCardRequest) -> None:
    books.execute(
        """INSERT INTO charges (charge_id, order_id, card_token, amount_cents) VALUES (?, ?, ?, ?)
           ON CONFLICT DO NOTHING""",
        (charge_id, request.order_id, request.card_token, request.amount_cents),
    )


def _book_refund(books: SqliteTransaction, charge_id: str, request: ChargeCardRequest, reason: str) -> None:
    books.execute(
        "INSERT INTO refunds (charge_id, amount_cents, reason) VALUES (?, ?, ?)",
        (charge_id, request.amount_cents, reason),
    )


def participant(database: Path, gateway: CardGateway) -> Participant:
    """Return the service over its database and the gateway."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("payment", [ChargeCard(gateway)], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(
    listen: Listen = "127.0.0.1:0",
    database: Database = Path("payment.db"),
    gateway_database: Annotated[Path, typer.Option(help="The card gateway's SQLite file.")] = Path("card_gateway.db"),
    gateway_hold: Annotated[
        Path | None,
        typer.Option(help="For demonstrations: while this file exists, the gateway acts but does not answer."),
    ] = None,
) -> None:
    """Serve the payment."""
    serve(participant(database, CardGateway(gateway_database, gateway_hold)), listen)


if __name__ == "__main__":
    typer.run(main)
