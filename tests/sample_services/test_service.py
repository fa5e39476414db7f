"""What all sample services share: names of rows that are used once. Their processes are what the demo starts."""

from participant_sdk.step import Step
from participant_sdk.testing import ActionHarness
from sample_services.orders import shipping
from sample_services.orders.v1.orders_pb2 import Address
from sample_services.orders.v1.shipping_pb2 import CreateShipmentRequest, Shipment
from sample_services.service import reference


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
