"""The payment of a trip: taken once, or refused and not taken at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.travel import payment
from sample_services.travel.v1.payment_pb2 import ChargePaymentRequest, Payment
from tests.sample_services.conftest import Select

BALANCES = "SELECT payment_card, balance_cents FROM cards ORDER BY payment_card"
PAYMENTS = "SELECT payment_id, trip_id, payment_card, amount_cents FROM payments"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(payment.participant(tmp_path / "payment.db")) as opened:
        yield opened


def request(amount_cents: int, payment_card: str = "card_student") -> ChargePaymentRequest:
    return ChargePaymentRequest(trip_id="trip-1", payment_card=payment_card, amount_cents=amount_cents)


async def test_everything_on_a_card_can_be_paid_with_and_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request(10000))
    assert await harness.execute(request(10000)) == first

    paid = unpack(first.completed.output, Payment)
    assert paid.amount_cents == 10000
    assert select("payment.db", PAYMENTS) == [(paid.payment_id, "trip-1", "card_student", 10000)]
    assert select("payment.db", BALANCES) == [("card_gold", 1000000), ("card_student", 0)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(10001), "CARD_DECLINED"),
        (request(1, "card_of_nobody"), "CARD_DECLINED"),
        (request(0), "INVALID_AMOUNT"),
        (request(-1), "INVALID_AMOUNT"),
    ],
)
async def test_a_refused_payment_takes_nothing(
    harness: ActionHarness, select: Select, asked: ChargePaymentRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("payment.db", PAYMENTS) == []
    assert select("payment.db", BALANCES) == [("card_gold", 1000000), ("card_student", 10000)]


async def test_a_payment_cannot_be_compensated_g6(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request(10000))

    assert (await harness.compensate()).rejected.reason == "NOT_COMPENSATABLE"
    assert len(select("payment.db", PAYMENTS)) == 1
