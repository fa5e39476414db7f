"""The inventory: pieces move between available, reserved and shipped, and are never lost or made."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.orders import inventory
from sample_services.orders.v1.inventory_pb2 import Reservation, ReserveStockRequest
from sample_services.orders.v1.orders_pb2 import OrderLine
from tests.sample_services.conftest import Select

STOCK = "SELECT available, reserved, shipped FROM stock WHERE sku = 'kettle'"
CUPS = "SELECT available, reserved, shipped FROM stock WHERE sku = 'cup'"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(inventory.participant(tmp_path / "inventory.db")) as opened:
        yield opened


def request(**quantities: int) -> ReserveStockRequest:
    lines = [OrderLine(sku=sku, quantity=quantity) for sku, quantity in quantities.items()]
    return ReserveStockRequest(order_id="order-1", lines=lines)


async def test_reserving_sets_all_lines_aside_and_says_what_they_cost(harness: ActionHarness, select: Select) -> None:
    reply = await harness.execute(request(kettle=2, cup=3))

    reservation = unpack(reply.completed.output, Reservation)
    assert reservation.total_cents == 2 * 4900 + 3 * 850
    assert select("inventory.db", STOCK) == [(18, 2, 0)]
    assert select("inventory.db", CUPS) == [(197, 3, 0)]
    assert select("inventory.db", "SELECT reservation_id, order_id, state FROM reservations") == [
        (reservation.reservation_id, "order-1", "HELD")
    ]


async def test_a_repeated_execute_reserves_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request(kettle=2))
    second = await harness.execute(request(kettle=2))

    assert second == first
    assert select("inventory.db", STOCK) == [(18, 2, 0)]


async def test_out_of_stock_on_any_line_reserves_nothing(harness: ActionHarness, select: Select) -> None:
    reply = await harness.execute(request(cup=3, kettle=21))

    assert reply.rejected.reason == "OUT_OF_STOCK"
    assert reply.rejected.metadata["sku"] == "kettle"
    assert select("inventory.db", CUPS) == [(200, 0, 0)]
    assert select("inventory.db", "SELECT * FROM reservations") == []


async def test_the_last_piece_can_be_reserved(harness: ActionHarness, select: Select) -> None:
    assert (await harness.execute(request(kettle=20))).HasField("completed")
    assert select("inventory.db", STOCK) == [(0, 20, 0)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(samovar=1), "UNKNOWN_SKU"),
        (request(), "INVALID_ORDER"),
        (request(kettle=0), "INVALID_ORDER"),
        (request(kettle=-1), "INVALID_ORDER"),
        (ReserveStockRequest(lines=[OrderLine(sku="cup", quantity=1)] * 2), "INVALID_ORDER"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    harness: ActionHarness, select: Select, asked: ReserveStockRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("inventory.db", STOCK) == [(20, 0, 0)]


async def test_compensate_makes_the_pieces_available_again_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(kettle=2, cup=3))
    await harness.execute(request(kettle=5), saga_uid="another saga")
    await harness.compensate()
    await harness.compensate()

    assert select("inventory.db", STOCK) == [(15, 5, 0)]
    assert select("inventory.db", CUPS) == [(200, 0, 0)]
    assert select("inventory.db", "SELECT state FROM reservations ORDER BY state") == [("HELD",), ("RELEASED",)]


async def test_confirm_ships_the_pieces_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(kettle=2))
    await harness.execute(request(kettle=5), saga_uid="another saga")
    await harness.confirm()
    await harness.confirm()

    assert select("inventory.db", STOCK) == [(13, 5, 2)]
    assert select("inventory.db", "SELECT state FROM reservations ORDER BY state") == [("HELD",), ("SHIPPED",)]


async def test_a_late_execute_after_compensate_reserves_nothing_g8(harness: ActionHarness, select: Select) -> None:
    reply = await harness.compensate(request(kettle=2))

    assert reply.compensated.noop
    assert (await harness.execute(request(kettle=2))).rejected.reason == "BARRED"
    assert select("inventory.db", STOCK) == [(20, 0, 0)]


async def test_a_restart_keeps_what_happened(tmp_path: Path, select: Select) -> None:
    for saga_uid in ("first", "second"):
        async with ActionHarness(inventory.participant(tmp_path / "inventory.db")) as harness:
            await harness.execute(request(kettle=2), saga_uid=saga_uid)

    assert select("inventory.db", STOCK) == [(16, 4, 0)]
