"""The inventory service: how many pieces of each article there are, and for whom they are kept.

Pieces are reserved first and leave the stock only when the saga can no longer go back: the textbook case of a
RESERVABLE action. All it does happens in its own database, in the database transaction of the barrier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import RESERVABLE, Action, Participant, Rejected, SqliteBarrier, SqliteTransaction, Step
from sample_services.orders.v1.inventory_pb2 import Reservation, ReserveStockRequest
from sample_services.orders.v1.orders_pb2 import OrderLine
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class ReserveStock(Action[ReserveStockRequest, Reservation]):
    """Sets stock aside for an order: all lines, or none."""

    kinds = (RESERVABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "OUT_OF_STOCK": "There are fewer pieces than ordered.",
        "UNKNOWN_SKU": "There is no such article.",
        "INVALID_ORDER": "No lines, a quantity below 1, or an article on two lines.",
    }

    async def execute(self, request: ReserveStockRequest, step: Step) -> Reservation:
        """Move the pieces from available to reserved."""
        _check(request)
        reservation_id = reference(step)
        step.transaction.execute(
            "INSERT INTO reservations (reservation_id, order_id, state) VALUES (?, ?, 'HELD')",
            (reservation_id, request.order_id),
        )
        total_cents = sum(_reserve(step.transaction, reservation_id, line) for line in request.lines)
        return Reservation(reservation_id=reservation_id, total_cents=total_cents)

    async def compensate(self, _request: ReserveStockRequest, _output: Reservation | None, step: Step) -> None:
        """Move them back."""
        _settle(step, "RELEASED")

    async def confirm(self, _request: ReserveStockRequest, _output: Reservation, step: Step) -> None:
        """Let them leave the stock."""
        _settle(step, "SHIPPED")


def _check(request: ReserveStockRequest) -> None:
    skus = [line.sku for line in request.lines]
    if not skus:
        raise Rejected("INVALID_ORDER", "the order has no lines")
    if len(set(skus)) < len(skus):
        raise Rejected("INVALID_ORDER", "an article stands on two lines")
    if any(line.quantity < 1 for line in request.lines):
        raise Rejected("INVALID_ORDER", "a quantity is below 1")


def _reserve(database: SqliteTransaction, reservation_id: str, line: OrderLine) -> int:
    """Reserve one line and return what it costs, in cents."""
    found = database.execute("SELECT price_cents, available FROM stock WHERE sku = ?", (line.sku,)).fetchone()
    if found is None:
        raise Rejected("UNKNOWN_SKU", f"there is no article {line.sku}", sku=line.sku)
    price_cents, available = found
    if available < line.quantity:
        raise Rejected("OUT_OF_STOCK", f"{line.sku}: {line.quantity} ordered, {available} available", sku=line.sku)
    database.execute(
        "UPDATE stock SET available = available - :quantity, reserved = reserved + :quantity WHERE sku = :sku",
        {"quantity": line.quantity, "sku": line.sku},
    )
    database.execute(
        "INSERT INTO reservation_lines (reservation_id, sku, quantity) VALUES (?, ?, ?)",
        (reservation_id, line.sku, line.quantity),
    )
    return int(price_cents) * line.quantity


def _settle(step: Step, state: str) -> None:
    """End the step's reservation: its pieces are available again, or shipped."""
    settled = {"reservation_id": reference(step), "state": state}
    step.transaction.execute(
        """UPDATE stock SET
               reserved = reserved - line.quantity,
               available = available + iif(:state = 'RELEASED', line.quantity, 0),
               shipped = shipped + iif(:state = 'SHIPPED', line.quantity, 0)
           FROM reservation_lines AS line
           WHERE line.sku = stock.sku AND line.reservation_id = :reservation_id""",
        settled,
    )
    step.transaction.execute("UPDATE reservations SET state = :state WHERE reservation_id = :reservation_id", settled)


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("inventory", [ReserveStock()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("inventory.db")) -> None:
    """Serve the inventory."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
