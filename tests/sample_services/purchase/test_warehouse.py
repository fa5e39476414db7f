"""The warehouse: pieces move between the stock and the sales, and are never lost or made."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.purchase import warehouse
from sample_services.purchase.v1.purchase_pb2 import Goods
from sample_services.purchase.v1.warehouse_pb2 import Sale, UpdateInventoryRequest
from tests.sample_services.conftest import Select

STOCK = "SELECT sku, pieces FROM stock ORDER BY sku"
SALES = "SELECT sku, quantity, state FROM sales ORDER BY rowid"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(warehouse.participant(tmp_path / "warehouse.db")) as opened:
        yield opened


def request(quantity: int, sku: str = "atlas") -> UpdateInventoryRequest:
    return UpdateInventoryRequest(goods=Goods(sku=sku, quantity=quantity))


async def test_the_last_pieces_can_be_sold_and_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request(5))
    assert await harness.execute(request(5)) == first

    assert select("warehouse.db", "SELECT sale_id FROM sales") == [(unpack(first.completed.output, Sale).sale_id,)]
    assert select("warehouse.db", SALES) == [("atlas", 5, "SOLD")]
    assert select("warehouse.db", STOCK) == [("atlas", 0), ("novel", 40)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(6), "OUT_OF_STOCK"),
        (request(1, "map"), "OUT_OF_STOCK"),
        (request(0), "INVALID_QUANTITY"),
        (request(-1), "INVALID_QUANTITY"),
    ],
)
async def test_a_refused_sale_takes_nothing(
    harness: ActionHarness, select: Select, asked: UpdateInventoryRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("warehouse.db", SALES) == []
    assert select("warehouse.db", STOCK) == [("atlas", 5), ("novel", 40)]


async def test_compensate_puts_the_pieces_back_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(2))
    await harness.execute(request(1), saga_uid="another")
    for _ in range(2):
        await harness.compensate()

    assert select("warehouse.db", SALES) == [("atlas", 2, "RETURNED"), ("atlas", 1, "SOLD")]
    assert select("warehouse.db", STOCK) == [("atlas", 4), ("novel", 40)]


async def test_a_late_execute_after_compensate_takes_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request(2))).compensated.noop
    assert (await harness.execute(request(2))).rejected.reason == "BARRED"
    assert select("warehouse.db", STOCK) == [("atlas", 5), ("novel", 40)]
