import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import grpc
import pytest

from coordinator.core import limits
from coordinator.participants.channel import OPTIONS, CallEndedError, ParticipantChannel, insecure
from saga.v1.participant_pb2 import DescribeResponse, ExecuteRequest, ExecuteResponse
from tests.coordinator.participants.fakes import Context, FakeParticipant, call, free_port, serving, start, succeed

EXECUTE = "/saga.v1.ParticipantService/Execute"
SECOND_NS = limits.SECOND_NS


@asynccontextmanager
async def connected(target: str, calls_max: int = 8) -> AsyncIterator[ParticipantChannel]:
    channel = ParticipantChannel(insecure(target), calls_max)
    try:
        yield channel
    finally:
        await channel.close()


async def make(
    channel: ParticipantChannel, request: bytes, timeout_ns: int, metadata: tuple[tuple[str, str], ...] = ()
) -> bytes:
    def unary(deadline_s: float) -> Awaitable[bytes]:
        return channel.call(EXECUTE, request, deadline_s=deadline_s, metadata=metadata)

    return await channel.in_place(timeout_ns, unary)


def execute(channel: ParticipantChannel, timeout_ns: int = 10 * SECOND_NS, saga_id: str = "s") -> asyncio.Task[bytes]:
    request = call(saga_id=saga_id).request()
    return asyncio.create_task(make(channel, request, timeout_ns))


class Gate:
    """An Execute that waits until the test opens the gate."""

    def __init__(self) -> None:
        self.waiting = asyncio.Semaphore(0)  # one more for each call that has arrived
        self.open = asyncio.Event()

    async def __call__(self, request: ExecuteRequest, context: Context) -> ExecuteResponse:
        self.waiting.release()
        await self.open.wait()
        return await succeed(request, context)


async def test_the_body_comes_back_as_it_was_sent() -> None:
    async with serving(FakeParticipant()) as target, connected(target) as channel:
        body = await execute(channel)
    assert ExecuteResponse.FromString(body).WhichOneof("outcome") == "completed"


async def test_metadata_travels() -> None:
    fake = FakeParticipant()
    async with serving(fake) as target, connected(target) as channel:
        headers = (("idempotency-key", "k"), ("traceparent", "00-1"))
        await make(channel, b"", SECOND_NS, headers)
    assert (fake.headers["idempotency-key"], fake.headers["traceparent"]) == ("k", "00-1")


async def test_metadata_that_cannot_be_sent_ends_the_call_alone() -> None:
    async with serving(FakeParticipant()) as target, connected(target) as channel:
        with pytest.raises(CallEndedError) as caught:
            await make(channel, b"", SECOND_NS, (("traceparent", "é"),))
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert await execute(channel)


