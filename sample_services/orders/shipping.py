"""The shipping service: parcels, and the carriers that take them.

A shipment can be cancelled until the carrier collects it, so creating one is COMPENSATABLE. All it does happens in its
own database, in the database transaction of the barrier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Participant, Rejected, SqliteBarrier, SqliteTransaction, Step
from sample_services.orders.v1.shipping_pb2 import CreateShipmentRequest, Shipment
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class CreateShipment(Action[CreateShipmentRequest, Shipment]):
    """Hands an order to a carrier."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {"ADDRESS_NOT_SERVED": "No carrier goes there."}

    async def execute(self, request: CreateShipmentRequest, step: Step) -> Shipment:
        """Find the carrier and give out a tracking number."""
        shipment = _assign(step.transaction, request.destination.country_code)
        step.transaction.execute(
            """INSERT INTO shipments (shipment_id, order_id, tracking_number, recipient, country_code, state)
               VALUES (?, ?, ?, ?, ?, 'CREATED')""",
            (
                reference(step),
                request.order_id,
                shipment.tracking_number,
                request.destination.recipient,
                request.destination.country_code,
            ),
        )
        return shipment

    async def compensate(self, _request: CreateShipmentRequest, _output: Shipment | None, step: Step) -> None:
        """Cancel the shipment. Its row and its tracking number stay: both were real."""
        step.transaction.execute("UPDATE shipments SET state = 'CANCELLED' WHERE shipment_id = ?", (reference(step),))


def _assign(database: SqliteTransaction, country_code: str) -> Shipment:
    found = database.execute(
        "UPDATE carriers SET parcels = parcels + 1 WHERE country_code = ? RETURNING carrier, parcels", (country_code,)
    ).fetchall()
    if not found:
        raise Rejected("ADDRESS_NOT_SERVED", f"no carrier goes to {country_code}", country_code=country_code)
    [(carrier, parcels)] = found
    return Shipment(tracking_number=f"{country_code}-{parcels:06}", carrier=carrier)


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("shipping", [CreateShipment()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("shipping.db")) -> None:
    """Serve the shipping."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
