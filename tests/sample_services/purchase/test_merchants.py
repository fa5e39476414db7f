"""The merchants: money comes once, goes back once, and the books say both."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.purchase import merchants
from sample_services.purchase.v1.merchants_pb2 import Credit, CreditMerchantRequest
from tests.sample_services.conftest import Select

BALANCES = "SELECT merchant_id, balance_cents FROM merchants ORDER BY merchant_id"
ENTRIES = "SELECT kind, merchant_id, amount_cents FROM entries ORDER BY rowid"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(merchants.participant(tmp_path / "merchants.db")) as opened:
        yield opened


def request(amount_cents: int, merchant_id: str = "bookshop") -> CreditMerchantRequest:
    return CreditMerchantRequest(merchant_id=merchant_id, amount_cents=amount_cents)


async def test_a_merchant_is_credited_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request(700))
    assert await harness.execute(request(700)) == first

    credit_id = unpack(first.completed.output, Credit).credit_id
    assert select("merchants.db", "SELECT credit_id FROM entries") == [(credit_id,)]
    assert select("merchants.db", ENTRIES) == [("CREDIT", "bookshop", 700)]
    assert select("merchants.db", BALANCES) == [("bakery", 0), ("bookshop", 700)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [(request(1, "nobody"), "UNKNOWN_MERCHANT"), (request(0), "INVALID_AMOUNT"), (request(-1), "INVALID_AMOUNT")],
)
async def test_a_refused_credit_gives_nothing(
    harness: ActionHarness, select: Select, asked: CreditMerchantRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("merchants.db", ENTRIES) == []
    assert select("merchants.db", BALANCES) == [("bakery", 0), ("bookshop", 0)]


async def test_compensate_takes_the_money_back_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(700))
    await harness.execute(request(500), saga_uid="another")
    for _ in range(2):
        await harness.compensate()

    assert select("merchants.db", ENTRIES) == [
        ("CREDIT", "bookshop", 700),
        ("CREDIT", "bookshop", 500),
        ("REVERSAL", "bookshop", -700),
    ]
    assert select("merchants.db", BALANCES) == [("bakery", 0), ("bookshop", 500)]


async def test_compensate_is_not_refused_where_the_money_is_spent(
    harness: ActionHarness, tmp_path: Path, select: Select
) -> None:
    await harness.execute(request(700))
    spend(tmp_path / "merchants.db")

    assert (await harness.compensate()).HasField("compensated")
    assert select("merchants.db", BALANCES) == [("bakery", 0), ("bookshop", -700)]


def spend(database: Path) -> None:
    """Have every merchant spend everything."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE merchants SET balance_cents = 0")
        connection.commit()


async def test_a_late_execute_after_compensate_gives_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request(100))).compensated.noop
    assert (await harness.execute(request(100))).rejected.reason == "BARRED"
    assert select("merchants.db", ENTRIES) == []
