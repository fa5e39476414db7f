from datetime import UTC, datetime, timedelta

import pytest

from participant_sdk import Held, Pending, Rejected


@pytest.mark.parametrize("reason", ["", "sold_out", "SOLD OUT", "1X", "A" * 65, "SOLD_OUT\n"])
def test_a_reason_is_one_upper_snake_case_word(reason: str) -> None:
    with pytest.raises(ValueError, match="UPPER_SNAKE_CASE"):
        Rejected(reason)


def test_rejected_carries_what_programs_want_to_know() -> None:
    refusal = Rejected("SOLD_OUT", "none left", sku="book")
    assert (refusal.reason, refusal.message, refusal.metadata) == ("SOLD_OUT", "none left", {"sku": "book"})
    assert str(refusal) == "SOLD_OUT: none left"
    assert str(Rejected("A" * 64)) == "A" * 64


def test_a_rejections_metadata_is_bounded() -> None:
    with pytest.raises(ValueError, match="4096 bytes"):
        Rejected("SOLD_OUT", key="x" * 4094)
    assert Rejected("SOLD_OUT", key="x" * 4093).metadata


def test_held_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Held("x", until=datetime(2026, 1, 1))
    assert Held("x", until=datetime(2026, 1, 1, tzinfo=UTC)).output == "x"


def test_pending_is_not_negative() -> None:
    with pytest.raises(ValueError, match="not negative"):
        Pending(poll_after=timedelta(seconds=-1))
