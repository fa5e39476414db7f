import time
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from coordinator.cli.options import (
    Pair,
    parse_address,
    parse_duration,
    parse_future,
    parse_pair,
    parse_past,
    parse_state,
    taking,
    unique,
)
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_RUNNING


@pytest.mark.parametrize("text", ["127.0.0.1:7400", "saga.example.org:1", "[::1]:65535", "unix:/run/saga.sock"])
def test_addresses(text: str) -> None:
    assert parse_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "127.0.0.1", ":7400", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", "http://127.0.0.1:7400"),
        *("::1:7400", "[::1", "[nowhere]:1", "ipv4:nowhere", "unix:", "a b:1"),
    ],
)
def test_what_is_no_address_does_not_reach_grpc(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected HOST:PORT"):
        parse_address(text)


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


@dataclass(frozen=True)
class Colouring:
    shade: Annotated[str, typer.Option("--shade", help="Light or dark.")] = "light"
    coats: Annotated[int, typer.Option("--coats", min=1)] = 1


def test_a_command_takes_its_options_as_one_value() -> None:
    app = typer.Typer()
    taken: list[Colouring] = []

    @app.command()
    @taking(Colouring)
    def paint(ctx: typer.Context, colouring: Colouring) -> None:
        """Paint it."""
        taken.append(colouring)

    run = CliRunner().invoke
    assert run(app, []).exit_code == 0
    assert run(app, ["--shade", "dark", "--coats", "2"]).exit_code == 0
    assert run(app, ["--coats", "0"]).exit_code == 2
    assert taken == [Colouring(), Colouring("dark", 2)]
    shown = run(app, ["--help"]).stdout
    assert "Paint it." in shown
    assert "Light or dark." in shown
