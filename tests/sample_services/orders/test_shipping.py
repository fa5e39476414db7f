"""Shipping: a parcel gets a carrier and a number of its own, or is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.orders import shipping
from sample_services.orders.v1.orders_pb2 import Address
from sample_services.orders.v1.shipping_pb2 import CreateShipmentRequest, Shipment
from tests.sample_services.conftest import Select

ROWS = "SELECT order_id, tracking_number, recipient, state FROM shipments ORDER BY tracking_number"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(shipping.participant(tmp_path / "shipping.db")) as opened:
        yield opened


def request(country_code: str = "NL") -> CreateShipmentRequest:
    return CreateShipmentRequest(
        order_id="order-1", destination=Address(recipient="Ada Lovelace", country_code=country_code)
    )


async def test_a_shipment_has_a_carrier_and_a_number_of_its_own(harness: ActionHarness, select: Select) -> None:
    first = unpack((await harness.execute(request())).completed.output, Shipment)
    second = unpack((await harness.execute(request(), saga_uid="another")).completed.output, Shipment)

    assert first == Shipment(tracking_number="NL-000001", carrier="Polder Post")
    assert second.tracking_number == "NL-000002"
    assert select("shipping.db", ROWS) == [
        ("order-1", "NL-000001", "Ada Lovelace", "CREATED"),
        ("order-1", "NL-000002", "Ada Lovelace", "CREATED"),
    ]


async def test_a_repeated_execute_creates_one_shipment_g2(harness: ActionHarness, select: Select) -> None:
    assert await harness.execute(request()) == await harness.execute(request())
    assert len(select("shipping.db", ROWS)) == 1


@pytest.mark.parametrize("country_code", ["AQ", ""])
async def test_an_address_that_is_not_served_is_refused(
    harness: ActionHarness, select: Select, country_code: str
) -> None:
    reply = await harness.execute(request(country_code))

    assert reply.rejected.reason == "ADDRESS_NOT_SERVED"
    assert reply.rejected.metadata["country_code"] == country_code
    assert select("shipping.db", ROWS) == []


async def test_compensate_cancels_the_shipment_and_no_other(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request())
    await harness.execute(request(), saga_uid="another")
    await harness.compensate()

    assert select("shipping.db", "SELECT tracking_number, state FROM shipments ORDER BY tracking_number") == [
        ("NL-000001", "CANCELLED"),
        ("NL-000002", "CREATED"),
    ]


async def test_a_late_execute_after_compensate_creates_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request())).compensated.noop
    assert (await harness.execute(request())).rejected.reason == "BARRED"
    assert select("shipping.db", ROWS) == []
