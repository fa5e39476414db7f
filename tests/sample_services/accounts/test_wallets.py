"""The wallets: in the currency of where the user lives, and closed rather than deleted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.accounts import wallets
from sample_services.accounts.v1.wallets_pb2 import OpenWalletRequest, Wallet
from tests.sample_services.conftest import Select

ROWS = "SELECT user_id, currency, state FROM wallets ORDER BY rowid"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(wallets.participant(tmp_path / "wallets.db")) as opened:
        yield opened


def request(user_id: str = "ada", country_code: str = "GB") -> OpenWalletRequest:
    return OpenWalletRequest(user_id=user_id, country_code=country_code)


async def test_a_wallet_is_opened_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request())
    assert await harness.execute(request()) == first

    wallet = unpack(first.completed.output, Wallet)
    assert wallet.currency == "GBP"
    assert select("wallets.db", "SELECT wallet_id FROM wallets") == [(wallet.wallet_id,)]
    assert select("wallets.db", ROWS) == [("ada", "GBP", "OPEN")]


@pytest.mark.parametrize("country_code", ["US", "gb", ""])
async def test_where_there_are_no_wallets_they_are_refused(
    harness: ActionHarness, select: Select, country_code: str
) -> None:
    reply = await harness.execute(request(country_code=country_code))

    assert reply.rejected.reason == "COUNTRY_NOT_SERVED"
    assert reply.rejected.metadata["country_code"] == country_code
    assert select("wallets.db", ROWS) == []


async def test_compensate_closes_the_wallet_and_no_other(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request())
    await harness.execute(request("grace"), saga_uid="grace")
    await harness.compensate()

    assert select("wallets.db", ROWS) == [("ada", "GBP", "CLOSED"), ("grace", "GBP", "OPEN")]


async def test_a_late_execute_after_compensate_opens_nothing_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request())).compensated.noop
    assert (await harness.execute(request())).rejected.reason == "BARRED"
    assert select("wallets.db", ROWS) == []
