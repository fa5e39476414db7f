"""A bank: money moves once, goes back once, and all balances together are the same at every moment."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from google.protobuf.message import Message

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.transfer.bank import Bank, participant
from sample_services.transfer.v1.bank_pb2 import (
    Credit,
    CreditAccountRequest,
    Debit,
    DebitAccountRequest,
    SettleTransferRequest,
)
from sample_services.transfer.v1.transfer_pb2 import Money
from tests.sample_services.conftest import Select

BALANCES = "SELECT account_id, balance_minor FROM accounts WHERE balance_minor <> opening_minor ORDER BY account_id"
MOVEMENTS = "SELECT kind, transfer_id, from_account, to_account, amount_minor FROM movements ORDER BY rowid"
TOTALS = "SELECT currency, sum(balance_minor) FROM accounts GROUP BY currency ORDER BY currency"


@pytest.fixture
async def bank(tmp_path: Path, select: Select) -> AsyncIterator[ActionHarness]:
    """The southern bank, whose totals are the same after every test as before it."""
    async with ActionHarness(participant(Bank.SOUTH, tmp_path / "bank.db")) as opened:
        before = select("bank.db", TOTALS)
        yield opened
        assert select("bank.db", TOTALS) == before == [("EUR", 70000), ("USD", 10000)]


def euros(minor_units: int) -> Money:
    return Money(minor_units=minor_units, currency="EUR")


def debit(minor_units: int, account_id: str = "hugo@south", currency: str = "EUR") -> DebitAccountRequest:
    amount = Money(minor_units=minor_units, currency=currency)
    return DebitAccountRequest(transfer_id="transfer-1", account_id=account_id, amount=amount)


def credit(minor_units: int, account_id: str = "hugo@south", currency: str = "EUR") -> CreditAccountRequest:
    amount = Money(minor_units=minor_units, currency=currency)
    return CreditAccountRequest(transfer_id="transfer-1", account_id=account_id, amount=amount)


async def test_everything_on_an_account_can_be_debited_and_once_g2(bank: ActionHarness, select: Select) -> None:
    first = await bank.execute(debit(20000), action="DebitAccount")
    assert await bank.execute(debit(20000), action="DebitAccount") == first

    debit_id = unpack(first.completed.output, Debit).debit_id
    assert select("bank.db", "SELECT movement_id FROM movements") == [(debit_id,)]
    assert select("bank.db", MOVEMENTS) == [("DEBIT", "transfer-1", "hugo@south", "in_flight.EUR", 20000)]
    assert select("bank.db", BALANCES) == [("hugo@south", 0), ("in_flight.EUR", 20000)]


async def test_an_account_is_credited_with_what_the_other_bank_owes_and_once_g2(
    bank: ActionHarness, select: Select
) -> None:
    first = await bank.execute(credit(700), action="CreditAccount")
    assert await bank.execute(credit(700), action="CreditAccount") == first

    credit_id = unpack(first.completed.output, Credit).credit_id
    assert select("bank.db", "SELECT movement_id FROM movements") == [(credit_id,)]
    assert select("bank.db", MOVEMENTS) == [("CREDIT", "transfer-1", "interbank.EUR", "hugo@south", 700)]
    assert select("bank.db", BALANCES) == [("hugo@south", 20700), ("interbank.EUR", -700)]


async def test_settling_owes_to_the_other_bank_what_was_in_flight_and_once_g2(
    bank: ActionHarness, select: Select
) -> None:
    await bank.execute(debit(500), action="DebitAccount", step="debit")
    request = SettleTransferRequest(transfer_id="transfer-1", amount=euros(500))
    first = await bank.execute(request, action="SettleTransfer", step="settle")
    assert await bank.execute(request, action="SettleTransfer", step="settle") == first

    assert select("bank.db", MOVEMENTS)[1:] == [("SETTLEMENT", "transfer-1", "in_flight.EUR", "interbank.EUR", 500)]
    assert select("bank.db", BALANCES) == [("hugo@south", 19500), ("interbank.EUR", 500)]


@pytest.mark.parametrize(
    ("action", "asked", "reason"),
    [
        ("DebitAccount", debit(20001), "INSUFFICIENT_FUNDS"),
        ("DebitAccount", debit(1, "ada@north"), "UNKNOWN_ACCOUNT"),
        ("DebitAccount", debit(1, "in_flight.EUR"), "UNKNOWN_ACCOUNT"),
        ("DebitAccount", debit(1, "otto@south"), "ACCOUNT_CLOSED"),
        ("DebitAccount", debit(1, currency="USD"), "CURRENCY_MISMATCH"),
        ("DebitAccount", debit(0), "INVALID_AMOUNT"),
        ("DebitAccount", debit(-1), "INVALID_AMOUNT"),
        ("CreditAccount", credit(1, "ada@north"), "UNKNOWN_ACCOUNT"),
        ("CreditAccount", credit(1, "interbank.EUR"), "UNKNOWN_ACCOUNT"),
        ("CreditAccount", credit(1, "otto@south"), "ACCOUNT_CLOSED"),
        ("CreditAccount", credit(1, "ines@south"), "CURRENCY_MISMATCH"),
        ("CreditAccount", credit(0), "INVALID_AMOUNT"),
    ],
)
async def test_what_is_refused_moves_nothing(
    bank: ActionHarness, select: Select, action: str, asked: Message, reason: str
) -> None:
    assert (await bank.execute(asked, action=action)).rejected.reason == reason
    assert select("bank.db", MOVEMENTS) == []
    assert select("bank.db", BALANCES) == []


async def test_compensate_moves_back_what_was_debited_once(bank: ActionHarness, select: Select) -> None:
    await bank.execute(debit(12000), action="DebitAccount")
    await bank.execute(debit(3000), action="DebitAccount", saga_uid="another")
    for _ in range(2):
        await bank.compensate(action="DebitAccount")

    assert select("bank.db", MOVEMENTS) == [
        ("DEBIT", "transfer-1", "hugo@south", "in_flight.EUR", 12000),
        ("DEBIT", "transfer-1", "hugo@south", "in_flight.EUR", 3000),
        ("REVERSAL", "transfer-1", "in_flight.EUR", "hugo@south", 12000),
    ]
    assert select("bank.db", BALANCES) == [("hugo@south", 17000), ("in_flight.EUR", 3000)]


async def test_compensate_is_not_refused_where_the_account_was_closed_meanwhile(
    bank: ActionHarness, tmp_path: Path, select: Select
) -> None:
    await bank.execute(debit(500), action="DebitAccount")
    close(tmp_path / "bank.db", "hugo@south")

    assert (await bank.compensate(action="DebitAccount")).HasField("compensated")
    assert select("bank.db", BALANCES) == []


def close(database: Path, account_id: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE accounts SET state = 'CLOSED' WHERE account_id = ?", (account_id,))
        connection.commit()


async def test_a_late_execute_after_compensate_moves_nothing_g8(bank: ActionHarness, select: Select) -> None:
    assert (await bank.compensate(debit(100), action="DebitAccount")).compensated.noop
    assert (await bank.execute(debit(100), action="DebitAccount")).rejected.reason == "BARRED"
    assert select("bank.db", MOVEMENTS) == []


async def test_the_two_banks_are_two_participants_with_customers_of_their_own(tmp_path: Path, select: Select) -> None:
    for bank in Bank:
        async with ActionHarness(participant(bank, tmp_path / f"{bank}.db")):
            assert participant(bank, tmp_path / "any.db").name == f"bank_{bank}"
            customers = select(f"{bank}.db", "SELECT account_id FROM accounts WHERE owner = 'CUSTOMER'")
            assert customers
            assert all(account_id.endswith(f"@{bank}") for (account_id,) in customers)
