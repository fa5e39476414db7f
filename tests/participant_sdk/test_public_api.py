"""What writing a participant must feel like: the snippet, type-checked like every test, and run.

Each `type: ignore` below is a mistake that mypy must catch: were it not caught, mypy would call the ignore unused.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

import participant_sdk
from participant_sdk import RESERVABLE, Action, Held, Participant, Pending, Rejected, SqliteBarrier, Step
from participant_sdk.testing import ActionHarness
from saga.v1.participant_pb2 import DescribeRequest
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from tests.participant_sdk import snippet_pb as pb
from tests.participant_sdk.support import SCHEMA, struct


class ReserveStock(Action[pb.ReserveStockRequest, pb.Reservation]):
    """Holds stock for an order."""

    kinds = (RESERVABLE,)

    async def execute(self, request: pb.ReserveStockRequest, step: Step) -> pb.Reservation:
        if request.fields["quantity"].number_value > 5:
            raise Rejected("OUT_OF_STOCK")
        step.transaction.execute("INSERT INTO business (name) VALUES (?)", (request["sku"],))
        return pb.Reservation(value=step.key)

    async def compensate(self, request: pb.ReserveStockRequest, output: pb.Reservation | None, step: Step) -> None:
        step.transaction.execute("DELETE FROM business WHERE name = ?", (request["sku"],))

    async def confirm(self, request: pb.ReserveStockRequest, output: pb.Reservation, step: Step) -> None:
        step.transaction.execute("UPDATE business SET name = ?", (output.value,))


class HoldStock(ReserveStock):
    """Answers in each of the ways there are."""

    async def execute(  # type: ignore[override]  # wider than its parent, as wide as Action allows
        self, request: pb.ReserveStockRequest, step: Step
    ) -> pb.Reservation | Held[pb.Reservation] | Pending:
        if request["sku"] == "slow":
            return Pending(poll_after=timedelta(seconds=5))
        return Held(pb.Reservation(), until=datetime.now(UTC) + timedelta(minutes=10))


class Mistaken(Action[pb.ReserveStockRequest, pb.Reservation]):
    async def execute(  # type: ignore[override]  # must be caught: another input type
        self, request: StringValue, step: Step
    ) -> pb.Reservation:
        await step.transaction.execute("SELECT 1")  # type: ignore[misc]  # must be caught: a sqlite3 cursor
        return Struct()  # type: ignore[return-value]  # must be caught: another output type


async def test_the_snippet_serves(tmp_path: Path) -> None:
    inventory = Participant(
        "inventory", actions=[ReserveStock()], barrier=SqliteBarrier(tmp_path / "inventory.db", schema=SCHEMA)
    )
    async with inventory.running("127.0.0.1:0") as address, grpc.aio.insecure_channel(address) as channel:
        description = await ParticipantServiceStub(channel).Describe(DescribeRequest())
    [action] = description.actions
    assert (action.name, action.description) == ("ReserveStock", "Holds stock for an order.")
    assert (action.input_type, action.output_type) == ("google.protobuf.Struct", "google.protobuf.StringValue")


async def test_the_snippets_handlers_run() -> None:
    async with ActionHarness(ReserveStock(), SqliteBarrier(":memory:", schema=SCHEMA)) as harness:
        assert (await harness.execute(struct(sku="book", quantity=1))).HasField("completed")
        assert (await harness.confirm()).HasField("confirmed")
        refused = await harness.execute(struct(sku="book", quantity=9), saga_uid="other")
        assert refused.rejected.reason == "OUT_OF_STOCK"


async def test_the_other_ways_to_answer() -> None:
    async with ActionHarness(HoldStock(), SqliteBarrier(":memory:", schema=SCHEMA)) as harness:
        held = await harness.execute(struct(sku="book"), saga_uid="held")
        assert held.completed.hold_until.ToDatetime(tzinfo=UTC) > datetime.now(UTC)
        assert (await harness.execute(struct(sku="slow"))).HasField("pending")


@pytest.mark.parametrize("name", participant_sdk.__all__)
def test_everything_public_is_there_and_explained(name: str) -> None:
    assert getattr(participant_sdk, name) is not None
