"""Exchange on the wire: a real grpc.aio server on a free port, and a stream that sends what a coordinator would not."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from participant_sdk import Barrier, MemoryBarrier, NoBarrier, Participant, Rejected, Step, exchange
from participant_sdk.errors import CallError
from participant_sdk.exchange import Exchanges
from participant_sdk.limits import EXCHANGE_MESSAGE_BYTES_MAX
from saga.v1.participant_pb2 import (
    CompensateRequest,
    ConfirmRequest,
    ExchangeAnswer,
    ExchangeCall,
    ExchangeRequest,
    ExchangeResponse,
    ExecuteRequest,
    StepContext,
)
from tests.participant_sdk.support import Scripted, struct
from tests.support.logs import logged

EXCHANGE = "/saga.v1.ParticipantService/Exchange"


class Gate:
    """A handler that waits until the test opens the gate; remembers who came and who was cancelled."""

    def __init__(self) -> None:
        self.arrived = asyncio.Semaphore(0)
        self.open = asyncio.Event()
        self.cancelled: list[str] = []
        self.has_cancelled = asyncio.Event()

    async def __call__(self, step: Step[Any]) -> StringValue:
        self.arrived.release()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(step.saga_id)
            self.has_cancelled.set()
            raise
        return StringValue(value="done")


class Stream:
    """A stream whose messages the test writes and reads by itself."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        begin: Any = channel.stream_stream(EXCHANGE)
        self.rpc = begin()

    async def write(self, *calls: ExchangeCall, drain: bool = False) -> None:
        await self.rpc.write(ExchangeRequest(calls=calls, drain=drain).SerializeToString())

    async def read(self) -> ExchangeResponse:
        data = await self.rpc.read()
        assert data is not grpc.aio.EOF
        return ExchangeResponse.FromString(data)

    async def answers(self, count: int) -> dict[int, ExchangeAnswer]:
        found: dict[int, ExchangeAnswer] = {}
        while len(found) < count:
            found |= {answer.id: answer for answer in (await self.read()).answers}
        return found

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """How it ends, when nothing more is to come."""
        try:
            assert await self.rpc.read() is grpc.aio.EOF
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return await self.rpc.code(), ""

    async def rest(self) -> None:
        """Reads until the end."""
        while await self.rpc.read() is not grpc.aio.EOF:
            pass

    async def close(self) -> None:
        """End it as a coordinator does. One that is cut just when the server stops keeps gRPC for the whole grace."""
        if not self.rpc.done():
            await self.write(drain=True)
            assert (await self.end())[0] is grpc.StatusCode.OK


@asynccontextmanager
async def greeted(participant: Participant) -> AsyncIterator[Stream]:
    async with (
        asyncio.timeout(20),
        participant.running("127.0.0.1:0") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream = Stream(channel)
        await stream.write()
        assert await stream.read() == ExchangeResponse()
        yield stream
        await stream.close()


def offering(action: Scripted, barrier: Barrier | None = None) -> Participant:
    return Participant("test", [action], barrier or NoBarrier())


def context(uid: str, **fields: Any) -> StepContext:
    known = {"saga_id": uid, "saga_uid": uid, "step": "s", "action": "Scripted", "idempotency_key": "k", "attempt": 1}
    return StepContext(**{**known, **fields})


def payload(**fields: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(struct(**fields))
    return packed


def execute(number: int, metadata: Mapping[str, str] | None = None, **fields: Any) -> ExchangeCall:
    request = ExecuteRequest(context=context(f"u{number}", **fields), input=payload(sku="book"))
    return ExchangeCall(id=number, execute=request, metadata=metadata)


def reason(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return info.reason


async def test_each_operation_is_answered_under_its_id_and_means_what_the_rpc_means(action: Scripted) -> None:
    async with greeted(offering(action, MemoryBarrier())) as stream:
        await stream.write(execute(1))
        completed = (await stream.answers(1))[1].execute.completed
        confirm = ConfirmRequest(context=context("u1"), input=payload(sku="book"), output=completed.output)
        compensate = CompensateRequest(context=context("other"), input=payload(sku="book"))
        await stream.write(ExchangeCall(id=7, confirm=confirm), ExchangeCall(id=8, compensate=compensate))
        answers = await stream.answers(2)
    assert answers[7].confirm.HasField("confirmed")
    assert answers[8].compensate.compensated.noop


async def test_answers_come_in_any_order(action: Scripted) -> None:
    gate = Gate()

    async def first_waits(step: Step[Any]) -> StringValue:
        return await gate(step) if step.saga_id == "u1" else StringValue()

    action.on_execute = first_waits
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1), execute(2))
        assert set(await stream.answers(1)) == {2}
        gate.open.set()
        assert set(await stream.answers(1)) == {1}


async def test_what_is_ready_at_once_leaves_in_one_message(action: Scripted) -> None:
    async with greeted(offering(action)) as stream:
        await stream.write(*(execute(number) for number in range(1, 51)))
        assert len((await stream.read()).answers) == 50


async def test_g2_a_stored_reply_keeps_its_bytes(action: Scripted) -> None:
    async def refuses(_step: Step[Any]) -> StringValue:
        raise Rejected("SOLD_OUT", "none", **{f"key{number}": "value" for number in range(20)})

    action.on_execute = refuses
    async with greeted(offering(action, MemoryBarrier())) as stream:
        await stream.write(execute(1))
        first = await stream.rpc.read()
        await stream.write(execute(1))
        assert await stream.rpc.read() == first


async def test_metadata_and_timeout_are_the_calls_own(action: Scripted) -> None:
    seen: list[str | None] = []

    async def looks(step: Step[Any]) -> StringValue:
        seen.append(step.metadata.get("traceparent"))
        if step.saga_id == "u2":
            await asyncio.Event().wait()
        return StringValue()

    action.on_execute = looks
    hurried = execute(2, {"traceparent": "t2"})
    hurried.timeout.FromMilliseconds(50)
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1, {"traceparent": "t1"}), hurried)
        answers = await stream.answers(2)
    assert sorted(filter(None, seen)) == ["t1", "t2"]
    assert answers[1].execute.HasField("completed")
    assert (answers[2].status.code, reason(answers[2].status)) == (4, "HANDLER_OVERRAN")


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_call_whose_time_is_over_is_not_begun(action: Scripted, seconds: int) -> None:
    calls: list[Step[Any]] = []

    async def notes(step: Step[Any]) -> StringValue:
        calls.append(step)
        return StringValue()

    action.on_execute = notes
    late = execute(1)
    late.timeout.seconds = seconds
    late.timeout.SetInParent()
    async with greeted(offering(action)) as stream:
        await stream.write(late)
        answers = await stream.answers(1)
    assert (answers[1].status.code, reason(answers[1].status), calls) == (4, "TOO_LATE", [])


