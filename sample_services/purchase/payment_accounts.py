"""The service of the payment accounts: what buyers have, and what they paid.

All it does happens in its own database, in the database transaction of the barrier. A debit that is compensated keeps
its row, and a reversal comes beside it: money that moved twice has moved.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Participant, Rejected, SqliteBarrier, SqliteTransaction, Step
from sample_services.purchase.v1.payment_accounts_pb2 import Debit, DebitAccountRequest
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class DebitAccount(Action[DebitAccountRequest, Debit]):
    """Takes money from a payment account."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "INSUFFICIENT_FUNDS": "There is no such account, or less on it than the amount.",
        "INVALID_AMOUNT": "The amount is below 1 cent.",
    }

    async def execute(self, request: DebitAccountRequest, step: Step) -> Debit:
        """Lower the balance."""
        if request.amount_cents < 1:
            raise Rejected("INVALID_AMOUNT", f"{request.amount_cents} cents")
        found = step.transaction.execute(
            "SELECT 1 FROM accounts WHERE account_id = ? AND balance_cents >= ?",
            (request.account_id, request.amount_cents),
        ).fetchone()
        if found is None:
            raise Rejected("INSUFFICIENT_FUNDS", f"{request.account_id} does not have {request.amount_cents} cents")
        _enter(step.transaction, reference(step), "DEBIT", request.account_id, -request.amount_cents)
        return Debit(debit_id=reference(step))

    async def compensate(self, request: DebitAccountRequest, _output: Debit | None, step: Step) -> None:
        """Give the money back."""
        _enter(step.transaction, reference(step), "REVERSAL", request.account_id, request.amount_cents)


def _enter(database: SqliteTransaction, debit_id: str, kind: str, account_id: str, amount_cents: int) -> None:
    """Change a balance, and say why in the books."""
    database.execute(
        "INSERT INTO entries (debit_id, kind, account_id, amount_cents) VALUES (?, ?, ?, ?)",
        (debit_id, kind, account_id, amount_cents),
    )
    database.execute(
        "UPDATE accounts SET balance_cents = balance_cents + ? WHERE account_id = ?", (amount_cents, account_id)
    )


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant(
        "payment_accounts", [DebitAccount()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION
    )


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("payment_accounts.db")) -> None:
    """Serve the payment accounts."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
