"""What the demo tells people to paste is what a shell and protobuf's JSON take."""

import shlex
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from saga.v1.coordinator_pb2 import StartSagaRequest
from sample_services.demo import hints
from sample_services.demo.sample import Example
from sample_services.orders.v1.orders_pb2 import Address, Order

ORDER = Order(order_id="order-2", destination=Address(street="Rue de l'Été 1", country_code="PT"))
EXAMPLE = Example("order_fulfillment", "order-1", "order-2", ORDER)


def test_start_saga_carries_the_typed_input_through_the_shell() -> None:
    [line] = [line for line in hints.grpcurl("127.0.0.1:50051", EXAMPLE) if line.endswith("/StartSaga")]
    words = shlex.split(line)

    request = json_format.Parse(words[words.index("-d") + 1], StartSagaRequest())
    sent = Order()
    assert request.input.type_url == "type.googleapis.com/sample_services.orders.v1.Order"
    assert request.input.Unpack(sent)
    assert (request.saga_id, request.definition, sent) == ("order-2", "order_fulfillment", ORDER)
    assert words[-2:] == ["127.0.0.1:50051", "saga.v1.CoordinatorService/StartSaga"]


def test_the_command_line_starts_the_same_saga() -> None:
    line = hints.start("127.0.0.1:50051", EXAMPLE)
    words = shlex.split(line)

    assert line in hints.command_line("127.0.0.1:50051", EXAMPLE)
    assert words[1:5] == ["--server", "127.0.0.1:50051", "start", "order_fulfillment"]
    assert words[words.index("--id") + 1] == "order-2"
    assert json_format.Parse(words[words.index("--input") + 1], Order()) == ORDER


@pytest.mark.parametrize("on_path", [True, False])
def test_the_command_is_found_whether_or_not_its_folder_is_on_the_path(
    on_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(folder) if on_path else "")

    commands = {shlex.split(line)[0] for line in hints.command_line("127.0.0.1:50051", EXAMPLE)}
    assert commands == {"saga" if on_path else str(folder / "saga")}


def test_every_line_names_the_address() -> None:
    lines = [*hints.grpcurl("127.0.0.1:50051", EXAMPLE), *hints.command_line("127.0.0.1:50051", EXAMPLE)]
    assert all("127.0.0.1:50051" in line for line in lines)
    assert any("describe sample_services.orders.v1.Order" in line for line in lines)
