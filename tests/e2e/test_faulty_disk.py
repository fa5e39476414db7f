"""A real coordinator whose disk fails: clients are told, health checks see it, nothing that was acknowledged is lost or
done twice, and it goes on by itself as soon as the disk is well (G1, G2, G3).
"""

import resource
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from participant_sdk import CoordinatorClient
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SagaState
from sample_services.demo.processes import ServerFailed
from tests.e2e.system import DEFINITION, OrderSystem, order, until
from tests.support import faulty_coordinator

pytestmark = pytest.mark.e2e


class FaultySystem(OrderSystem):
    """The order system, with a coordinator whose disk can be made to fail."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.control = directory / "disk"

    def serve_command(self) -> Sequence[str]:
        _python, _option, _module, *arguments = super().serve_command()
        return faulty_coordinator.command(self.control, *arguments)

    def fail(self, way: str) -> None:
        whole = self.control.with_suffix(".new")
        whole.write_text(way)
        whole.rename(self.control)

    def heal(self) -> None:
        self.control.unlink()


@pytest.fixture
async def faulty(tmp_path: Path) -> AsyncIterator[FaultySystem]:
    async with FaultySystem(tmp_path) as running:
        yield running


class Watching:
    """What health checks say, and a start that is tried once."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        sagas: Any = CoordinatorServiceStub(channel)  # Any: the stubs are annotated for the synchronous API
        health: Any = HealthStub(channel)
        self._start = sagas.StartSaga
        self._statuses = aiter(health.Watch(HealthCheckRequest()))

    async def next_is(self, status: int) -> None:
        assert (await anext(self._statuses)).status == status

    async def is_refused(self, saga_id: str) -> None:
        payload = AnyMessage()
        payload.Pack(order(saga_id))
        request = StartSagaRequest(saga_id=saga_id, definition=DEFINITION, input=payload)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self._start(request, timeout=20)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (failed.value.details() or "").startswith("the journal could not be written: ")


@asynccontextmanager
async def watching(system: OrderSystem) -> AsyncIterator[Watching]:
    async with grpc.aio.insecure_channel(system.address) as channel:
        made = Watching(channel)
        await made.next_is(HealthCheckResponse.SERVING)
        yield made


class Disk(Protocol):
    """What makes a disk fail, and what mends it."""

    def fail(self) -> None: ...
    def heal(self) -> None: ...


async def fail_and_heal(system: OrderSystem, disk: Disk) -> None:
    """One order is in the middle of its charge, one is to be refused, when the disk fails; others come meanwhile."""
    pid = system.coordinator.pid
    async with system.client() as sagas, watching(system) as it:
        await begin(system, sagas)
        disk.fail()
        await it.is_refused("late")
        await it.next_is(HealthCheckResponse.NOT_SERVING)
        system.gateway_hold.unlink()
        paid = "SELECT * FROM charges"
        await until(lambda: len(system.select("payment", paid)) == 3)  # the answers cannot be recorded
        assert (await sagas.get("done")).state == SAGA_STATE_COMPLETED
        await it.is_refused("later")
        shipped = system.select("shipping", "SELECT order_id FROM shipments")
        assert shipped == [("done",)]  # nothing follows from what is not recorded
        disk.heal()
        await it.next_is(HealthCheckResponse.SERVING)
        for saga_id in ("late", "later"):
            await sagas.start(DEFINITION, order(saga_id), saga_id=saga_id)
    await assert_ended(system)
    assert system.coordinator.pid == pid


async def begin(system: OrderSystem, sagas: CoordinatorClient, country: str = "XX") -> None:
    """One order has ended, and two are at the card gateway, which holds them up; one of them goes to this country."""
    await sagas.start(DEFINITION, order("done"), saga_id="done")
    await sagas.wait("done")
    system.gateway_hold.touch()
    await sagas.start(DEFINITION, order("held"), saga_id="held")
    await sagas.start(DEFINITION, order("other", country=country), saga_id="other")
    await until(lambda: len(system.select("card_gateway", "SELECT * FROM charges")) == 3)


async def assert_ended(system: OrderSystem, other: SagaState.ValueType = SAGA_STATE_COMPENSATED) -> None:
    states = [saga.state for saga in await system.wait_all(["done", "held", "late", "later", "other"])]
    assert states == [*[SAGA_STATE_COMPLETED] * 4, other]
    charges = system.select("card_gateway", "SELECT * FROM charges WHERE state = 'CHARGED'")
    assert len(charges) == states.count(SAGA_STATE_COMPLETED)
    system.assert_sums_hold()


@pytest.mark.parametrize("way", ["full_disk", "read_only"])
async def test_a_coordinator_on_a_disk_that_fails_says_so_and_goes_on_when_it_is_well(
    faulty: FaultySystem, way: str
) -> None:
    class Controlled:
        def fail(self) -> None:
            faulty.fail(way)

        def heal(self) -> None:
            faulty.heal()

    await fail_and_heal(faulty, Controlled())
    log = (faulty.directory / "coordinator.log").read_text()
    assert log.count("the journal cannot be written: ") == 1
    assert log.count("the journal can be written again") == 1
    assert "cannot be driven" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process")
async def test_a_coordinator_that_the_system_lets_write_no_more_says_so_and_goes_on_when_it_may(
    system: OrderSystem,
) -> None:
    """No shim: the kernel itself fails every write, as RLIMIT_FSIZE asks."""
    pid = system.coordinator.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)

    class Limited:
        def fail(self) -> None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))

        def heal(self) -> None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    await fail_and_heal(system, Limited())


async def test_a_coordinator_killed_while_its_disk_fails_starts_when_it_is_well_and_loses_nothing(
    faulty: FaultySystem,
) -> None:
    async with faulty.client() as sagas, watching(faulty) as it:
        await begin(faulty, sagas, country="NL")  # its compensation would wait for the deadline of the lost call (G8)
        faulty.fail("broken_syncs")
        await it.is_refused("late")
    await faulty.coordinator.kill()
    with pytest.raises(ServerFailed, match=r"\nerror: .*journal\.db cannot be opened: .*\n\Z"):
        await faulty.coordinator.start()
    await faulty.coordinator.kill()  # it has ended; so it can be started again
    faulty.gateway_hold.unlink()
    faulty.heal()
    await faulty.coordinator.start()
    async with faulty.client() as sagas:
        for saga_id in ("late", "later"):
            await sagas.start(DEFINITION, order(saga_id), saga_id=saga_id)
    await assert_ended(faulty, other=SAGA_STATE_COMPLETED)
