"""One participant that hangs slows nobody who does not need it."""

import asyncio
import os
import signal
from typing import Any

import grpc
import pytest

from saga.v1.coordinator_pb2 import ListParticipantsRequest
from saga.v1.coordinator_pb2_grpc import ParticipantDirectoryServiceStub
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED
from tests.e2e.system import DEFINITION, PATIENCE_S, OrderSystem, order

pytestmark = pytest.mark.e2e

STUCK = 12
WITHOUT_PAYMENT = """
name: reservation
input_type: sample_services.orders.v1.Order
steps:
  - name: reserve
    participant: inventory
    action: ReserveStock
    kind: RESERVABLE
    input: "ReserveStockRequest{order_id: input.order_id, lines: input.lines}"
"""


async def test_g14_a_participant_that_hangs_holds_up_its_own_sagas_only(system: OrderSystem) -> None:
    """It is stopped with SIGSTOP: its connection stays, and nothing is answered."""
    file = system.directory / "reservation.yaml"
    file.write_text(WITHOUT_PAYMENT)
    applied = await system.saga("definition", "apply", str(file))
    assert applied.code == 0, applied
    stuck = [f"stuck-{number}" for number in range(STUCK)]
    async with system.client() as sagas:
        os.kill(system.payment.pid, signal.SIGSTOP)
        try:
            await asyncio.gather(*(sagas.start(DEFINITION, order(saga_id), saga_id=saga_id) for saga_id in stuck))
            async with asyncio.timeout(PATIENCE_S):
                while await _calls_in_flight(system, "payment") < STUCK:
                    pass
            free = [sagas.run("reservation", order(f"free-{number}"), saga_id=f"free-{number}") for number in range(10)]
            for saga, _ended in await asyncio.gather(*free):
                assert saga.state == SAGA_STATE_COMPLETED
        finally:
            os.kill(system.payment.pid, signal.SIGCONT)
    for saga in await system.wait_all(stuck):
        assert saga.state == SAGA_STATE_COMPLETED
    assert len(system.select("payment", "SELECT * FROM charges")) == STUCK


async def _calls_in_flight(system: OrderSystem, name: str) -> int:
    async with grpc.aio.insecure_channel(system.address) as channel:
        directory: Any = ParticipantDirectoryServiceStub(channel)  # Any: the stubs are those of the synchronous API too
        shown = (await directory.ListParticipants(ListParticipantsRequest())).participants
    (found,) = (each for each in shown if each.name == name)
    return int(found.traffic.calls_in_flight)