async def test_a_timeout_beyond_all_bounds_is_no_error(action: Scripted) -> None:
    call = execute(1)
    call.timeout.seconds = 1 << 60
    async with greeted(offering(action)) as stream:
        await stream.write(call)
        assert (await stream.answers(1))[1].execute.HasField("completed")


async def test_a_failure_is_a_status_with_its_reason_and_nothing_of_the_exception(
    action: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(_step: Step[Any]) -> StringValue:
        raise RuntimeError("password=hunter2")

    action.on_execute = fails
    with caplog.at_level(logging.CRITICAL, "participant_sdk.servicer"):
        async with greeted(offering(action)) as stream:
            await stream.write(execute(1), execute(2, action="Nothing"), ExchangeCall(id=3))
            answers = await stream.answers(3)
    assert [answers[number].status.code for number in (1, 2, 3)] == [13, 12, 3]
    assert reason(answers[1].status) == "HANDLER_FAILED"
    assert "hunter2" not in str(answers[1])
    assert reason(answers[3].status) == "INVALID_REQUEST"


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x0b\x22\x09\x0a\x07\x0a\x05\xff\xfe\xfd\xfc\xfb"])  # not UTF-8
async def test_g13_a_message_that_does_not_decode_ends_the_stream(
    action: Scripted, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with greeted(offering(action)) as stream:
        await stream.rpc.write(data)
        assert await stream.end() == (grpc.StatusCode.INVALID_ARGUMENT, "the message does not decode")
    assert action.calls == []
    assert not logged(caplog, logging.ERROR)


@pytest.mark.parametrize("number", [0, 1])
async def test_an_id_that_is_0_or_still_open_ends_the_stream_and_cancels_its_calls(
    action: Scripted, number: int
) -> None:
    gate = Gate()
    action.on_execute = gate
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1))
        await gate.arrived.acquire()
        again = execute(2)
        again.id = number
        await stream.write(again)
        assert (await stream.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
        await gate.has_cancelled.wait()
    assert gate.cancelled == ["u1"]


async def test_g14_calls_in_flight_are_bounded(action: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "EXCHANGE_IN_FLIGHT_MAX", 2)
    gate = Gate()
    action.on_execute = gate
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1), execute(2), execute(3))
        refused = await stream.answers(1)
        assert (refused[3].status.code, reason(refused[3].status)) == (8, "OVER_LIMIT")
        gate.open.set()
        assert set(await stream.answers(2)) == {1, 2}
        await stream.write(execute(4))
        assert (await stream.answers(1))[4].execute.HasField("completed")


