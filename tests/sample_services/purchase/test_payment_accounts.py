"""The payment accounts: money leaves once, comes back once, and the books say both."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.purchase import payment_accounts
from sample_services.purchase.v1.payment_accounts_pb2 import Debit, DebitAccountRequest
from tests.sample_services.conftest import Select

BALANCES = "SELECT account_id, balance_cents FROM accounts ORDER BY account_id"
ENTRIES = "SELECT kind, account_id, amount_cents FROM entries ORDER BY rowid"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(payment_accounts.participant(tmp_path / "accounts.db")) as opened:
        yield opened


def request(amount_cents: int, account_id: str = "grace") -> DebitAccountRequest:
    return DebitAccountRequest(account_id=account_id, amount_cents=amount_cents)


async def test_everything_on_an_account_can_be_debited_and_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request(20000))
    assert await harness.execute(request(20000)) == first

    debit_id = unpack(first.completed.output, Debit).debit_id
    assert select("accounts.db", "SELECT debit_id FROM entries") == [(debit_id,)]
    assert select("accounts.db", ENTRIES) == [("DEBIT", "grace", -20000)]
    assert select("accounts.db", BALANCES) == [("ada", 50000), ("grace", 0)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(20001), "INSUFFICIENT_FUNDS"),
        (request(1, "nobody"), "INSUFFICIENT_FUNDS"),
        (request(0), "INVALID_AMOUNT"),
        (request(-1), "INVALID_AMOUNT"),
    ],
)
async def test_a_refused_debit_takes_nothing(
    harness: ActionHarness, select: Select, asked: DebitAccountRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("accounts.db", ENTRIES) == []
    assert select("accounts.db", BALANCES) == [("ada", 50000), ("grace", 20000)]


async def test_compensate_gives_back_what_was_taken_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(12000))
    await harness.execute(request(3000), saga_uid="another")
    for _ in range(2):
        await harness.compensate()

    assert select("accounts.db", ENTRIES) == [
        ("DEBIT", "grace", -12000),
        ("DEBIT", "grace", -3000),
        ("REVERSAL", "grace", 12000),
    ]
    assert select("accounts.db", BALANCES) == [("ada", 50000), ("grace", 17000)]


async def test_a_late_execute_after_compensate_takes_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request(100))).compensated.noop
    assert (await harness.execute(request(100))).rejected.reason == "BARRED"
    assert select("accounts.db", BALANCES) == [("ada", 50000), ("grace", 20000)]
