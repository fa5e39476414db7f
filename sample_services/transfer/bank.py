"""A bank: the accounts of its customers, and a ledger of every movement of money. It runs twice, for two banks.

Money is never made or lost here, not even between the steps of a saga: what leaves a customer's account goes to an
account of the bank's own, in the database transaction of the barrier. So all balances of one bank together are the same
at every moment, and a look at the bank's own accounts says what is on its way.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

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
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve
from sample_services.transfer.v1.bank_pb2 import (
    Credit,
    CreditAccountRequest,
    Debit,
    DebitAccountRequest,
    Settlement,
    SettleTransferRequest,
)
from sample_services.transfer.v1.transfer_pb2 import Money

_REJECTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "UNKNOWN_ACCOUNT": "No customer of this bank has such an account.",
        "ACCOUNT_CLOSED": "The account is closed.",
        "CURRENCY_MISMATCH": "The account is in another currency.",
        "INVALID_AMOUNT": "The amount is below 1.",
    }
)


class Bank(StrEnum):
    """Which bank a process is."""

    NORTH = "north"
    SOUTH = "south"


class DebitAccount(Action[DebitAccountRequest, Debit]):
    """Takes money from an account, and keeps it in flight."""

    kinds = (COMPENSATABLE,)
    rejections = MappingProxyType(
        {**_REJECTIONS, "INSUFFICIENT_FUNDS": "There is less on the account than the amount."}
    )

    async def execute(self, request: DebitAccountRequest, step: Step) -> Debit:
        """Move it from the account to what is in flight."""
        balance_minor = _check(step.transaction, request.account_id, request.amount)
        if balance_minor < request.amount.minor_units:
            message = f"{request.account_id} has {balance_minor} of {request.amount.minor_units}"
            raise Rejected("INSUFFICIENT_FUNDS", message, account_id=request.account_id)
        in_flight = _in_flight(request.amount)
        _move(step, "DEBIT", request.transfer_id, request.account_id, in_flight, request.amount)
        return Debit(debit_id=reference(step))

    async def compensate(self, request: DebitAccountRequest, _output: Debit | None, step: Step) -> None:
        """Move it back, also where the account was closed meanwhile: the money is still its owner's."""
        in_flight = _in_flight(request.amount)
        _move(step, "REVERSAL", request.transfer_id, in_flight, request.account_id, request.amount)


class CreditAccount(Action[CreditAccountRequest, Credit]):
    """Puts money on an account that the other bank has debited, for good."""

    kinds = (PIVOT,)
    rejections = _REJECTIONS

    async def execute(self, request: CreditAccountRequest, step: Step) -> Credit:
        """Move it from what the other bank owes to the account."""
        _check(step.transaction, request.account_id, request.amount)
        interbank = _interbank(request.amount)
        _move(step, "CREDIT", request.transfer_id, interbank, request.account_id, request.amount)
        return Credit(credit_id=reference(step))


class SettleTransfer(Action[SettleTransferRequest, Settlement]):
    """Owes to the other bank what was in flight: the payee has it."""

    kinds = (RETRIABLE,)

    async def execute(self, request: SettleTransferRequest, step: Step) -> Settlement:
        """Move it from what is in flight to what the other bank is owed."""
        in_flight, interbank = _in_flight(request.amount), _interbank(request.amount)
        _move(step, "SETTLEMENT", request.transfer_id, in_flight, interbank, request.amount)
        return Settlement(settlement_id=reference(step))


def _check(database: SqliteTransaction, account_id: str, amount: Money) -> int:
    """Return the balance of an account, if it can take part in a transfer of this amount. Errors: `Rejected`."""
    if amount.minor_units < 1:
        raise Rejected("INVALID_AMOUNT", f"{amount.minor_units} of {amount.currency}")
    found = database.execute(
        "SELECT state, currency, balance_minor FROM accounts WHERE account_id = ? AND owner = 'CUSTOMER'", (account_id,)
    ).fetchone()
    if found is None:
        raise Rejected("UNKNOWN_ACCOUNT", f"there is no account {account_id}", account_id=account_id)
    state, currency, balance_minor = found
    if state != "OPEN":
        raise Rejected("ACCOUNT_CLOSED", f"{account_id} is closed", account_id=account_id)
    if currency != amount.currency:
        message = f"{account_id} is in {currency}, the amount in {amount.currency}"
        raise Rejected("CURRENCY_MISMATCH", message, account_id=account_id)
    return int(balance_minor)


def _move(step: Step, kind: str, transfer_id: str, from_account: str, to_account: str, amount: Money) -> None:
    """Move money between two accounts of this bank, and say so in the ledger."""
    minor_units = amount.minor_units
    step.transaction.execute(
        """INSERT INTO movements (movement_id, kind, transfer_id, from_account, to_account, amount_minor)
           VALUES (?, ?, ?, ?, ?, ?)""",
        (reference(step), kind, transfer_id, from_account, to_account, minor_units),
    )
    for account_id, change in ((from_account, -minor_units), (to_account, minor_units)):
        step.transaction.execute(
            "UPDATE accounts SET balance_minor = balance_minor + ? WHERE account_id = ?", (change, account_id)
        )


def _in_flight(amount: Money) -> str:
    return f"in_flight.{amount.currency}"


def _interbank(amount: Money) -> str:
    return f"interbank.{amount.currency}"


def participant(bank: Bank, database: Path) -> Participant:
    """Return a bank over its database."""
    schemas = (Path(__file__).with_name(f"{name}.sql") for name in ("bank", bank))
    barrier = SqliteBarrier(database, "\n".join(path.read_text(encoding="utf-8") for path in schemas))
    return Participant(
        f"bank_{bank}", [DebitAccount(), CreditAccount(), SettleTransfer()], barrier, key_retention=KEY_RETENTION
    )


def main(
    bank: Annotated[Bank, typer.Option(help="Which bank this is.")],
    listen: Listen = "127.0.0.1:0",
    database: Database = Path("bank.db"),
) -> None:
    """Serve a bank."""
    serve(participant(bank, database), listen)


if __name__ == "__main__":
    typer.run(main)
