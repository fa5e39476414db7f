"""The card gateway: what it promises to those who call it, repeatedly and in any order."""

import asyncio
from pathlib import Path

import pytest

from sample_services.orders.card_gateway import CardDeclined, CardGateway
from tests.sample_services.conftest import Select

ROWS = "SELECT charge_id, amount_cents, state FROM charges ORDER BY charge_id"


@pytest.fixture
def gateway(tmp_path: Path) -> CardGateway:
    return CardGateway(tmp_path / "gateway.db", tmp_path / "hold")


async def test_the_same_id_is_charged_once(gateway: CardGateway, select: Select) -> None:
    await gateway.charge("one", "tok_student", 10000)
    await gateway.charge("one", "tok_student", 10000)

    assert select("gateway.db", ROWS) == [("one", 10000, "CHARGED")]


async def test_a_card_is_declined_over_its_credit_limit_all_charges_together(
    gateway: CardGateway, select: Select
) -> None:
    await gateway.charge("one", "tok_student", 6000)
    with pytest.raises(CardDeclined, match="4001 cents are over the limit: 4000 are left"):
        await gateway.charge("two", "tok_student", 4001)
    await gateway.charge("three", "tok_student", 4000)

    assert select("gateway.db", ROWS) == [("one", 6000, "CHARGED"), ("three", 4000, "CHARGED")]


async def test_an_unknown_card_is_declined(gateway: CardGateway) -> None:
    with pytest.raises(CardDeclined, match="no card"):
        await gateway.charge("one", "tok_nobody", 1)


async def test_a_refund_gives_the_credit_back_and_can_be_repeated(gateway: CardGateway, select: Select) -> None:
    await gateway.charge("one", "tok_student", 10000)

    assert await gateway.refund("one")
    assert await gateway.refund("one")
    await gateway.charge("two", "tok_student", 10000)
    assert select("gateway.db", ROWS) == [("one", 10000, "REFUNDED"), ("two", 10000, "CHARGED")]


async def test_a_refund_before_its_charge_bars_it(gateway: CardGateway, select: Select) -> None:
    assert not await gateway.refund("one")
    assert not await gateway.refund("one")
    with pytest.raises(CardDeclined, match="VOID"):
        await gateway.charge("one", "tok_gold", 100)
    assert select("gateway.db", ROWS) == [("one", 0, "VOID")]


async def test_a_refunded_charge_is_not_made_again(gateway: CardGateway) -> None:
    await gateway.charge("one", "tok_gold", 100)
    await gateway.refund("one")
    with pytest.raises(CardDeclined, match="REFUNDED"):
        await gateway.charge("one", "tok_gold", 100)


async def test_held_it_acts_first_and_answers_when_it_is_let(
    gateway: CardGateway, tmp_path: Path, select: Select
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    charge = asyncio.create_task(gateway.charge("one", "tok_gold", 100))
    await asyncio.sleep(0)  # it runs up to where it is held

    assert select("gateway.db", ROWS) == [("one", 100, "CHARGED")]
    assert not charge.done()
    hold.unlink()
    await asyncio.wait_for(charge, 60)
