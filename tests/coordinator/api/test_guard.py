"""A library's services: what is malformed is refused as everywhere, what they raise does not travel."""

import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from coordinator.api.guard import guarded
from tests.coordinator.api.serving import outcome, serving
from tests.support.logs import logged

NO_REQUEST = b"\xff\xff\xff\xff"
HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]  # Any: its stub is of the implementation's class


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Check", "/grpc.channelz.v1.Channelz/GetServers"])
async def test_g13_bytes_that_do_not_decode_are_an_invalid_argument(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as api:
        assert await outcome(api.raw(method)(NO_REQUEST)) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert not logged(caplog, logging.WARNING)


async def test_g13_so_they_are_for_a_stream_of_answers() -> None:
    async with serving() as api:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await api.raw("/grpc.health.v1.Health/Watch", stream=True)(NO_REQUEST).read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_the_service_itself_answers_is_passed_on() -> None:
    async with serving() as api:
        assert (await api.health.Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await api.health.Check(HealthCheckRequest(service="nobody"))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


class Failing:
    """A health service that fails."""

    async def Check(self, request: object, context: object) -> object:  # noqa: N802  gRPC's name
        raise ValueError("a secret")

    Watch = Check


async def test_what_the_service_raises_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([guarded(HEALTH, Failing())])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"")
    await server.stop(0)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "a secret" not in str(failed.value.details())
    assert "a secret" in caplog.text
