"""Payloads are readable with the definition's descriptors, and nothing fails because of one that is not."""

import base64
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyPayload
from google.protobuf.struct_pb2 import Struct

from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.payloads import names_type, output_from_json, payload_from_json, payload_to_json, to_json
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import definition_pb2 as definitions
from saga.v1 import event_pb2 as events
from saga.v1 import types_pb2 as types
from tests.coordinator.cli.fake import ORDER, FakeCoordinator, event, order, saga, status

TYPE = "type.googleapis.com/shop.v1.Order"
UNKNOWN = AnyPayload(type_url="type.googleapis.com/other.v1.Thing", value=b"\x08\x01")


def definition(input_type: str = "shop.v1.Order") -> definitions.GetDefinitionResponse:
    return definitions.GetDefinitionResponse(
        definition=definitions.SagaDefinition(input_type=input_type), descriptors=ORDER.descriptors
    )


def test_payloads_at_any_depth_are_readable_and_everything_else_is_as_protobuf_writes_it() -> None:
    shown = to_json(
        saga(
            input=order(order_id="42", amount=7),
            steps=[pb.Step(name="a", output=order(express=True)), pb.Step(name="b", input=UNKNOWN), pb.Step(name="c")],
            labels={"region": "eu"},
        ),
        ORDER,
    )
    assert shown == {
        "sagaId": "order-42",
        "definition": "order_fulfillment",
        "version": 3,
        "state": "SAGA_STATE_RUNNING",
        "createTime": "2026-09-21T14:13:20Z",
        "labels": {"region": "eu"},
        "input": {"@type": TYPE, "orderId": "42", "amount": "7"},
        "steps": [
            {"name": "a", "output": {"@type": TYPE, "express": True}},
            {"name": "b", "input": {"@type": UNKNOWN.type_url, "value": base64.b64encode(b"\x08\x01").decode()}},
            {"name": "c"},
        ],
    }


def test_an_events_payload_is_readable_and_the_event_is_left_as_it_was() -> None:
    completed = event(4, step_completed=events.StepCompleted(step="a", attempt=1, output=order(order_id="42")))
    before = completed.SerializeToString()
    assert to_json(completed, ORDER)["stepCompleted"]["output"] == {"@type": TYPE, "orderId": "42"}
    assert completed.SerializeToString() == before


@pytest.mark.parametrize(
    "payload",
    [
        UNKNOWN,
        AnyPayload(type_url=TYPE, value=b"\xff"),
        AnyPayload(type_url="nonsense", value=b"x"),
        order(attachment={"type_url": UNKNOWN.type_url, "value": UNKNOWN.value}),
    ],
    ids=["type not described", "bytes that do not decode", "no type URL", "an unknown payload inside"],
)
def test_a_payload_that_cannot_be_read_is_its_bytes(payload: AnyPayload) -> None:
    expected = {"@type": payload.type_url, "value": base64.b64encode(payload.value).decode()}
    assert payload_to_json(payload, ORDER) == expected


@pytest.mark.parametrize("text", ['{"orderId": "42"}', '{"order_id": "42"}', f'{{"@type": "{TYPE}", "orderId": "42"}}'])
def test_an_input_may_name_its_type(text: str) -> None:
    assert payload_from_json(text, definition()) == order(order_id="42")


def test_an_input_may_be_of_a_well_known_type() -> None:
    payload = payload_from_json('{"a": 1}', definition("google.protobuf.Struct"))
    found = Struct()
    assert payload.Unpack(found)
    assert dict(found) == {"a": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"amount": "many"}', "amount"),
        ('{"lines": [{"sku": "a"}, {"colour": 1}]}', "colour"),
        ('{"@type": "type.googleapis.com/other.v1.Thing"}', "other.v1.Thing"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
    ],
)
def test_what_is_wrong_with_an_input_is_named(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        payload_from_json(text, definition())
    assert caught.value.code == ExitCode.REFUSED


def test_an_input_type_that_is_not_described() -> None:
    with pytest.raises(CommandError, match=r"other\.v1\.Thing"):
        payload_from_json("{}", definition("other.v1.Thing"))


@pytest.mark.parametrize("output_type", ["", "shop.v1.Order", "other.v1.Thing"])
def test_an_output_is_of_the_type_that_it_names(output_type: str) -> None:
    named = f'{{"@type": "{TYPE}", "orderId": "42"}}'
    assert output_from_json(named, ORDER, output_type) == order(order_id="42")


def test_an_output_that_names_no_type_is_of_the_known_one() -> None:
    assert output_from_json('{"orderId": "42"}', ORDER, "shop.v1.Order") == order(order_id="42")


def test_whether_an_output_names_its_type() -> None:
    assert names_type(f'{{"@type": "{TYPE}"}}')
    assert not names_type('{"orderId": "42"}')
    with pytest.raises(CommandError, match="not JSON"):
        names_type("{")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"@type": "{TYPE}", "amount": "many"}}', "the output does not fit: .*amount"),
        ('{"@type": "type.googleapis.com/other.v1.Thing"}', r"the output does not fit: .*other\.v1\.Thing"),
        ('{"@type": 5}', "the output's `@type` is no text"),
        ("[1]", "the output is not a JSON object"),
        ("{", "the output is not JSON"),
    ],
)
def test_what_is_wrong_with_an_output_is_named(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        output_from_json(text, ORDER, "shop.v1.Order")
    assert caught.value.code == ExitCode.REFUSED


@pytest.mark.parametrize("answer", ["refused", "unusable"])
def test_without_descriptors_a_saga_is_shown_all_the_same(fake: FakeCoordinator, answer: str) -> None:
    broken = definition()
    broken.descriptors.file[-1].dependency.append("not/there.proto")
    missing = status(grpc.StatusCode.NOT_FOUND, "no definition", types.ERROR_REASON_DEFINITION_NOT_FOUND)
    answers: dict[str, Any] = {"refused": missing, "unusable": broken}
    fake.answers["GetDefinition"] = answers[answer]
    fake.answers["GetSaga"] = pb.GetSagaResponse(saga=saga(input=order(order_id="42")))
    result = fake.run("get", "order-42", "-o", "json")
    assert result.exit_code == 0
    assert f'"@type": "{TYPE}"' in result.stdout
    assert '"value": "' in result.stdout
