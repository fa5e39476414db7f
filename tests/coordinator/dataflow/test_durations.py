"""Durations as people write them."""

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from coordinator.dataflow import durations


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("5m", 300, 0),
        ("300s", 300, 0),
        ("1.5s", 1, 500_000_000),
        ("100ms", 0, 100_000_000),
        ("2h30m", 9000, 0),
        ("1h1m1s1ms1us1ns", 3661, 1_001_001),
        ("0s", 0, 0),
        ("0.000000001s", 0, 1),
        ("0.5h", 1800, 0),
        ("-1.5s", -1, -500_000_000),
        ("315576000000s", 315_576_000_000, 0),
    ],
)
def test_what_is_read(text: str, seconds: int, nanos: int) -> None:
    assert durations.parse(text) == Duration(seconds=seconds, nanos=nanos)


@pytest.mark.parametrize(
    "text",
    ["", "5", "-", "m", "5 m", "5x", "m5", "1s1m", "1e3s", ".5s", "5.s", "1:30", "+5s", "0.1ns", "315576000001s", "٥s"],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|nanoseconds|too long"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("300s", "5m"),
        ("9000s", "2h30m"),
        ("90s", "1m30s"),
        ("0.1s", "100ms"),
        ("1500ms", "1.5s"),
        ("1000ns", "1us"),
        ("0s", "0s"),
        ("100s", "1m40s"),
        ("10s", "10s"),
        ("-5m", "-5m"),
    ],
)
def test_what_is_written(text: str, written: str) -> None:
    assert durations.write(durations.parse(text)) == written


@given(st.integers(0, 315_576_000_000 * 10**9), st.booleans())
def test_what_is_written_is_read_back(total_ns: int, negative: bool) -> None:
    seconds, nanos = divmod(total_ns, 10**9)
    duration = Duration(seconds=-seconds, nanos=-nanos) if negative else Duration(seconds=seconds, nanos=nanos)
    assert durations.parse(durations.write(duration)) == duration