async def test_a_participant_that_is_down_is_known_at_once() -> None:
    """The core backs off and journals each attempt: nothing waits for a connection here."""
    async with connected(f"127.0.0.1:{free_port()}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(execute(channel, timeout_ns=600 * SECOND_NS), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_that_fails_is_sent_once() -> None:
    async def unavailable(_request: ExecuteRequest, context: Context) -> ExecuteResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "busy")

    fake = FakeParticipant(on_execute=unavailable)
    async with serving(fake) as target, connected(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await execute(channel)
    assert len(fake.executes) == 1
    assert ("grpc.enable_retries", 0) in OPTIONS


async def test_every_call_ends_with_its_time() -> None:
    gate = Gate()
    async with serving(FakeParticipant(on_execute=gate)) as target, connected(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await execute(channel, timeout_ns=200 * limits.MILLISECOND_NS)
        gate.open.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_g14_calls_in_flight_are_bounded() -> None:
    gate = Gate()
    fake = FakeParticipant(on_execute=gate)
    async with serving(fake) as target, connected(target, calls_max=2) as channel:
        calls = [execute(channel) for _ in range(4)]
        await gate.waiting.acquire()
        await gate.waiting.acquire()
        assert len(fake.executes) == 2
        calls[0].cancel()  # which gives its place to the third
        await gate.waiting.acquire()
        assert len(fake.executes) == 3
        gate.open.set()
        assert all(await asyncio.gather(*calls[1:]))


async def test_calls_that_wait_are_sent_in_the_order_they_came() -> None:
    fake = FakeParticipant()
    async with serving(fake) as target, connected(target, calls_max=1) as channel:
        names = [f"saga-{number}" for number in range(20)]
        await asyncio.gather(*(execute(channel, saga_id=name) for name in names))
    assert [request.context.saga_id for request in fake.executes] == names


async def test_waiting_for_a_place_counts_and_nothing_is_sent_when_the_time_is_over() -> None:
    gate = Gate()
    fake = FakeParticipant(on_execute=gate)
    async with serving(fake) as target, connected(target, calls_max=1) as channel:
        first = execute(channel)
        await gate.waiting.acquire()
        with pytest.raises(CallEndedError) as caught:
            await execute(channel, timeout_ns=50 * limits.MILLISECOND_NS)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.open.set()
        assert await first
        assert await execute(channel)  # the place is free again
    assert len(fake.executes) == 2


async def test_a_call_whose_time_is_over_before_it_begins_is_not_sent() -> None:
    fake = FakeParticipant()
    async with serving(fake) as target, connected(target) as channel:
        with pytest.raises(CallEndedError):
            await execute(channel, timeout_ns=0)
        assert await execute(channel)
    assert len(fake.executes) == 1


async def test_describe_needs_no_place() -> None:
    gate = Gate()
    async with serving(FakeParticipant(on_execute=gate)) as target, connected(target, calls_max=1) as channel:
        busy = execute(channel)
        await gate.waiting.acquire()
        assert DescribeResponse.FromString(await channel.describe()).actions[0].name == "Reserve"
        gate.open.set()
        await busy


async def test_closing_ends_calls_in_flight_without_cancelling_who_waits() -> None:
    gate = Gate()
    async with serving(FakeParticipant(on_execute=gate)) as target:
        async with connected(target) as channel:
            in_flight = execute(channel)
            await gate.waiting.acquire()
        with pytest.raises(CallEndedError) as caught:
            await in_flight
        assert caught.value.code is grpc.StatusCode.CANCELLED
        with pytest.raises(CallEndedError) as caught:
            await execute(channel)
        assert caught.value.code is grpc.StatusCode.CANCELLED
        gate.open.set()


async def test_who_is_cancelled_stays_cancelled() -> None:
    gate = Gate()
    async with serving(FakeParticipant(on_execute=gate)) as target, connected(target) as channel:
        in_flight = execute(channel)
        await gate.waiting.acquire()
        in_flight.cancel()
        with pytest.raises(asyncio.CancelledError):
            await in_flight
        gate.open.set()


async def test_each_new_connection_is_counted() -> None:
    port = free_port()
    async with connected(f"127.0.0.1:{port}") as channel:
        assert (channel.observe(), channel.is_up()) == (0, False)
        first, _ = await start(FakeParticipant(), port)
        seen = await channel.came_up(after=0)
        assert (seen, channel.observe(), channel.is_up()) == (1, 1, True)
        again = asyncio.create_task(channel.came_up(after=seen))
        await first.stop(None)
        second, _ = await start(FakeParticipant(), port)
        assert await again == 2
        await second.stop(None)


class Flickering:
    """A connection that is always up when it is looked at; each `lose` is a loss in between."""

    def __init__(self) -> None:
        self._losses = asyncio.Semaphore(0)

    def unary_unary(self, _method: str) -> None:
        return None

    def stream_stream(self, _method: str) -> None:
        return None

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, _state: grpc.ChannelConnectivity) -> None:
        await self._losses.acquire()

    async def close(self) -> None:
        return None

    def lose(self) -> None:
        self._losses.release()


async def test_a_connection_that_was_up_again_before_anyone_looked_is_counted_too() -> None:
    flickering = Flickering()
    channel = ParticipantChannel(cast("grpc.aio.Channel", flickering))
    assert await channel.came_up(after=0) == 1
    flickering.lose()
    assert await asyncio.wait_for(channel.came_up(after=1), 60) == 2
    await channel.close()


async def test_an_answer_means_that_the_connection_has_been_counted() -> None:
    async with serving(FakeParticipant()) as target, connected(target) as channel:
        await channel.describe()
        assert channel.observe() == 1


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with serving(FakeParticipant()) as target, connected(target) as channel:
        await channel.describe()
        waiting = asyncio.create_task(channel.came_up(after=5))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    assert asyncio.all_tasks() == before


async def test_g5_an_answer_that_comes_with_the_deadline_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """grpc.aio then answers None."""

    async def nothing(*_: object, timeout: float, **__: object) -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(timeout, over.set)
        await over.wait()

    async with serving(FakeParticipant()) as target, connected(target) as channel:
        monkeypatch.setattr(channel, "_rpcs", {EXECUTE: nothing})
        with pytest.raises(CallEndedError) as ended:
            await execute(channel, timeout_ns=20 * limits.MILLISECOND_NS)
    assert ended.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_g5_a_call_that_ends_well_without_a_message_answers_an_empty_one() -> None:
    """What that means is read as of any answer: no outcome is set."""

    async def no_message(_request: bytes, _context: object) -> None: ...

    handlers: dict[str, Any] = {"Execute": grpc.unary_stream_rpc_method_handler(no_message)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("saga.v1.ParticipantService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(f"127.0.0.1:{port}") as channel:
            assert await execute(channel) == b""
    finally:
        await server.stop(None)
