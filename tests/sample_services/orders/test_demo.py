"""The sums of the order services: right when nothing is lost, and wrong when anything is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from participant_sdk.testing import ActionHarness
from sample_services.orders import inventory, payment
from sample_services.orders.card_gateway import CardGateway
from sample_services.orders.demo import Orders
from sample_services.orders.v1.inventory_pb2 import ReserveStockRequest
from sample_services.orders.v1.orders_pb2 import OrderLine
from sample_services.orders.v1.payment_pb2 import ChargeCardRequest


@pytest.fixture
async def orders(tmp_path: Path) -> Orders:
    """Two orders of one kettle, one of them shipped and one compensated, in real databases."""
    gateway = CardGateway(tmp_path / "card_gateway.db")
    entry = Orders(tmp_path)
    async with (
        ActionHarness(inventory.participant(tmp_path / "inventory.db")) as stock,
        ActionHarness(payment.participant(tmp_path / "payment.db", gateway)) as cards,
    ):
        entry.remember()
        for saga_uid in ("shipped", "compensated"):
            await stock.execute(ReserveStockRequest(lines=[OrderLine(sku="kettle", quantity=1)]), saga_uid=saga_uid)
            await cards.execute(ChargeCardRequest(card_token="tok_gold", amount_cents=4900), saga_uid=saga_uid)
        await stock.confirm(saga_uid="shipped")
        await cards.compensate(saga_uid="compensated")
        await stock.compensate(saga_uid="compensated")
    return entry


def wrong(orders: Orders) -> list[tuple[str, str]]:
    return [(each.name, each.expected_as) for each in orders.sums() if not each.adds_up]


async def test_they_add_up_after_an_order_that_completed_and_one_that_did_not(orders: Orders) -> None:
    assert wrong(orders) == []
    [books, _] = [each for each in orders.sums() if each.name == "cents in the books"]
    assert books.terms == (("charges", 9800), ("refunds", -4900))
    assert books.total == 4900


@pytest.mark.parametrize(
    ("database", "damage", "found"),
    [
        ("inventory", "UPDATE stock SET available = available - 1", "pieces of cup"),
        ("inventory", "UPDATE stock SET reserved = 1 WHERE sku = 'kettle'", "pieces of kettle"),
        ("payment", "DELETE FROM refunds", "cents in the books"),
        ("payment", "DELETE FROM charges", "cents in the books"),
        ("card_gateway", "UPDATE charges SET state = 'CHARGED'", "cents in the books"),
    ],
)
async def test_what_is_lost_or_doubled_is_found(
    orders: Orders, tmp_path: Path, database: str, damage: str, found: str
) -> None:
    with closing(sqlite3.connect(tmp_path / f"{database}.db")) as connection:
        connection.execute(damage)
        connection.commit()

    assert found in [name for name, _ in wrong(orders)]
