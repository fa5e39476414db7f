"""The sums of the marketplace: right when nothing is lost and no order is half done, and wrong when anything is."""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.marketplace import market
from sample_services.marketplace.demo import Marketplace
from sample_services.marketplace.v1.market_pb2 import (
    NotifyBuyerRequest,
    OpenedOrder,
    OpenOrderRequest,
    PaySellersRequest,
    Sale,
)
from sample_services.marketplace.v1.orders_pb2 import Parcel
from sample_services.orders import inventory, payment, shipping
from sample_services.orders.card_gateway import CardGateway
from sample_services.orders.v1.inventory_pb2 import ReserveStockRequest
from sample_services.orders.v1.orders_pb2 import Address, OrderLine
from sample_services.orders.v1.payment_pb2 import ChargeCardRequest
from sample_services.orders.v1.shipping_pb2 import CreateShipmentRequest

TEAPOT_CENTS = 3500


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Mapping[str, ActionHarness]]:
    participants = (
        inventory.participant(tmp_path / "inventory.db"),
        payment.participant(tmp_path / "payment.db", CardGateway(tmp_path / "card_gateway.db")),
        shipping.participant(tmp_path / "shipping.db"),
        market.participant(tmp_path / "market.db"),
    )
    async with AsyncExitStack() as stack:
        yield {each.name: await stack.enter_async_context(ActionHarness(each)) for each in participants}


async def fulfil(services: Mapping[str, ActionHarness], parcel: str) -> None:
    """Do the steps of a parcel's saga, up to where it waits for its order."""
    reserve = ReserveStockRequest(order_id=parcel, lines=[OrderLine(sku="teapot", quantity=1)])
    await services["inventory"].execute(reserve, saga_uid=parcel)
    charge = ChargeCardRequest(order_id=parcel, card_token="tok_gold", amount_cents=TEAPOT_CENTS)
    await services["payment"].execute(charge, saga_uid=parcel)
    ship = CreateShipmentRequest(order_id=parcel, destination=Address(country_code="NL"))
    await services["shipping"].execute(ship, saga_uid=parcel)


async def opened(services: Mapping[str, ActionHarness], order_id: str) -> str:
    request = OpenOrderRequest(order_id=order_id, parcels=[Parcel(seller_id="tea_house")] * 2)
    reply = await services["market"].execute(request, action="OpenOrder", step="open", saga_uid=order_id)
    return unpack(reply.completed.output, OpenedOrder).entry_id


@pytest.fixture
async def marketplace(tmp_path: Path, services: Mapping[str, ActionHarness]) -> Marketplace:
    """Two orders of two parcels, one of them done and one compensated, in real databases."""
    entry = Marketplace(tmp_path)
    entry.remember()
    entries = {order_id: await opened(services, order_id) for order_id in ("done", "given-up")}
    for order_id in entries:
        for number in (1, 2):
            await fulfil(services, f"{order_id}/{number}")
    sales = [Sale(seller_id="tea_house", total_cents=TEAPOT_CENTS)] * 2
    pay = PaySellersRequest(entry_id=entries["done"], sales=sales)
    await services["market"].execute(pay, action="PaySellers", step="pay", saga_uid="done")
    notify = NotifyBuyerRequest(order_id="done")
    await services["market"].execute(notify, action="NotifyBuyer", step="notify", saga_uid="done")
    for number in (1, 2):
        await services["inventory"].confirm(saga_uid=f"done/{number}")
        for service in ("shipping", "payment", "inventory"):
            await services[service].compensate(saga_uid=f"given-up/{number}")
    await services["market"].compensate(action="OpenOrder", step="open", saga_uid="given-up")
    return entry


def wrong(marketplace: Marketplace) -> list[str]:
    return [each.name for each in marketplace.sums() if not each.adds_up]


async def test_they_add_up_after_an_order_that_is_done_and_one_that_was_given_up(marketplace: Marketplace) -> None:
    assert wrong(marketplace) == []
    [shared_out] = [each for each in marketplace.sums() if each.name == "cents shared out"]
    assert shared_out.terms == (("of sellers", 6440), ("fees", 560))


@pytest.mark.parametrize(
    ("database", "damage", "found"),
    [
        ("inventory", "UPDATE stock SET available = available + 1", "pieces of cup"),
        (
            "inventory",
            "UPDATE reservations SET state = 'HELD' WHERE order_id = 'done/2'",
            "parcels that left the stock",
        ),
        ("shipping", "UPDATE shipments SET state = 'CANCELLED' WHERE order_id = 'done/1'", "parcels on their way"),
        ("shipping", "UPDATE shipments SET state = 'CREATED' WHERE order_id = 'given-up/1'", "parcels on their way"),
        ("payment", "DELETE FROM refunds WHERE charge_id LIKE '%/1/%'", "cents shared out"),
        ("market", "UPDATE sellers SET balance_cents = balance_cents + 1", "cents of sellers"),
        ("market", "UPDATE payouts SET fee_cents = 0", "cents shared out"),
        ("market", "UPDATE orders SET state = 'GIVEN_UP'", "parcels on their way"),
        ("market", "DELETE FROM notices", "notices"),
    ],
)
async def test_what_is_lost_or_half_done_is_found(
    marketplace: Marketplace, tmp_path: Path, database: str, damage: str, found: str
) -> None:
    with closing(sqlite3.connect(tmp_path / f"{database}.db")) as connection:
        connection.execute(damage)
        connection.commit()

    assert found in wrong(marketplace)
