"""JSON that somebody gives the command line as a saga's input: a payload of the type, or an error that says what."""

from __future__ import annotations

import json
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import event, given, note

from coordinator.cli.errors import CommandError
from coordinator.cli.payloads import payload_from_json, payload_to_json, types_of
from coordinator.core.descriptors import closure
from saga.v1.definition_pb2 import GetDefinitionResponse, SagaDefinition
from sample_services.orders.v1 import orders_pb2
from tests.fuzz.tape import TAPES, Tape, profile

_ORDER: Final = orders_pb2.Order.DESCRIPTOR
DEFINITION: Final = GetDefinitionResponse(
    definition=SagaDefinition(name="orders", input_type=_ORDER.full_name), descriptors=closure([_ORDER.file])
)

_LEAVES: Final[tuple[Any, ...]] = (
    *("a", "", "\ud800", "\x00", "x" * 100_000, 0, -1, 1 << 80, 1e400, float("nan"), None, True, [], {}, [[]] * 100),
    {"@type": "type.googleapis.com/" + _ORDER.full_name},
    {"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": 5}},
    {"@type": "no such"},
)
_KEYS: Final = ("order_id", "orderId", "lines", "destination", "sku", "quantity", "@type", "", "\ud800", "cardToken")
_TEXTS: Final = ("", "{", "[" * 100_000, '{"a":' * 5000, "null", "[]", '"x"', "{} {}", "\ufeff{}", "9" * 5000, "NaN")


def document(tape: Tape, depth: int) -> Any:
    if depth == 0 or tape.once_in(4):
        return tape.pick(_LEAVES)
    if tape.once_in(3):
        return [document(tape, depth - 1) for _ in range(tape.below(3))]
    return {tape.pick(_KEYS): document(tape, depth - 1) for _ in range(1 + tape.below(4))}


@profile(100)
@given(TAPES)
def test_any_json_is_a_payload_or_a_clear_error(numbers: bytes) -> None:
    tape = Tape(numbers)
    text = tape.pick(_TEXTS) if tape.once_in(6) else json.dumps(document(tape, 4))
    if tape.once_in(5) and text:
        cut = tape.below(len(text))
        text = text[:cut] + tape.pick(("", "\x00", ",", '"', "\\u", "}")) + text[cut + 1 :]
    note(text[:500])
    try:
        payload = payload_from_json(text, DEFINITION)
    except CommandError as error:
        event("refused")
        assert str(error)
        assert "Traceback" not in str(error)
    else:
        event("taken")
        assert isinstance(payload, AnyMessage)
        assert payload_to_json(payload, types_of(DEFINITION))["@type"]
