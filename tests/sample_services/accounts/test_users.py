"""The users: an e-mail address belongs to one active user, and a user who was closed stays known."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.accounts import users
from sample_services.accounts.v1.accounts_pb2 import Person
from sample_services.accounts.v1.users_pb2 import CreateUserRequest, User
from tests.sample_services.conftest import Select

ROWS = "SELECT name, email, state FROM users ORDER BY rowid"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionHarness]:
    async with ActionHarness(users.participant(tmp_path / "users.db")) as opened:
        yield opened


def request(name: str = "Ada", email: str = "ada@example.com") -> CreateUserRequest:
    return CreateUserRequest(person=Person(name=name, email=email))


async def test_a_user_is_created_once_g2(harness: ActionHarness, select: Select) -> None:
    first = await harness.execute(request())
    assert await harness.execute(request()) == first

    assert select("users.db", "SELECT user_id FROM users") == [(unpack(first.completed.output, User).user_id,)]
    assert select("users.db", ROWS) == [("Ada", "ada@example.com", "ACTIVE")]


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@Example.com", " ada@example.com "])
async def test_an_address_that_is_taken_is_refused_however_it_is_written(
    harness: ActionHarness, select: Select, email: str
) -> None:
    await harness.execute(request())
    reply = await harness.execute(request("Another Ada", email), saga_uid="another")

    assert reply.rejected.reason == "EMAIL_TAKEN"
    assert select("users.db", ROWS) == [("Ada", "ada@example.com", "ACTIVE")]


@pytest.mark.parametrize("email", ["", "ada", "@example.com", "ada@"])
async def test_what_is_no_address_is_refused(harness: ActionHarness, select: Select, email: str) -> None:
    assert (await harness.execute(request(email=email))).rejected.reason == "INVALID_EMAIL"
    assert select("users.db", ROWS) == []


async def test_compensate_closes_the_user_and_frees_the_address(harness: ActionHarness, select: Select) -> None:
    await harness.execute(request())
    await harness.execute(request("Grace", "grace@example.com"), saga_uid="grace")
    await harness.compensate()
    await harness.execute(request("New Ada"), saga_uid="new")

    assert select("users.db", ROWS) == [
        ("Ada", "ada@example.com", "CLOSED"),
        ("Grace", "grace@example.com", "ACTIVE"),
        ("New Ada", "ada@example.com", "ACTIVE"),
    ]


async def test_a_late_execute_after_compensate_creates_nobody_g8(harness: ActionHarness, select: Select) -> None:
    assert (await harness.compensate(request())).compensated.noop
    assert (await harness.execute(request())).rejected.reason == "BARRED"
    assert select("users.db", ROWS) == []
