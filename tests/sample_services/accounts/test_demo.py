"""The sums of the account services: right when every active user has what belongs to an account, and wrong else."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.accounts import users, wallets, welcome
from sample_services.accounts.demo import Accounts
from sample_services.accounts.v1.accounts_pb2 import Person
from sample_services.accounts.v1.users_pb2 import CreateUserRequest, User
from sample_services.accounts.v1.wallets_pb2 import OpenWalletRequest
from sample_services.accounts.v1.welcome_pb2 import SendWelcomeRequest


@pytest.fixture
async def accounts(tmp_path: Path) -> Accounts:
    """Two accounts that were created and one that was not, in real databases."""
    async with (
        ActionHarness(users.participant(tmp_path / "users.db")) as people,
        ActionHarness(wallets.participant(tmp_path / "wallets.db")) as purses,
        ActionHarness(welcome.participant(tmp_path / "welcome.db")) as messages,
    ):
        for name in ("ada", "grace", "refused"):
            person = Person(name=name, email=f"{name}@example.com")
            created = await people.execute(CreateUserRequest(person=person), saga_uid=name)
            user_id = unpack(created.completed.output, User).user_id
            await purses.execute(OpenWalletRequest(user_id=user_id, country_code="NL"), saga_uid=name)
            if name != "refused":
                await messages.execute(SendWelcomeRequest(user_id=user_id, person=person), saga_uid=name)
        await purses.compensate(saga_uid="refused")
        await people.compensate(saga_uid="refused")
    return Accounts(tmp_path)


def wrong(accounts: Accounts) -> list[str]:
    return [each.name for each in accounts.sums() if not each.adds_up]


async def test_they_add_up_after_accounts_that_were_created_and_one_that_was_not(accounts: Accounts) -> None:
    assert wrong(accounts) == []
    assert [(each.total, each.expected) for each in accounts.sums()] == [(2, 2)] * 3


@pytest.mark.parametrize(
    ("database", "damage", "found"),
    [
        ("users", "UPDATE users SET state = 'ACTIVE'", "users with one wallet and one message"),
        ("users", "UPDATE users SET state = 'CLOSED'", "wallets"),
        ("wallets", "UPDATE wallets SET state = 'OPEN'", "wallets"),
        ("wallets", "DELETE FROM wallets", "users with one wallet and one message"),
        ("wallets", "UPDATE wallets SET user_id = 'ada/step'", "users with one wallet and one message"),
        ("welcome", "DELETE FROM messages", "messages"),
        ("welcome", "UPDATE messages SET user_id = 'ada/step'", "users with one wallet and one message"),
    ],
)
async def test_what_is_lost_or_doubled_is_found(
    accounts: Accounts, tmp_path: Path, database: str, damage: str, found: str
) -> None:
    with closing(sqlite3.connect(tmp_path / f"{database}.db")) as connection:
        connection.execute(damage)
        connection.commit()

    assert found in wrong(accounts)
