"""The notifications: one for a purchase, however often it is asked for."""

from pathlib import Path

from participant_sdk.client import unpack
from participant_sdk.testing import ActionHarness
from sample_services.purchase import notifications
from sample_services.purchase.v1.notifications_pb2 import Notification, SendNotificationRequest
from tests.sample_services.conftest import Select


async def test_one_notification_goes_out_g2(tmp_path: Path, select: Select) -> None:
    request = SendNotificationRequest(purchase_id="purchase-1", account_id="ada", text="You bought it.")
    async with ActionHarness(notifications.participant(tmp_path / "notifications.db")) as harness:
        first = await harness.execute(request)
        assert await harness.execute(request) == first

    notification_id = unpack(first.completed.output, Notification).notification_id
    assert select("notifications.db", "SELECT * FROM notifications") == [
        (notification_id, "purchase-1", "ada", "You bought it.")
    ]
