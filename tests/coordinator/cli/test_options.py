import time

import pytest
import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.cli.options import (
    Pair,
    parse_duration,
    parse_future,
    parse_pair,
    parse_past,
    parse_state,
    unique,
)
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_RUNNING


def test_durations() -> None:
    assert parse_duration("1.5s") == Duration(seconds=1, nanos=500_000_000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-09-21T14:13:20Z", 1_790_000_000),
        ("2026-09-21T16:13:20+02:00", 1_790_000_000),
        ("2026-09-21T14:13:20", 1_790_000_000),  # UTC where nothing else is said
        ("2026-09-21", 1_789_948_800),
    ],
)
def test_instants(text: str, seconds: int) -> None:
    assert parse_past(text) == parse_future(text) == Timestamp(seconds=seconds)


def test_a_duration_is_an_instant_before_or_after_now() -> None:
    now = time.time()
    assert parse_past("2h").seconds == pytest.approx(now - 7200, abs=5)
    assert parse_future("2h").seconds == pytest.approx(now + 7200, abs=5)


def test_pairs() -> None:
    assert parse_pair("a=b=c") == Pair("a", "b=c")
    assert parse_pair("a=") == Pair("a", "")
    assert unique([Pair("a", "1"), Pair("b", "2")], "--label") == {"a": "1", "b": "2"}
    for wrong in ("a", "=b", ""):
        with pytest.raises(typer.BadParameter):
            parse_pair(wrong)


@pytest.mark.parametrize("text", ["running", "RUNNING", "SAGA_STATE_RUNNING"])
def test_states(text: str) -> None:
    assert parse_state(text) == SAGA_STATE_RUNNING
    assert parse_state("compensated") == SAGA_STATE_COMPENSATED


def test_a_state_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(typer.BadParameter, match="PENDING, RUNNING, COMPENSATING, COMPLETED, COMPENSATED, FAILED"):
        parse_state("unspecified")
