"""Payment: whatever is cut off and repeated, the books and the gateway agree in the end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness, CallError
from saga.v1.types_pb2 import Failure
from sample_services.orders import payment
from sample_services.orders.card_gateway import CardGateway
from sample_services.orders.v1.payment_pb2 import Charge, ChargeCardRequest
from tests.sample_services.conftest import Select
from tests.support.passing_time import HOUR, let_pass
from tests.support.waiting import until

CHARGES = "SELECT order_id, card_token, amount_cents FROM charges"
REFUNDS = "SELECT amount_cents, reason FROM refunds"
TAKEN = "SELECT amount_cents, state FROM charges"


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    return tmp_path / "hold"


@pytest.fixture
async def harness(tmp_path: Path, hold: Path) -> AsyncIterator[ActionHarness]:
    gateway = CardGateway(tmp_path / "gateway.db", hold)
    async with ActionHarness(payment.participant(tmp_path / "payment.db", gateway)) as opened:
        yield opened


def request(amount_cents: int = 5200, card_token: str = "tok_gold") -> ChargeCardRequest:
    return ChargeCardRequest(order_id="order-1", card_token=card_token, amount_cents=amount_cents)


@contextmanager
def held(hold: Path) -> Iterator[None]:
    """Have the gateway act and not answer."""
    hold.touch()
    yield
    hold.unlink()


async def cut_off(call: Awaitable[object], hold: Path, has_acted: Callable[[], bool]) -> None:
    """Have a call that has an hour cut off after the gateway has acted and before it has answered."""
    with held(hold):
        calling = asyncio.ensure_future(call)
        await until(has_acted)
        let_pass(HOUR)
        with pytest.raises(CallError):
            await calling


async def test_a_charge_is_made_and_booked(harness: ActionHarness, select: Select) -> None:
    charge = unpack((await harness.execute(request())).completed.output, Charge)

    assert charge.amount_cents == 5200
    assert select("payment.db", CHARGES) == [("order-1", "tok_gold", 5200)]
    assert select("gateway.db", "SELECT charge_id FROM charges") == [(charge.charge_id,)]


async def test_a_repeated_execute_charges_once_g2(harness: ActionHarness, select: Select) -> None:
    assert await harness.execute(request()) == await harness.execute(request())
    assert select("payment.db", CHARGES) == [("order-1", "tok_gold", 5200)]
    assert select("gateway.db", TAKEN) == [(5200, "CHARGED")]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(10001, "tok_student"), "CARD_DECLINED"),
        (request(1, "tok_nobody"), "CARD_DECLINED"),
        (request(0), "INVALID_AMOUNT"),
        (request(-1), "INVALID_AMOUNT"),
    ],
)
async def test_a_refused_charge_takes_and_books_nothing(
    harness: ActionHarness, select: Select, asked: ChargeCardRequest, reason: str
) -> None:
    assert (await harness.execute(asked)).rejected.reason == reason
    assert select("payment.db", CHARGES) == []
    assert select("gateway.db", TAKEN) == []


async def test_cut_off_in_the_middle_the_next_attempt_finds_the_charge_g2(
    harness: ActionHarness, hold: Path, select: Select
) -> None:
    charging = harness.execute(request(), timeout=HOUR)
    await cut_off(charging, hold, lambda: select("gateway.db", TAKEN) == [(5200, "CHARGED")])
    assert select("gateway.db", TAKEN) == [(5200, "CHARGED")]
    assert select("payment.db", CHARGES) == []

    assert (await harness.execute(request())).HasField("completed")
    assert select("gateway.db", TAKEN) == [(5200, "CHARGED")]
    assert select("payment.db", CHARGES) == [("order-1", "tok_gold", 5200)]


async def test_compensate_refunds_with_a_row_of_its_own_once(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request())
    for _ in range(2):
        reply = await harness.compensate(cause=Failure(reason="ADDRESS_NOT_SERVED"))
        assert not reply.compensated.noop

    assert select("payment.db", CHARGES) == [("order-1", "tok_gold", 5200)]
    assert select("payment.db", REFUNDS) == [(5200, "ADDRESS_NOT_SERVED")]
    assert select("gateway.db", TAKEN) == [(5200, "REFUNDED")]


async def test_compensate_of_a_charge_that_was_cut_off_books_both_sides_g4(
    harness: ActionHarness, hold: Path, select: Select
) -> None:
    charging = harness.execute(request(), timeout=HOUR)
    await cut_off(charging, hold, lambda: select("gateway.db", TAKEN) == [(5200, "CHARGED")])
    assert not (await harness.compensate()).compensated.noop

    assert select("payment.db", CHARGES) == [("order-1", "tok_gold", 5200)]
    assert select("payment.db", REFUNDS) == [(5200, "")]
    assert select("gateway.db", TAKEN) == [(5200, "REFUNDED")]
    assert (await harness.execute(request())).rejected.reason == "BARRED"


async def test_compensate_that_was_cut_off_refunds_once(harness: ActionHarness, hold: Path, select: Select) -> None:
    await harness.execute(request())
    refunding = harness.compensate(timeout=HOUR)
    await cut_off(refunding, hold, lambda: select("gateway.db", TAKEN) == [(5200, "REFUNDED")])
    assert select("payment.db", REFUNDS) == []

    assert not (await harness.compensate()).compensated.noop
    assert select("payment.db", REFUNDS) == [(5200, "")]
    assert select("gateway.db", TAKEN) == [(5200, "REFUNDED")]


async def test_a_late_execute_after_compensate_takes_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request())).compensated.noop
    assert (await harness.execute(request())).rejected.reason == "BARRED"
    assert select("gateway.db", TAKEN) == []


async def test_compensate_where_the_process_ended_before_the_gateway_was_asked(tmp_path: Path, select: Select) -> None:
    """The row says that Execute began; the gateway says that it never came. Nothing is booked, and it is barred."""
    participant = payment.participant(tmp_path / "payment.db", _NeverReached(tmp_path / "gateway.db"))
    async with ActionHarness(participant) as harness:
        with pytest.raises(CallError):
            await harness.execute(request())
        assert (await harness.compensate()).compensated.noop

    assert select("payment.db", REFUNDS) == []
    assert select("gateway.db", TAKEN) == [(0, "VOID")]


class _NeverReached(CardGateway):
    """The connection breaks before a charge gets there."""

    async def charge(self, charge_id: str, card_token: str, amount_cents: int) -> None:
        raise ConnectionError
