"""Instants and durations keep every nanosecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.instants import earliest, from_duration, from_timestamp, to_duration, to_timestamp

YEAR_9999_NS = 253_402_300_799 * 10**9


@given(st.integers(min_value=-62_135_596_800 * 10**9, max_value=YEAR_9999_NS))
def test_an_instant_comes_back(instant_ns: int) -> None:
    message = to_timestamp(instant_ns)
    assert from_timestamp(message) == instant_ns
    assert 0 <= message.nanos < 10**9


@given(st.integers(min_value=0, max_value=315_576_000_000 * 10**9))
def test_a_duration_comes_back(length_ns: int) -> None:
    assert from_duration(to_duration(length_ns)) == length_ns


def test_an_instant_that_a_float_would_round() -> None:
    assert from_timestamp(to_timestamp(1_784_000_000_123_456_789)) == 1_784_000_000_123_456_789


@pytest.mark.parametrize(
    ("instants", "expected"), [((), None), ((None, None), None), ((None, 5), 5), ((7, None, 3), 3), ((0, 4), 0)]
)
def test_the_earliest_counts(instants: tuple[int | None, ...], expected: int | None) -> None:
    """G9."""
    assert earliest(*instants) == expected
