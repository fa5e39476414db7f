"""The warehouse: how many pieces of each article are in stock, and what was sold.

All it does happens in its own database, in the database transaction of the barrier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Participant, Rejected, SqliteBarrier, Step
from sample_services.purchase.v1.warehouse_pb2 import Sale, UpdateInventoryRequest
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class UpdateInventory(Action[UpdateInventoryRequest, Sale]):
    """Takes what was sold out of the stock."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "OUT_OF_STOCK": "There is no such article, or there are fewer pieces than sold.",
        "INVALID_QUANTITY": "The quantity is below 1.",
    }

    async def execute(self, request: UpdateInventoryRequest, step: Step) -> Sale:
        """Move the pieces from the stock to the sales."""
        goods = request.goods
        if goods.quantity < 1:
            raise Rejected("INVALID_QUANTITY", f"{goods.quantity} pieces")
        taken = step.transaction.execute(
            "UPDATE stock SET pieces = pieces - :quantity WHERE sku = :sku AND pieces >= :quantity RETURNING 1",
            {"sku": goods.sku, "quantity": goods.quantity},
        ).fetchall()
        if not taken:
            raise Rejected("OUT_OF_STOCK", f"there are no {goods.quantity} of {goods.sku}", sku=goods.sku)
        step.transaction.execute(
            "INSERT INTO sales (sale_id, sku, quantity, state) VALUES (?, ?, ?, 'SOLD')",
            (reference(step), goods.sku, goods.quantity),
        )
        return Sale(sale_id=reference(step))

    async def compensate(self, request: UpdateInventoryRequest, _output: Sale | None, step: Step) -> None:
        """Put the pieces back."""
        step.transaction.execute("UPDATE sales SET state = 'RETURNED' WHERE sale_id = ?", (reference(step),))
        step.transaction.execute(
            "UPDATE stock SET pieces = pieces + ? WHERE sku = ?", (request.goods.quantity, request.goods.sku)
        )


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("warehouse", [UpdateInventory()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("warehouse.db")) -> None:
    """Serve the warehouse."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
