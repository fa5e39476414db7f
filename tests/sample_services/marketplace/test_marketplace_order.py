"""`marketplace_order.yaml` fits the services and `order_fulfillment`: every expression type-checks against them."""

from pathlib import Path

from participant_sdk import RESERVABLE, Action, MemoryBarrier, Participant, Step
from sample_services.marketplace import demo, market
from sample_services.orders.v1.orders_pb2 import FulfilledOrder, Order
from tests.sample_services.definitions import problems


class OrderFulfillment(Action[Order, FulfilledOrder]):
    """The definition of that name, as the coordinator offers it: RESERVABLE, for one of its steps is."""

    name = "order_fulfillment"
    kinds = (RESERVABLE,)

    async def execute(self, _request: Order, _step: Step) -> FulfilledOrder:
        raise AssertionError("only described here")

    async def compensate(self, _request: Order, _output: FulfilledOrder | None, _step: Step) -> None:
        raise AssertionError("only described here")

    async def confirm(self, _request: Order, _output: FulfilledOrder, _step: Step) -> None:
        raise AssertionError("only described here")


def test_the_definition_fits_the_services(tmp_path: Path) -> None:
    path = demo.Marketplace(tmp_path).definitions()[-1]
    coordinator = Participant("coordinator", [OrderFulfillment()], MemoryBarrier())
    assert problems(path, [coordinator, market.participant(tmp_path / "any.db")]) == []
