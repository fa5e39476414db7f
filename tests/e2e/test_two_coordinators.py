"""A saga here with a step that is a saga there: two coordinators, each a process, killed in the middle (rule 9).

The outer one knows the inner one as a participant, by name and target, and nothing else. The order services are the
inner one's. The outer saga reserves a parcel as a child, asks this process whether to go on, and confirms or gives up.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from participant_sdk import (
    PIVOT,
    Action,
    CoordinatorClient,
    MemoryBarrier,
    MemoryTransaction,
    Participant,
    Rejected,
    Step,
)
from saga.v1.coordinator_pb2 import Saga
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, STEP_STATE_CONFIRMED
from sample_services.demo.processes import Server, Supervisor
from sample_services.orders.v1.orders_pb2 import FulfilledOrder
from tests.e2e.system import DEFINITION, OrderSystem, order, until
from tests.support.registering import register

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CHARGED = "SELECT * FROM charges WHERE state = 'CHARGED'"
OUTER = """
name: remote_order
input_type: sample_services.orders.v1.Order
steps:
  - name: parcel
    participant: warehouse
    action: order_fulfillment
    kind: RESERVABLE
    input: input
    execute: {max_attempts: 0, initial_backoff: 20ms, max_backoff: 200ms}
  - name: approve
    participant: desk
    action: Approve
    kind: PIVOT
    input: parcel
"""


class Approve(Action[FulfilledOrder, FulfilledOrder, MemoryTransaction]):
    """Says whether to go on."""

    kinds = (PIVOT,)

    async def execute(self, request: FulfilledOrder, step: Step[MemoryTransaction]) -> FulfilledOrder:
        if request.order_id.startswith("refused"):
            raise Rejected("NO", "not this one")
        return request


class Coordinators:
    """The inner one, with the order services, and the outer one."""

    def __init__(self, inner: OrderSystem, outer: Server) -> None:
        self.inner = inner
        self.outer = outer

    async def start(self, order_id: str) -> None:
        async with CoordinatorClient(self.outer.address) as sagas:
            await sagas.start("remote_order", order(order_id), saga_id=order_id)

    async def ends(self, order_id: str) -> tuple[Saga, Saga]:
        """Both sagas, when the outer one has ended."""
        async with CoordinatorClient(self.outer.address) as sagas, self.inner.client() as children:
            saga, _ended = await sagas.wait(order_id)
            return saga, await children.get(f"{order_id}/parcel")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def coordinators(
    shared_system: OrderSystem, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Coordinators]:
    directory = tmp_path_factory.mktemp("outer")
    async with AsyncExitStack() as stack:
        desk = Participant("desk", [Approve()], MemoryBarrier())
        approvals = await stack.enter_async_context(desk.running("127.0.0.1:0"))
        supervisor = await stack.enter_async_context(Supervisor(directory))
        outer = await supervisor.start(
            "outer",
            (
                *(sys.executable, "-m", "coordinator.cli", "serve", f"--journal={directory / 'outer.db'}"),
                *(f"--participant=warehouse={shared_system.address}", f"--participant=desk={approvals}"),
            ),
        )
        definition = directory / "outer.yaml"
        definition.write_text(OUTER)
        await register(outer.address, definition)
        yield Coordinators(shared_system, outer)


async def test_a_child_elsewhere_is_confirmed_and_another_is_compensated(coordinators: Coordinators) -> None:
    """G4, G6: what is held there becomes final, or is released, as the saga here decides."""
    await coordinators.start("kept")
    await coordinators.start("refused")
    saga, child = await coordinators.ends("kept")
    assert (saga.state, child.state) == (SAGA_STATE_COMPLETED, SAGA_STATE_COMPLETED)
    assert saga.steps[0].state == STEP_STATE_CONFIRMED
    assert (saga.steps[0].child_saga_id, child.parent_saga_id) == (child.saga_id, "kept")
    saga, child = await coordinators.ends("refused")
    assert (saga.state, child.state) == (SAGA_STATE_COMPENSATED, SAGA_STATE_COMPENSATED)
    coordinators.inner.assert_sums_hold()


async def test_a_child_that_cannot_be_done_there_is_a_refusal_here(coordinators: Coordinators) -> None:
    async with CoordinatorClient(coordinators.outer.address) as sagas:
        await sagas.start("remote_order", order("far", country="XX"), saga_id="far")
    saga, child = await coordinators.ends("far")
    assert saga.failure.reason == child.failure.reason == "ADDRESS_NOT_SERVED"
    assert (saga.state, child.state) == (SAGA_STATE_COMPENSATED, SAGA_STATE_COMPENSATED)
    coordinators.inner.assert_sums_hold()


async def test_each_killed_in_the_middle_goes_on_with_the_other(coordinators: Coordinators) -> None:
    """G2, G3: kill -9 of the one, then of the other, while the card is being charged; it is charged once."""
    system = coordinators.inner
    orders = []
    for victim in (coordinators.outer, system.coordinator):
        order_id = f"order-{victim.name}"
        orders.append(order_id)
        before = len(system.select("card_gateway", CHARGED))
        system.gateway_hold.touch()
        await coordinators.start(order_id)
        await until(lambda before=before: len(system.select("card_gateway", CHARGED)) > before)  # type: ignore[misc]
        await victim.kill()
        system.gateway_hold.unlink()
        await victim.start()
        saga, child = await coordinators.ends(order_id)
        assert (saga.state, child.state) == (SAGA_STATE_COMPLETED, SAGA_STATE_COMPLETED)
        assert child.definition == DEFINITION
    charges = system.select("payment", "SELECT order_id FROM charges WHERE order_id LIKE 'order-%' ORDER BY order_id")
    assert charges == sorted((order_id,) for order_id in orders)
    system.assert_sums_hold()
