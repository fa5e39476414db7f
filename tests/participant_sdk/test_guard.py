"""A library's services: what is malformed is refused as everywhere, what they raise does not travel."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from participant_sdk import MemoryBarrier, Participant
from participant_sdk.guard import guarded
from tests.participant_sdk.support import Scripted
from tests.support.logs import logged

NO_REQUEST = b"\xff\xff\xff\xff"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]  # Any: its stub is of the implementation's class


@asynccontextmanager
async def participant() -> AsyncIterator[grpc.aio.Channel]:
    async with (
        Participant("test", [Scripted()], MemoryBarrier()).running("127.0.0.1:0") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@asynccontextmanager
async def serving(servicer: object) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([guarded(HEALTH, servicer)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


def raw(channel: grpc.aio.Channel) -> Any:
    """Check with bytes in and out."""
    return channel.unary_unary(CHECK)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


async def test_g13_bytes_that_do_not_decode_are_an_invalid_argument(caplog: pytest.LogCaptureFixture) -> None:
    async with participant() as channel:
        watch: Any = channel.unary_stream(WATCH)
        reflect: Any = channel.stream_stream(REFLECT)
        calls = [
            raw(channel)(NO_REQUEST),
            watch(NO_REQUEST).read(),
            reflect(iter([NO_REQUEST])).read(),
        ]
        for call in calls:
            error = await failure(call)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "does not decode" in str(error.details())
    assert not logged(caplog, logging.WARNING)


async def test_what_the_service_itself_answers_is_passed_on() -> None:
    async with participant() as channel:
        status = health_pb2.HealthCheckResponse.FromString(await raw(channel)(b""))
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        unknown = health_pb2.HealthCheckRequest(service="nobody").SerializeToString()
        assert (await failure(raw(channel)(unknown))).code() is grpc.StatusCode.NOT_FOUND


class Failing:
    """A health service that fails."""

    async def Check(self, request: Message, context: object) -> Message:  # noqa: N802  gRPC's name
        raise ValueError("a secret")

    Watch = Check


async def test_what_the_service_raises_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Failing()) as channel:
        error = await failure(raw(channel)(b""))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "a secret" not in str(error.details())
    assert "a secret" in caplog.text


class Cancelled:
    """A health service whose call is cancelled, as it is when the server stops."""

    async def Check(self, request: Message, context: object) -> Message:  # noqa: N802  gRPC's name
        raise asyncio.CancelledError

    Watch = Check


async def test_a_cancelled_call_ends_with_a_status() -> None:
    async with serving(Cancelled()) as channel:
        assert (await failure(raw(channel)(b""))).code() is grpc.StatusCode.CANCELLED
