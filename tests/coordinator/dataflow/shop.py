"""A small shop for the tests: proto files compiled on the fly, and participants that describe themselves with them."""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import grpc_tools  # type: ignore[import-untyped]  # ships no annotations
from google.protobuf.any_pb2 import Any as Payload
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from coordinator.dataflow.types import Types, encode
from saga.v1.definition_pb2 import SagaDefinition, StepDefinition
from saga.v1.participant_pb2 import Action, DescribeResponse
from saga.v1.types_pb2 import (
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
)

MONEY = """
syntax = "proto3";
package common.v1;
message Money { string currency = 1; int64 units = 2; }
"""

ORDER = """
syntax = "proto3";
package shop.v1;
import "common/v1/money.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Priority { PRIORITY_UNSPECIFIED = 0; PRIORITY_HIGH = 1; }
message Line { string sku = 1; int32 quantity = 2; }
message Order {
  message Address { string city = 1; }
  string order_id = 1;
  int64 amount = 2;
  bool express = 3;
  repeated Line lines = 4;
  map<string, int32> stock = 5;
  google.protobuf.Timestamp placed = 6;
  Priority priority = 7;
  Address address = 8;
  common.v1.Money price = 9;
  google.protobuf.StringValue note = 10;
  google.protobuf.Value extra = 11;
  google.protobuf.Any attachment = 12;
  google.protobuf.Duration patience = 13;
  bool in = 14;
  map<string, Line> by_sku = 15;
  repeated google.protobuf.Any attachments = 16;
  optional int32 floor = 17;
}
"""

INVENTORY = """
syntax = "proto3";
package inventory.v1;
import "google/protobuf/wrappers.proto";
import "shop/v1/order.proto";
message ReserveStockRequest {
  string order_id = 1;
  int32 quantity = 2;
  repeated shop.v1.Line lines = 3;
  shop.v1.Priority priority = 4;
  string charge = 5;
  repeated int32 numbers = 6;
}
message Reservation {
  string reservation_id = 1;
  int64 total_cents = 2;
  google.protobuf.StringValue remark = 3;
  Line line = 4;
}
message Line { string shelf = 1; }
"""

PAYMENT = """
syntax = "proto3";
package payment.v1;
import "common/v1/money.proto";
import "google/protobuf/timestamp.proto";
message ChargeRequest {
  string order_id = 1;
  int64 amount_cents = 2;
  common.v1.Money price = 3;
  google.protobuf.Timestamp at = 4;
}
message Receipt { string receipt_id = 1; int64 cents = 2; }
message Line { string text = 1; }
"""

FILES = {
    "common/v1/money.proto": MONEY,
    "shop/v1/order.proto": ORDER,
    "inventory/v1/inventory.proto": INVENTORY,
    "payment/v1/payment.proto": PAYMENT,
}


@cache
def _compiled(files: tuple[tuple[str, str], ...], wanted: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as root:
        for name, text in files:
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        out = Path(root, "set.binpb")
        google = Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["", f"-I{root}", f"-I{google}", "--include_imports", f"--descriptor_set_out={out}", *wanted]
        assert protoc.main(arguments) == 0
        return out.read_bytes()


def compile_protos(files: Mapping[str, str], *wanted: str) -> FileDescriptorSet:
    """What protoc makes of the files: those `wanted` (default: all) with all that they import."""
    return FileDescriptorSet.FromString(_compiled(tuple(sorted(files.items())), wanted or tuple(sorted(files))))


def inventory() -> DescribeResponse:
    return DescribeResponse(
        participant="inventory",
        descriptors=compile_protos(FILES, "inventory/v1/inventory.proto"),
        actions=[
            Action(
                name="ReserveStock",
                input_type="inventory.v1.ReserveStockRequest",
                output_type="inventory.v1.Reservation",
                kinds=[STEP_KIND_RESERVABLE, STEP_KIND_COMPENSATABLE],
            ),
            Action(name="ReleaseStock", input_type="inventory.v1.Reservation", output_type="inventory.v1.Reservation"),
        ],
    )


def payment() -> DescribeResponse:
    return DescribeResponse(
        participant="payment",
        descriptors=compile_protos(FILES, "payment/v1/payment.proto"),
        actions=[
            Action(
                name="ChargeCard",
                input_type="payment.v1.ChargeRequest",
                output_type="payment.v1.Receipt",
                kinds=[STEP_KIND_COMPENSATABLE, STEP_KIND_PIVOT, STEP_KIND_RETRIABLE, STEP_KIND_READ_ONLY],
            ),
        ],
    )


def participants() -> dict[str, DescribeResponse | None]:
    return {"inventory": inventory(), "payment": payment(), "shipping": None}


def step(name: str, input_: str, action: str = "ChargeCard", **fields: Any) -> StepDefinition:
    """A step of the participant that offers the action."""
    participant = "payment" if action == "ChargeCard" else "inventory"
    return StepDefinition(name=name, participant=participant, action=action, input=input_, **fields)


def definition(*steps: StepDefinition, **fields: Any) -> SagaDefinition:
    """A definition over the shop's orders."""
    return SagaDefinition(**{"name": "order", "input_type": "shop.v1.Order", "steps": steps} | fields)


def reserve_and_charge() -> SagaDefinition:
    """The example of the design."""
    return definition(
        step(
            "reserve",
            "ReserveStockRequest{order_id: input.order_id, quantity: input.lines[0].quantity}",
            "ReserveStock",
            kind=STEP_KIND_RESERVABLE,
        ),
        step("charge", "ChargeRequest{order_id: input.order_id, amount_cents: reserve.total_cents}"),
        output="payment.v1.Receipt{receipt_id: charge.receipt_id, cents: reserve.total_cents}",
    )


@cache
def types() -> Types:
    """All types of the shop."""
    return Types(compile_protos(FILES))


def packed(full_name: str, json: str = "{}") -> Payload:
    """A payload of that type."""
    return encode(types().from_json(json, full_name))
