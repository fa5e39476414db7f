"""The merchant service: what merchants have got for what they sold.

All it does happens in its own database, in the database transaction of the barrier. A credit that is compensated keeps
its row, and a reversal comes beside it. It cannot be refused: a merchant who has spent the money already owes it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Participant, Rejected, SqliteBarrier, SqliteTransaction, Step
from sample_services.purchase.v1.merchants_pb2 import Credit, CreditMerchantRequest
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class CreditMerchant(Action[CreditMerchantRequest, Credit]):
    """Credits a merchant with the money of a purchase."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "UNKNOWN_MERCHANT": "There is no such merchant.",
        "INVALID_AMOUNT": "The amount is below 1 cent.",
    }

    async def execute(self, request: CreditMerchantRequest, step: Step) -> Credit:
        """Raise the balance."""
        if request.amount_cents < 1:
            raise Rejected("INVALID_AMOUNT", f"{request.amount_cents} cents")
        found = step.transaction.execute("SELECT 1 FROM merchants WHERE merchant_id = ?", (request.merchant_id,))
        if found.fetchone() is None:
            raise Rejected("UNKNOWN_MERCHANT", f"there is no merchant {request.merchant_id}")
        _enter(step.transaction, reference(step), "CREDIT", request.merchant_id, request.amount_cents)
        return Credit(credit_id=reference(step))

    async def compensate(self, request: CreditMerchantRequest, _output: Credit | None, step: Step) -> None:
        """Take the money back."""
        _enter(step.transaction, reference(step), "REVERSAL", request.merchant_id, -request.amount_cents)


def _enter(database: SqliteTransaction, credit_id: str, kind: str, merchant_id: str, amount_cents: int) -> None:
    """Change a balance, and say why in the books."""
    database.execute(
        "INSERT INTO entries (credit_id, kind, merchant_id, amount_cents) VALUES (?, ?, ?, ?)",
        (credit_id, kind, merchant_id, amount_cents),
    )
    database.execute(
        "UPDATE merchants SET balance_cents = balance_cents + ? WHERE merchant_id = ?", (amount_cents, merchant_id)
    )


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("merchants", [CreditMerchant()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("merchants.db")) -> None:
    """Serve the merchants."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
