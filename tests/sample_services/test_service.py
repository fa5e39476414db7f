"""What all sample services share: a process that says where it serves, and names of rows that are used once."""

import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from participant_sdk import RETRIABLE
from participant_sdk.step import Step
from participant_sdk.testing import ActionHarness
from saga.v1.participant_pb2 import DescribeRequest
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from sample_services.demo.__main__ import SAMPLES
from sample_services.demo.processes import Supervisor
from sample_services.demo.sample import Sample
from sample_services.orders import shipping
from sample_services.orders.v1.orders_pb2 import Address
from sample_services.orders.v1.shipping_pb2 import CreateShipmentRequest, Shipment
from sample_services.service import reference


@pytest.mark.e2e
@pytest.mark.parametrize("sample", SAMPLES)
async def test_each_service_serves_where_it_says(sample: Callable[[Path], Sample], tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        for service in sample(tmp_path).services():
            command = (sys.executable, "-m", service.module, *service.options)
            server = await supervisor.start(service.name, command)
            async with grpc.aio.insecure_channel(server.address) as channel:
                described = await ParticipantServiceStub(channel).Describe(DescribeRequest(), timeout=10)
            assert described.participant == service.name
            assert described.barriered
            assert described.actions
            for action in described.actions:
                assert action.description
                assert bool(action.rejection_reasons) == (list(action.kinds) != [RETRIABLE])


async def test_a_reference_is_the_same_in_every_operation_and_used_once() -> None:
    seen: list[str] = []

    class Recorder(shipping.CreateShipment):
        """Notes its references."""

        async def execute(self, _request: CreateShipmentRequest, step: Step) -> Shipment:
            seen.append(reference(step))
            return Shipment()

        async def compensate(self, _request: CreateShipmentRequest, _output: Shipment | None, step: Step) -> None:
            seen.append(reference(step))

    async with ActionHarness(Recorder()) as harness:
        request = CreateShipmentRequest(destination=Address())
        await harness.execute(request)
        await harness.compensate()
        await harness.execute(request, step="again")
        await harness.execute(request, saga_uid="another")

    first, compensated, *others = seen
    assert first == compensated
    assert len({first, *others}) == 3