async def test_g14_who_does_not_take_answers_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "EXCHANGE_UNSENT_MAX", 10)
    monkeypatch.setattr(exchange, "EXCHANGE_IN_FLIGHT_MAX", 5)
    begun: list[int] = []
    is_full, takes, written = asyncio.Event(), asyncio.Event(), asyncio.Semaphore(0)

    async def answer(request: Any, _metadata: object, _timeout: object) -> bytes:
        begun.append(request.context.attempt)
        if len(begun) == 10:
            is_full.set()
        raise CallError(grpc.StatusCode.ABORTED, "BUSY", "")

    class Context:
        async def write(self, _message: bytes) -> None:
            written.release()
            await takes.wait()

    async def requests() -> AsyncIterator[bytes]:
        yield b""
        await written.acquire()
        calls = (execute(number, attempt=number) for number in range(1, 101))
        for call in calls:
            await asyncio.sleep(0)  # the call before has run
            yield ExchangeRequest(calls=[call]).SerializeToString()

    async with asyncio.timeout(20):
        serving = asyncio.create_task(Exchanges(answer).serve(requests(), Context()))  # type: ignore[arg-type]  # a part
        await is_full.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(begun) <= 10 + 5
        takes.set()
        await serving
    assert begun == list(range(1, 101))


async def test_g13_what_is_malformed_ends_the_stream_also_while_an_answer_is_written() -> None:
    is_writing, ends = asyncio.Event(), asyncio.Event()
    aborted: list[grpc.StatusCode] = []

    class Context:
        async def write(self, _message: bytes) -> None:
            is_writing.set()
            await ends.wait()

        async def abort(self, code: grpc.StatusCode, *_details: object) -> None:
            aborted.append(code)

    async def requests() -> AsyncIterator[bytes]:
        yield b""
        await is_writing.wait()
        asyncio.get_running_loop().call_soon(ends.set)
        yield b"\xff\xff"

    async def nothing(_request: object, _metadata: object, _timeout: object) -> bytes:
        return b""

    await asyncio.wait_for(Exchanges(nothing).serve(requests(), Context()), 20)  # type: ignore[arg-type]  # a part of it
    assert aborted == [grpc.StatusCode.INVALID_ARGUMENT]


async def test_answers_that_do_not_fit_into_one_message_come_in_several(action: Scripted) -> None:
    async def verbose(_step: Step[Any]) -> StringValue:
        return StringValue(value="x" * (EXCHANGE_MESSAGE_BYTES_MAX * 2 // 5))

    action.on_execute = verbose
    async with greeted(offering(action)) as stream:
        await stream.write(*(execute(number) for number in range(1, 6)))
        sizes = [len((await stream.read()).answers) for _ in range(3)]
    assert sizes == [2, 2, 1]


async def test_an_answer_that_is_larger_than_a_message_comes_alone(action: Scripted) -> None:
    async def huge(_step: Step[Any]) -> StringValue:
        return StringValue(value="x" * (EXCHANGE_MESSAGE_BYTES_MAX - 100))

    action.on_execute = huge
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1), execute(2))
        assert [len((await stream.read()).answers) for _ in range(2)] == [1, 1]


async def test_a_coordinator_that_drains_gets_its_answers_and_a_good_end(action: Scripted) -> None:
    gate = Gate()
    action.on_execute = gate
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1), drain=True)
        await gate.arrived.acquire()
        gate.open.set()
        assert set(await stream.answers(1)) == {1}
        assert await stream.end() == (grpc.StatusCode.OK, "")


async def test_a_participant_that_stops_says_so_answers_what_is_open_or_on_its_way_and_ends(action: Scripted) -> None:
    gate = Gate()
    action.on_execute = gate
    participant = offering(action)
    async with greeted(participant) as stream:
        await stream.write(execute(1))
        await gate.arrived.acquire()
        stopping = asyncio.create_task(participant.stop())
        assert (await stream.read()).drain
        await stream.write(execute(2))  # it had crossed the word on its way
        await stream.write(drain=True)
        await gate.arrived.acquire()
        gate.open.set()
        assert set(await stream.answers(2)) == {1, 2}
        assert await stream.end() == (grpc.StatusCode.OK, "")
        await stopping
    assert gate.cancelled == []


async def test_a_participant_that_stops_does_not_wait_longer_than_its_grace(action: Scripted) -> None:
    gate = Gate()
    action.on_execute = gate
    participant = offering(action)
    async with greeted(participant) as stream:
        await stream.write(execute(1))
        await gate.arrived.acquire()
        await participant.stop(timedelta(0))
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.rest()  # that it drains may have been heard before
    assert gate.cancelled == ["u1"]


async def test_a_stream_that_is_cut_cancels_its_calls_and_no_others(action: Scripted) -> None:
    gate = Gate()
    action.on_execute = gate
    async with (
        asyncio.timeout(20),
        offering(action).running("127.0.0.1:0") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        cut, other = Stream(channel), Stream(channel)
        for number, stream in enumerate((cut, other), 1):
            await stream.write()
            await stream.read()
            await stream.write(execute(number))
        for _ in range(2):
            await gate.arrived.acquire()
        cut.rpc.cancel()
        await gate.has_cancelled.wait()
        gate.open.set()
        assert set(await other.answers(1)) == {2}
        await other.close()
    assert gate.cancelled == ["u1"]


async def test_nothing_is_left_behind(action: Scripted) -> None:
    before = asyncio.all_tasks()
    async with greeted(offering(action)) as stream:
        await stream.write(execute(1))
        await stream.answers(1)
    assert asyncio.all_tasks() == before
