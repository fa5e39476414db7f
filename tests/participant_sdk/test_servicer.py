"""The participant on the wire: a real grpc.aio server on a free port, called with the generated stub."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from participant_sdk import MemoryBarrier, Participant, SagaError, Step, servicer
from participant_sdk.errors import CallError
from participant_sdk.limits import EXCHANGE_IN_FLIGHT_MAX
from participant_sdk.servicer import ParticipantServicer
from saga.v1.participant_pb2 import (
    CompensateRequest,
    ConfirmRequest,
    DescribeRequest,
    ExchangeRequest,
    ExecuteRequest,
    StepContext,
)
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from tests.participant_sdk.support import Scripted, struct

if TYPE_CHECKING:
    from saga.v1.participant_pb2_grpc import ParticipantServiceAsyncStub


@asynccontextmanager
async def served(action: Scripted) -> AsyncIterator[tuple["ParticipantServiceAsyncStub", grpc.aio.Channel]]:
    participant = Participant("test", [action], MemoryBarrier())
    async with participant.running("127.0.0.1:0") as address, grpc.aio.insecure_channel(address) as channel:
        yield ParticipantServiceStub(channel), channel


def context(**fields: Any) -> StepContext:
    known: dict[str, Any] = {
        "saga_uid": "u",
        "step": "s",
        "action": "Scripted",
        "idempotency_key": "u/s/execute",
        "attempt": 1,
    }
    return StepContext(**{**known, **fields})


def payload() -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(struct(sku="book"))
    return packed


def execute_request(**fields: Any) -> ExecuteRequest:
    return ExecuteRequest(context=context(**fields), input=payload())


async def refusal(call: Any) -> SagaError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return SagaError.of(error.value)


async def test_the_three_operations_and_describe(action: Scripted) -> None:
    async with served(action) as (stub, _):
        completed = await stub.Execute(execute_request())
        assert completed.HasField("completed")
        confirm = ConfirmRequest(context=context(), input=payload(), output=completed.completed.output)
        assert (await stub.Confirm(confirm)).HasField("confirmed")
        compensate = CompensateRequest(context=context(saga_uid="v"), input=payload())
        assert (await stub.Compensate(compensate)).compensated.noop
        description = await stub.Describe(DescribeRequest())
        assert (description.participant, description.barriered) == ("test", True)
        assert description.exchange.max_in_flight == EXCHANGE_IN_FLIGHT_MAX


async def test_without_the_fast_lane_exchange_is_neither_offered_nor_served(action: Scripted) -> None:
    participant = Participant("test", [action], MemoryBarrier(), fast_lane=False)
    async with participant.running("127.0.0.1:0") as address, grpc.aio.insecure_channel(address) as channel:
        stub: ParticipantServiceAsyncStub = ParticipantServiceStub(channel)
        assert not (await stub.Describe(DescribeRequest())).HasField("exchange")
        assert await stub.Exchange(iter([ExchangeRequest()])).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_g2_a_replay_is_byte_for_byte_on_the_wire(action: Scripted) -> None:
    async with served(action) as (_, channel):
        execute: Any = channel.unary_unary("/saga.v1.ParticipantService/Execute")
        data = execute_request().SerializeToString()
        assert await execute(data) == await execute(data)
    assert action.calls == ["execute"]


@pytest.mark.parametrize("method", ["Execute", "Compensate", "Confirm", "Describe"])
async def test_malformed_bytes_are_invalid_argument(action: Scripted, method: str) -> None:
    async with served(action) as (_, channel):
        call: Any = channel.unary_unary(f"/saga.v1.ParticipantService/{method}")
        assert (await refusal(call(b"\xff\xff"))).code == grpc.StatusCode.INVALID_ARGUMENT


async def test_errors_travel_with_their_details(action: Scripted) -> None:
    async with served(action) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Execute(ExecuteRequest(context=context(), input=AnyMessage()))
        call: Any = error.value
        status: Any = rpc_status.from_call(call)
        names = [detail.TypeName() for detail in status.details]
        assert names == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == ("INVALID_REQUEST", "saga.v1")
        unknown = await refusal(stub.Execute(execute_request(action="Nope")))
        assert (unknown.code, unknown.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_ACTION")
        await stub.Execute(execute_request())
        other = ExecuteRequest(context=context())
        other.input.Pack(struct(sku="pen"))
        reused = await refusal(stub.Execute(other))
        assert (reused.code, reused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED")


async def test_what_a_handler_raises_is_logged_and_never_travels(
    action: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(_step: Step[Any]) -> StringValue:
        raise ValueError("password=hunter2")

    action.on_execute = breaks
    async with served(action) as (stub, _):
        with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Execute(execute_request())
    assert error.value.code() == grpc.StatusCode.INTERNAL
    everything = f"{error.value.details()} {error.value.trailing_metadata()} {error.value.debug_error_string()}"
    assert "hunter2" not in everything
    assert "hunter2" in caplog.text
    assert "EXECUTE Scripted, saga" in caplog.text


async def test_a_handler_past_the_calls_deadline_is_cancelled(action: Scripted) -> None:
    ended = asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    action.on_execute = waits
    async with served(action) as (stub, _):
        late = await refusal(stub.Execute(execute_request(), timeout=1))
        assert late.code == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(60):
            await ended.wait()
        assert (await stub.Compensate(CompensateRequest(context=context(), input=payload()))).compensated.noop


async def test_a_client_that_cancels_cancels_the_handler(action: Scripted) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    action.on_execute = waits
    async with served(action) as (stub, _):
        call = stub.Execute(execute_request())
        async with asyncio.timeout(60):
            waiting = asyncio.ensure_future(call.code())
            await entered.wait()
            call.cancel()
            assert await waiting == grpc.StatusCode.CANCELLED
            await ended.wait()
        assert (await stub.Compensate(CompensateRequest(context=context(), input=payload()))).compensated.noop


async def test_a_cancellation_from_within_is_a_failure_and_is_answered(action: Scripted) -> None:
    """FACTS: CancelledError that escapes leaves a client without a deadline waiting for ever."""

    async def awaits_what_another_cancelled(_step: Step[Any]) -> StringValue:
        gone: asyncio.Future[StringValue] = asyncio.get_running_loop().create_future()
        gone.cancel()
        return await gone

    action.on_execute = awaits_what_another_cancelled
    async with served(action) as (stub, _), asyncio.timeout(60):
        failed = await refusal(stub.Execute(execute_request()))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INTERNAL, "HANDLER_FAILED")


class Details(grpc.HandlerCallDetails):
    """Asks for the handler of one method."""

    method = "/saga.v1.ParticipantService/Execute"
    invocation_metadata = ()


class Context:
    """The part of a grpc.aio.ServicerContext that a call uses; notes how it was aborted."""

    def __init__(self) -> None:
        self.aborted: list[grpc.StatusCode] = []

    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort(self, code: grpc.StatusCode, _details: str) -> None:
        self.aborted.append(code)
        raise grpc.aio.AbortError


async def test_a_cancelled_call_ends_with_a_status_and_not_with_the_cancellation(action: Scripted) -> None:
    entered = asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    action.on_execute = waits
    participant = Participant("test", [action], MemoryBarrier())
    under_test = ParticipantServicer(participant.actions, participant.barrier, participant.description)
    handler: Any = under_test.rpc_handlers().service(Details())
    rpc = Context()
    call = asyncio.create_task(handler.unary_unary(execute_request().SerializeToString(), rpc))
    await entered.wait()
    call.cancel()
    with pytest.raises(grpc.aio.AbortError):
        await call
    assert rpc.aborted == [grpc.StatusCode.CANCELLED]


async def test_metadata_is_passed_on_to_the_handler(action: Scripted) -> None:
    metadata = (("traceparent", "00-1-2-01"), ("idempotency-key", "u/s/execute"), ("secret-bin", b"\x00"))
    async with served(action) as (stub, _):
        await stub.Execute(execute_request(), metadata=metadata, timeout=30)
    [step] = action.steps
    assert step.metadata["traceparent"] == "00-1-2-01"
    assert step.metadata["idempotency-key"] == "u/s/execute"
    assert "secret-bin" not in step.metadata
    assert step.remaining is not None


async def test_g14_calls_under_way_are_bounded(action: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "CALLS_MAX", 1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(_step: Step[Any]) -> StringValue:
        entered.set()
        await leave.wait()
        return StringValue()

    action.on_execute = waits
    participant = Participant("test", [action], MemoryBarrier())
    bounded = ParticipantServicer(participant.actions, participant.barrier, participant.description)
    request = execute_request()
    first = asyncio.create_task(bounded.answer(request, {}, None))
    await entered.wait()
    with pytest.raises(CallError) as refused:
        await bounded.answer(request, {}, None)
    assert refused.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    idle = asyncio.create_task(bounded.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    leave.set()
    await first
    await idle
    await bounded.answer(request, {}, None)
