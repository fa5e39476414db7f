"""The marketplace's own service: orders are entered, sellers are paid all or none, buyers are told once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.marketplace import market
from sample_services.marketplace.v1.market_pb2 import (
    Notice,
    NotifyBuyerRequest,
    OpenedOrder,
    OpenOrderRequest,
    Payout,
    PaySellersRequest,
    Sale,
)
from sample_services.marketplace.v1.orders_pb2 import Parcel
from tests.sample_services.conftest import Select

ORDERS = "SELECT order_id, parcels, state FROM orders ORDER BY rowid"
PAYOUTS = "SELECT parcel, seller_id, paid_cents, fee_cents FROM payouts ORDER BY parcel"
BALANCES = "SELECT seller_id, balance_cents FROM sellers WHERE balance_cents <> 0 ORDER BY seller_id"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(market.participant(tmp_path / "market.db")) as opened:
        yield opened


def order(*seller_ids: str) -> OpenOrderRequest:
    return OpenOrderRequest(order_id="order-1", parcels=[Parcel(seller_id=seller_id) for seller_id in seller_ids])


async def opened(harness: ActionHarness, *seller_ids: str) -> str:
    """An order's entry."""
    reply = await harness.execute(order(*seller_ids), action="OpenOrder", step="open")
    return unpack(reply.completed.output, OpenedOrder).entry_id


def payment(entry_id: str, **sales: int) -> PaySellersRequest:
    sold = [Sale(seller_id=seller_id, total_cents=total_cents) for seller_id, total_cents in sales.items()]
    return PaySellersRequest(entry_id=entry_id, sales=sold)


async def test_an_order_is_entered_once_g2(harness: ActionHarness, select: Select) -> None:
    entry_id = await opened(harness, "kettle_works", "tea_house")
    assert await opened(harness, "kettle_works", "tea_house") == entry_id

    assert select("market.db", "SELECT entry_id FROM orders") == [(entry_id,)]
    assert select("market.db", ORDERS) == [("order-1", 2, "OPEN")]


@pytest.mark.parametrize(
    ("sellers", "reason"),
    [((), "INVALID_ORDER"), (("tea_house",) * 4, "INVALID_ORDER"), (("tea_house", "nobody"), "UNKNOWN_SELLER")],
)
async def test_an_order_that_makes_no_sense_is_refused(
    harness: ActionHarness, select: Select, sellers: tuple[str, ...], reason: str
) -> None:
    assert (await harness.execute(order(*sellers), action="OpenOrder")).rejected.reason == reason
    assert select("market.db", ORDERS) == []


async def test_as_many_parcels_as_the_definition_has_steps_for_are_taken(harness: ActionHarness) -> None:
    assert await opened(harness, *("tea_house",) * market.PARCELS_MAX)


async def test_compensate_gives_an_order_up_and_no_other(harness: ActionHarness, select: Select) -> None:
    await opened(harness, "tea_house")
    await harness.execute(order("tea_house"), action="OpenOrder", saga_uid="another")
    await harness.compensate(action="OpenOrder", step="open")

    assert select("market.db", ORDERS) == [("order-1", 1, "GIVEN_UP"), ("order-1", 1, "OPEN")]


async def test_a_late_order_after_compensate_is_not_entered_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(order("tea_house"), action="OpenOrder")).compensated.noop
    assert (await harness.execute(order("tea_house"), action="OpenOrder")).rejected.reason == "BARRED"
    assert select("market.db", ORDERS) == []


async def test_sellers_are_paid_less_the_fee_and_once_g2(harness: ActionHarness, select: Select) -> None:
    request = payment(await opened(harness, "kettle_works", "tea_house"), kettle_works=9800, tea_house=3599)
    first = await harness.execute(request, action="PaySellers", step="pay")
    assert await harness.execute(request, action="PaySellers", step="pay") == first

    assert unpack(first.completed.output, Payout) == Payout(paid_cents=9016 + 3312, fee_cents=784 + 287)
    assert select("market.db", PAYOUTS) == [(1, "kettle_works", 9016, 784), (2, "tea_house", 3312, 287)]
    assert select("market.db", BALANCES) == [("kettle_works", 9016), ("tea_house", 3312)]
    assert select("market.db", ORDERS) == [("order-1", 2, "PAID")]


async def test_a_seller_with_two_parcels_is_paid_for_both(harness: ActionHarness, select: Select) -> None:
    sales = [Sale(seller_id="tea_house", total_cents=100)] * 2
    request = PaySellersRequest(entry_id=await opened(harness, "tea_house", "tea_house"), sales=sales)
    await harness.execute(request, action="PaySellers", step="pay")

    assert select("market.db", PAYOUTS) == [(1, "tea_house", 92, 8), (2, "tea_house", 92, 8)]
    assert select("market.db", BALANCES) == [("tea_house", 184)]


@pytest.mark.parametrize(
    ("seller_id", "total_cents", "reason"),
    [("attic", 100, "PAYOUT_BLOCKED"), ("nobody", 100, "UNKNOWN_SELLER"), ("cup_makers", 0, "INVALID_AMOUNT")],
)
async def test_where_one_seller_cannot_be_paid_none_is(
    harness: ActionHarness, select: Select, seller_id: str, total_cents: int, reason: str
) -> None:
    entry_id = await opened(harness, "tea_house", "attic")
    request = payment(entry_id, tea_house=100, **{seller_id: total_cents})

    assert (await harness.execute(request, action="PaySellers", step="pay")).rejected.reason == reason
    assert select("market.db", PAYOUTS) == []
    assert select("market.db", BALANCES) == []
    assert select("market.db", ORDERS) == [("order-1", 2, "OPEN")]


async def test_one_notice_goes_out_g2(harness: ActionHarness, select: Select) -> None:
    request = NotifyBuyerRequest(order_id="order-1", email="ada@example.com", tracking_numbers=["NL-1", "NL-2"])
    first = await harness.execute(request, action="NotifyBuyer")
    assert await harness.execute(request, action="NotifyBuyer") == first

    notice_id = unpack(first.completed.output, Notice).notice_id
    text = "Your order order-1 is on its way:\nNL-1\nNL-2"
    assert select("market.db", "SELECT * FROM notices") == [(notice_id, "order-1", "ada@example.com", text)]
