"""The welcome: one message for a user, however often it is asked for."""

from pathlib import Path

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.accounts import welcome
from sample_services.accounts.v1.accounts_pb2 import Person
from sample_services.accounts.v1.welcome_pb2 import SendWelcomeRequest, Welcome
from tests.sample_services.conftest import Select


async def test_one_message_goes_out_g2(tmp_path: Path, select: Select) -> None:
    request = SendWelcomeRequest(user_id="user-1", person=Person(name="Ada", email="ada@example.com"), currency="GBP")
    async with ActionHarness(welcome.participant(tmp_path / "welcome.db")) as harness:
        first = await harness.execute(request)
        assert await harness.execute(request) == first

    message_id = unpack(first.completed.output, Welcome).message_id
    text = "Welcome, Ada! Your wallet for GBP is open."
    assert select("welcome.db", "SELECT * FROM messages") == [(message_id, "user-1", "ada@example.com", text)]
