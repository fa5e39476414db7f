"""gRPC ignores an option whose name it does not know, without a word: a misspelt bound or allowance is none at all."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from coordinator.api import server as coordinator_server
from coordinator.cli import connection
from coordinator.conform import caller
from coordinator.participants import channel
from participant_sdk import client as sdk_client
from participant_sdk import server as sdk_server

LIBRARY = find_spec("grpc._cython.cygrpc")
assert LIBRARY is not None
assert LIBRARY.origin is not None
KNOWN = Path(LIBRARY.origin).read_bytes()
"""All names stand in gRPC's library as they are, each with a zero byte behind it."""


@pytest.mark.parametrize(
    "options",
    [
        coordinator_server._OPTIONS,
        connection._OPTIONS,
        caller._OPTIONS,
        channel.OPTIONS,
        sdk_client._OPTIONS,
        sdk_server._OPTIONS,
    ],
)
def test_grpc_knows_every_option(options: Sequence[tuple[str, Any]]) -> None:
    assert options
    assert [name for name, _ in options if name.encode() + b"\0" not in KNOWN] == []


def test_a_name_that_grpc_does_not_know_is_seen() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms\0" not in KNOWN
