"""The sums of the purchase services: right when nothing is lost, and wrong when anything is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from participant_sdk.testing import ActionHarness
from sample_services.purchase import merchants, notifications, payment_accounts, warehouse
from sample_services.purchase.demo import Purchases
from sample_services.purchase.v1.merchants_pb2 import CreditMerchantRequest
from sample_services.purchase.v1.notifications_pb2 import SendNotificationRequest
from sample_services.purchase.v1.payment_accounts_pb2 import DebitAccountRequest
from sample_services.purchase.v1.purchase_pb2 import Goods
from sample_services.purchase.v1.warehouse_pb2 import UpdateInventoryRequest


@pytest.fixture
async def purchases(tmp_path: Path) -> Purchases:
    """Two purchases, one of them made and one compensated, in real databases."""
    entry = Purchases(tmp_path)
    async with (
        ActionHarness(payment_accounts.participant(tmp_path / "payment_accounts.db")) as buyers,
        ActionHarness(merchants.participant(tmp_path / "merchants.db")) as sellers,
        ActionHarness(warehouse.participant(tmp_path / "warehouse.db")) as stock,
        ActionHarness(notifications.participant(tmp_path / "notifications.db")) as told,
    ):
        entry.remember()
        for saga_uid in ("made", "compensated"):
            await buyers.execute(DebitAccountRequest(account_id="ada", amount_cents=6500), saga_uid=saga_uid)
            await sellers.execute(CreditMerchantRequest(merchant_id="bookshop", amount_cents=6500), saga_uid=saga_uid)
            await stock.execute(UpdateInventoryRequest(goods=Goods(sku="atlas", quantity=1)), saga_uid=saga_uid)
        await told.execute(SendNotificationRequest(purchase_id="made", account_id="ada"), saga_uid="made")
        for service in (stock, sellers, buyers):
            await service.compensate(saga_uid="compensated")
    return entry


def wrong(purchases: Purchases) -> list[str]:
    return [each.name for each in purchases.sums() if not each.adds_up]


async def test_they_add_up_after_a_purchase_that_was_made_and_one_that_was_not(purchases: Purchases) -> None:
    assert wrong(purchases) == []
    [everybody] = [each for each in purchases.sums() if each.name == "cents of everybody"]
    assert everybody.terms == (("buyers", 63500), ("merchants", 6500))


@pytest.mark.parametrize(
    ("database", "damage", "found"),
    [
        ("payment_accounts", "UPDATE accounts SET balance_cents = balance_cents + 1", "cents of everybody"),
        ("merchants", "UPDATE merchants SET balance_cents = 0", "cents of everybody"),
        ("payment_accounts", "DELETE FROM entries WHERE kind = 'REVERSAL'", "cents that merchants got"),
        ("merchants", "DELETE FROM entries WHERE kind = 'REVERSAL'", "cents that merchants got"),
        ("warehouse", "UPDATE stock SET pieces = pieces + 1 WHERE sku = 'novel'", "pieces of novel"),
        ("warehouse", "UPDATE sales SET state = 'SOLD'", "pieces of atlas"),
        ("notifications", "DELETE FROM notifications", "notifications"),
    ],
)
async def test_what_is_lost_or_doubled_is_found(
    purchases: Purchases, tmp_path: Path, database: str, damage: str, found: str
) -> None:
    with closing(sqlite3.connect(tmp_path / f"{database}.db")) as connection:
        connection.execute(damage)
        connection.commit()

    assert found in wrong(purchases)
