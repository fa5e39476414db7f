import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.cli import times
from coordinator.core.limits import SECOND_NS


@pytest.mark.parametrize(
    ("length_ns", "shown"),
    [
        (0, "0s"),
        (400_000, "0s"),
        (12_400_000, "12ms"),
        (1_234_567_890, "1.235s"),
        (12_340_000_000, "12.3s"),
        (59_960_000_000, "1m"),
        (7_384_600_000_000, "2h3m5s"),
        (-5, "0s"),
    ],
)
def test_the_longer_the_coarser(length_ns: int, shown: str) -> None:
    assert times.length(length_ns) == shown


def test_instants_are_utc() -> None:
    moment = Timestamp(seconds=1_790_000_000, nanos=123_999_999)
    assert times.instant(moment) == "2026-09-21T14:13:20.123Z"
    assert times.offset(moment, 1_789_999_999 * SECOND_NS) == "+1.124s"


def test_how_far_away_an_instant_is() -> None:
    moment = Timestamp(seconds=100)
    assert times.until(moment, 40 * SECOND_NS) == "1970-01-01T00:01:40.000Z (in 1m)"
    assert times.until(moment, 105 * SECOND_NS) == "1970-01-01T00:01:40.000Z (5s ago)"
