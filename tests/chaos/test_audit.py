"""Both banks' books are read at one instant, or not at all."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sample_services.transfer import bank as sample
from sample_services.transfer.bank import Bank
from tests.chaos import audit
from tests.chaos.audit import Auditor

MOVE = "INSERT INTO movements VALUES (?, 'DEBIT', 't', 'ada@north', 'in_flight.EUR', 5)"


@pytest.fixture
async def databases(tmp_path: Path) -> dict[Bank, Path]:
    """Both banks' databases, as their services make them."""
    found = {bank: tmp_path / f"{bank}.db" for bank in Bank}
    for bank, path in found.items():
        async with sample.participant(bank, path).running("127.0.0.1:0"):
            pass
    return found


def test_it_reads_all_accounts_and_each_movement_once(databases: dict[Bank, Path]) -> None:
    auditor = Auditor(databases)
    books = auditor.read()
    assert books is not None
    assert {(each.bank, each.account_id): each.balance_minor for each in books.accounts if each.balance_minor} == {
        (Bank.NORTH, "ada@north"): 100000,
        (Bank.NORTH, "bob@north"): 30000,
        (Bank.SOUTH, "grace@south"): 50000,
        (Bank.SOUTH, "hugo@south"): 20000,
        (Bank.SOUTH, "ines@south"): 10000,
    }
    assert books.movements == []
    for number in ("1", "2"):
        with closing(sqlite3.connect(databases[Bank.NORTH])) as connection, connection:
            connection.execute(MOVE, (number,))
        books = auditor.read()
        assert books is not None
        assert [(each.bank, each.kind, each.amount_minor) for each in books.movements] == [(Bank.NORTH, "DEBIT", 5)]


@pytest.mark.parametrize("bank", Bank)
def test_there_is_no_read_while_a_bank_writes(
    databases: dict[Bank, Path], bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LOCK_WAIT_S", 0.01)
    auditor = Auditor(databases)
    with closing(sqlite3.connect(databases[bank], isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        assert auditor.read() is None
        writing.execute("ROLLBACK")
    assert auditor.read() is not None
