"""The marketplace's own service: which orders there are, what sellers have got, and what buyers are told.

It does not know parcels' insides: each parcel is a saga of its own, over the services of `sample_services.orders`. All
it does happens in its own database, in the database transaction of the barrier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

import typer

from participant_sdk import (
    COMPENSATABLE,
    PIVOT,
    RETRIABLE,
    Action,
    Participant,
    Rejected,
    SqliteBarrier,
    SqliteTransaction,
    Step,
)
from sample_services.marketplace.v1.market_pb2 import (
    Notice,
    NotifyBuyerRequest,
    OpenedOrder,
    OpenOrderRequest,
    Payout,
    PaySellersRequest,
    Sale,
)
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve

PARCELS_MAX: Final = 3
"""As many parcels as `marketplace_order.yaml` has steps for."""
FEE_PERCENT: Final = 8
"""What the marketplace keeps; fractions of a cent are the seller's."""


class OpenOrder(Action[OpenOrderRequest, OpenedOrder]):
    """Enters an order, before anything is done for it."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "INVALID_ORDER": "There is no parcel, or there are more than three.",
        "UNKNOWN_SELLER": "There is no such seller.",
    }

    async def execute(self, request: OpenOrderRequest, step: Step) -> OpenedOrder:
        """Insert it, if it makes sense."""
        if not 1 <= len(request.parcels) <= PARCELS_MAX:
            raise Rejected("INVALID_ORDER", f"{len(request.parcels)} parcels, not 1 to {PARCELS_MAX}")
        for parcel in request.parcels:
            _payout_account(step.transaction, parcel.seller_id)
        step.transaction.execute(
            "INSERT INTO orders (entry_id, order_id, parcels, state) VALUES (?, ?, ?, 'OPEN')",
            (reference(step), request.order_id, len(request.parcels)),
        )
        return OpenedOrder(entry_id=reference(step))

    async def compensate(self, _request: OpenOrderRequest, _output: OpenedOrder | None, step: Step) -> None:
        """Give it up."""
        step.transaction.execute("UPDATE orders SET state = 'GIVEN_UP' WHERE entry_id = ?", (reference(step),))


class PaySellers(Action[PaySellersRequest, Payout]):
    """Shares the buyer's money out: all sellers of an order are paid, for good, or none."""

    kinds = (PIVOT,)
    rejections: ClassVar[Mapping[str, str]] = {
        "UNKNOWN_SELLER": "There is no such seller.",
        "PAYOUT_BLOCKED": "The seller has not said where the money is to go.",
        "INVALID_AMOUNT": "A sale is below 1 cent.",
    }

    async def execute(self, request: PaySellersRequest, step: Step) -> Payout:
        """Raise the sellers' balances, less the fee."""
        payouts = [
            _pay(step.transaction, request.entry_id, parcel, sale) for parcel, sale in enumerate(request.sales, start=1)
        ]
        step.transaction.execute("UPDATE orders SET state = 'PAID' WHERE entry_id = ?", (request.entry_id,))
        return Payout(
            paid_cents=sum(payout.paid_cents for payout in payouts),
            fee_cents=sum(payout.fee_cents for payout in payouts),
        )


class NotifyBuyer(Action[NotifyBuyerRequest, Notice]):
    """Tells the buyer that all parcels are on their way."""

    kinds = (RETRIABLE,)

    async def execute(self, request: NotifyBuyerRequest, step: Step) -> Notice:
        """Put the notice into the outbox."""
        text = "\n".join((f"Your order {request.order_id} is on its way:", *request.tracking_numbers))
        step.transaction.execute(
            "INSERT INTO notices (notice_id, order_id, email, text) VALUES (?, ?, ?, ?)",
            (reference(step), request.order_id, request.email, text),
        )
        return Notice(notice_id=reference(step))


def _payout_account(database: SqliteTransaction, seller_id: str) -> str | None:
    """Return where a seller's money is to go; None: that was not said yet. Errors: `Rejected`."""
    found = database.execute("SELECT payout_account FROM sellers WHERE seller_id = ?", (seller_id,)).fetchone()
    if found is None:
        raise Rejected("UNKNOWN_SELLER", f"there is no seller {seller_id}", seller_id=seller_id)
    return None if found[0] is None else str(found[0])


def _pay(database: SqliteTransaction, entry_id: str, parcel: int, sale: Sale) -> Payout:
    """Pay the seller of one parcel."""
    if sale.total_cents < 1:
        raise Rejected("INVALID_AMOUNT", f"parcel {parcel} was sold for {sale.total_cents} cents")
    if _payout_account(database, sale.seller_id) is None:
        message = f"{sale.seller_id} has not said where the money is to go"
        raise Rejected("PAYOUT_BLOCKED", message, seller_id=sale.seller_id)
    fee_cents = sale.total_cents * FEE_PERCENT // 100
    payout = Payout(paid_cents=sale.total_cents - fee_cents, fee_cents=fee_cents)
    database.execute(
        "INSERT INTO payouts (entry_id, parcel, seller_id, paid_cents, fee_cents) VALUES (?, ?, ?, ?, ?)",
        (entry_id, parcel, sale.seller_id, payout.paid_cents, payout.fee_cents),
    )
    database.execute(
        "UPDATE sellers SET balance_cents = balance_cents + ? WHERE seller_id = ?", (payout.paid_cents, sale.seller_id)
    )
    return payout


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant(
        "market",
        [OpenOrder(), PaySellers(), NotifyBuyer()],
        SqliteBarrier(database, schema),
        key_retention=KEY_RETENTION,
    )


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("market.db")) -> None:
    """Serve the marketplace."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
