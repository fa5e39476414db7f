from coordinator.api.errors import InvalidPageToken, TooLarge, Unsupported
from coordinator.core import limits


def test_messages_say_what_to_do() -> None:
    assert "ask without one" in str(InvalidPageToken())
    assert "PAYLOAD_VIEW_NONE" in str(TooLarge(5_000_000))
    assert f"5000000 bytes, and a message at most {limits.MESSAGE_BYTES_MAX}" in str(TooLarge(5_000_000))
    assert str(Unsupported("RetrySaga")).startswith("RetrySaga ")
