"""The sums of the banks: right when nothing is lost, also in the middle of a transfer, and wrong when anything is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from participant_sdk.testing import ActionHarness
from sample_services.transfer.bank import Bank, participant
from sample_services.transfer.demo import Transfers
from sample_services.transfer.v1.bank_pb2 import CreditAccountRequest, DebitAccountRequest, SettleTransferRequest
from sample_services.transfer.v1.transfer_pb2 import Money

AMOUNT = Money(minor_units=700, currency="EUR")


def wrong(transfers: Transfers) -> list[str]:
    return [each.name for each in transfers.sums() if not each.adds_up]


def totals_hold(transfers: Transfers) -> bool:
    return all(total.adds_up for total in transfers.totals())


@pytest.fixture
async def transfers(tmp_path: Path) -> Transfers:
    """Two transfers, one of them made and one compensated, in real databases."""
    entry = Transfers(tmp_path)
    async with (
        ActionHarness(participant(Bank.NORTH, tmp_path / "bank_north.db")) as north,
        ActionHarness(participant(Bank.SOUTH, tmp_path / "bank_south.db")) as south,
    ):
        for saga_uid in ("made", "compensated"):
            debit = DebitAccountRequest(account_id="ada@north", amount=AMOUNT)
            await north.execute(debit, action="DebitAccount", step="debit", saga_uid=saga_uid)
            assert totals_hold(entry)
            assert "EUR cents in flight" in wrong(entry)
        credit = CreditAccountRequest(account_id="hugo@south", amount=AMOUNT)
        await south.execute(credit, action="CreditAccount", step="credit", saga_uid="made")
        assert totals_hold(entry)
        settle = SettleTransferRequest(amount=AMOUNT)
        await north.execute(settle, action="SettleTransfer", step="settle", saga_uid="made")
        await north.compensate(action="DebitAccount", step="debit", saga_uid="compensated")
    return entry


async def test_they_add_up_after_a_transfer_that_was_made_and_one_that_was_not(transfers: Transfers) -> None:
    assert wrong(transfers) == []
    [customers] = [each for each in transfers.sums() if each.name == "EUR cents of customers"]
    assert customers.terms == (("bank_north", 129300), ("bank_south", 70700))
    [north, *_] = transfers.totals()
    assert north.terms == (("of customers", 129300), ("in flight", 0), ("interbank", 700))


@pytest.mark.parametrize(
    ("bank", "account_id", "balance_minor", "found"),
    [
        (Bank.NORTH, "ada@north", 1, "EUR cents at bank_north"),
        (Bank.SOUTH, "ines@south", 0, "USD cents at bank_south"),
        (Bank.SOUTH, "interbank.EUR", 0, "EUR cents interbank"),
        (Bank.SOUTH, "hugo@south", 20000, "EUR cents of customers"),
        (Bank.NORTH, "in_flight.EUR", 1, "EUR cents in flight"),
    ],
)
async def test_what_is_lost_or_doubled_is_found(
    transfers: Transfers, tmp_path: Path, bank: Bank, account_id: str, balance_minor: int, found: str
) -> None:
    with closing(sqlite3.connect(tmp_path / f"bank_{bank}.db")) as connection:
        connection.execute("UPDATE accounts SET balance_minor = ? WHERE account_id = ?", (balance_minor, account_id))
        connection.commit()

    assert found in wrong(transfers)


async def test_a_movement_that_is_missing_in_the_ledger_is_found(transfers: Transfers, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "bank_north.db")) as connection:
        connection.execute("DELETE FROM movements WHERE kind = 'REVERSAL'")
        connection.commit()

    assert "balances that the ledger explains" in wrong(transfers)
