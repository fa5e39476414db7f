import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from participant_sdk import MemoryBarrier, NoBarrier, Participant, SqliteBarrier, Step
from saga.v1.participant_pb2 import DescribeRequest, ExecuteRequest, StepContext
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from tests.participant_sdk.support import Scripted, struct

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PARTICIPANT_SERVICE = "saga.v1.ParticipantService"


@pytest.fixture
def participant(action: Scripted) -> Participant:
    return Participant("test", [action], MemoryBarrier())


def execute_request() -> ExecuteRequest:
    payload = AnyMessage()
    payload.Pack(struct(sku="book"))
    context = StepContext(saga_uid="u", step="s", action="Scripted", idempotency_key="k", attempt=1)
    return ExecuteRequest(context=context, input=payload)


async def test_health_says_serving(participant: Participant) -> None:
    async with participant.running("127.0.0.1:0") as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", PARTICIPANT_SERVICE):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING


async def reflected(stub: Any, *requests: reflection_pb2.ServerReflectionRequest) -> list[Any]:
    async def sent() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        for request in requests:
            yield request

    return [response async for response in stub.ServerReflectionInfo(sent())]


async def test_reflection_lists_the_services_and_knows_the_actions_types(participant: Participant) -> None:
    async with participant.running("127.0.0.1:0") as address, grpc.aio.insecure_channel(address) as channel:
        any_channel: Any = channel  # the stub's annotations know synchronous channels only
        stub = reflection_pb2_grpc.ServerReflectionStub(any_channel)
        listed, contract, types = await reflected(
            stub,
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=PARTICIPANT_SERVICE),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="google.protobuf.Struct"),
        )
    assert {service.name for service in listed.list_services_response.service} == {
        PARTICIPANT_SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for response, name in ((contract, "saga/v1/participant.proto"), (types, "google/protobuf/struct.proto")):
        files = map(FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto)
        assert name in {file.name for file in files}


async def test_stop_lets_calls_under_way_finish_and_says_not_serving(
    participant: Participant, action: Scripted
) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        await leave.wait()
        return StringValue(value="finished")

    action.on_execute = waits
    address = await participant.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=PARTICIPANT_SERVICE))
        assert (await watch.read()).status == SERVING
        call = asyncio.ensure_future(ParticipantServiceStub(channel).Execute(execute_request()))
        await entered.wait()
        stopping = asyncio.create_task(participant.stop())
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        leave.set()
        assert (await call).HasField("completed")
        await stopping


async def test_stop_cancels_what_outlives_the_grace_and_rolls_it_back(tmp_path: Path, action: Scripted) -> None:
    entered = asyncio.Event()
    ended: list[str] = []

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")
        raise AssertionError

    class Watched(SqliteBarrier):
        async def close(self) -> None:
            ended.append("barrier")
            await super().close()

    action.on_execute = waits
    participant = Participant("test", [action], Watched(tmp_path / "business.db"))
    address = await participant.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
        call = asyncio.ensure_future(ParticipantServiceStub(channel).Execute(execute_request()))
        await entered.wait()
        await participant.stop(timedelta(milliseconds=10))
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert ended == ["handler", "barrier"]


async def test_a_port_that_is_taken_is_an_error_and_the_barrier_is_closed(
    participant: Participant, tmp_path: Path, action: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    other = Participant("other", [action], SqliteBarrier(tmp_path / "business.db"))
    async with participant.running("127.0.0.1:0") as address:
        with pytest.raises(RuntimeError, match="bind"):
            await other.start(address)
        capfd.readouterr()  # gRPC's own complaint
    async with other.running("127.0.0.1:0"):
        pass


async def test_it_runs_once_at_a_time_and_can_run_again(participant: Participant) -> None:
    async with participant.running("127.0.0.1:0"):
        with pytest.raises(RuntimeError, match="running already"):
            await participant.start("127.0.0.1:0")
    async with participant.running("127.0.0.1:0"):
        pass
    await participant.stop()


async def test_serves_a_unix_socket(participant: Participant, tmp_path: Path) -> None:
    async with participant.running(f"unix:{tmp_path}/socket") as address, grpc.aio.insecure_channel(address) as channel:
        assert (await ParticipantServiceStub(channel).Describe(DescribeRequest())).participant == "test"


async def test_no_barrier_has_to_be_said_and_shows_in_describe(action: Scripted) -> None:
    assert not Participant("test", [action], NoBarrier()).description.barriered
    with pytest.raises(TypeError, match="barrier"):
        Participant("test", [action])  # type: ignore[call-arg]  # that is the mistake


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_runs_until_a_signal(participant: Participant, number: int) -> None:
    ready = asyncio.Event()
    addresses: list[str] = []

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    async with asyncio.timeout(60):
        serving = asyncio.create_task(participant.serve("127.0.0.1:0", on_ready=on_ready))
        await ready.wait()
        async with grpc.aio.insecure_channel(addresses[0]) as channel:
            await ParticipantServiceStub(channel).Describe(DescribeRequest())
        os.kill(os.getpid(), number)
        await serving


async def test_serve_drains_when_it_is_cancelled(participant: Participant) -> None:
    ready = asyncio.Event()
    async with asyncio.timeout(60):
        serving = asyncio.create_task(participant.serve("127.0.0.1:0", on_ready=lambda _address: ready.set()))
        await ready.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    async with participant.running("127.0.0.1:0"):
        pass


def test_serve_works_outside_the_main_thread(participant: Participant) -> None:
    """Where signals cannot be received, whoever embeds the participant cancels it."""

    async def main() -> None:
        ready = asyncio.Event()
        serving = asyncio.create_task(participant.serve("127.0.0.1:0", on_ready=lambda _address: ready.set()))
        await ready.wait()
        serving.cancel()

    async def in_a_thread() -> None:
        await asyncio.to_thread(asyncio.run, main())

    asyncio.run(in_a_thread())


async def test_a_handler_that_will_not_end_does_not_keep_the_participant(
    participant: Participant,
    action: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("participant_sdk.server.CLEAN_UP_MAX", timedelta(milliseconds=10))
    entered, leave = asyncio.Event(), asyncio.Event()

    async def clings(_step: Step[Any]) -> StringValue:
        entered.set()
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return StringValue()

    action.on_execute = clings
    address = await participant.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
        call = asyncio.ensure_future(ParticipantServiceStub(channel).Execute(execute_request()))
        await entered.wait()
        await participant.stop(timedelta(0))
        assert "does not end although it was cancelled" in caplog.text
        leave.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
