"""One stream of the fast lane, against a participant whose end of it the test holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from coordinator import failpoints
from coordinator.core import limits
from coordinator.participants import exchange as module
from coordinator.participants.call import EXCHANGE
from coordinator.participants.channel import CallEndedError, insecure
from coordinator.participants.exchange import Exchange, NotSentError
from saga.v1.participant_pb2 import ExchangeAnswer, ExchangeLimits, ExchangeRequest, ExecuteResponse
from tests.coordinator.participants.fakes import (
    FakeParticipant,
    FarEnd,
    OnExchange,
    answer_all,
    call,
    completed,
    serving,
)
from tests.support.waiting import until

LATER_S = 60.0


class Held:
    """A far end that the test holds: the stream stays until the test lets it go."""

    def __init__(self) -> None:
        self._arrived: asyncio.Future[FarEnd] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()

    async def __call__(self, far: FarEnd) -> None:
        await far.greet()
        self._arrived.set_result(far)
        await self._gone.wait()

    async def far(self) -> FarEnd:
        return await self._arrived

    def let_go(self) -> None:
        """The participant's end ends with status OK."""
        self._gone.set()


@asynccontextmanager
async def opened(serve: OnExchange, offered: ExchangeLimits | None = None) -> AsyncIterator[Exchange]:
    fake = FakeParticipant()
    fake.on_exchange = serve
    async with asyncio.timeout(20), serving(fake) as target, insecure(target) as channel:
        stream = Exchange(channel.stream_stream(EXCHANGE)(), offered or ExchangeLimits())
        running = asyncio.create_task(stream.run())
        try:
            yield stream
        finally:
            stream.cut("the test is over")
            await running


def post(stream: Exchange, after_s: float = LATER_S, saga_id: str = "s") -> asyncio.Future[ExchangeAnswer]:
    return stream.post(call(saga_id=saga_id), asyncio.get_running_loop().time() + after_s)


async def ended(answer: asyncio.Future[ExchangeAnswer]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallEndedError) as caught:
        await answer
    return caught.value.code, caught.value.message


async def test_a_stream_takes_calls_from_the_participants_first_message_on() -> None:
    greets = asyncio.Event()

    async def late(far: FarEnd) -> None:
        await greets.wait()
        await answer_all(far)

    async with opened(late) as stream:
        before = stream.takes_calls
        greets.set()
        await stream.up.wait()
        assert (before, stream.takes_calls) == (False, True)
        assert (await post(stream)).execute.HasField("completed")


async def test_calls_that_are_there_at_once_leave_in_one_message_in_the_order_they_came() -> None:
    held = Held()
    async with opened(held) as stream:
        far = await held.far()
        await stream.up.wait()
        answers = [post(stream, saga_id=f"saga-{number}") for number in range(5)]
        calls = await far.calls()
        assert [each.execute.context.saga_id for each in calls] == [f"saga-{number}" for number in range(5)]
        assert [each.metadata["idempotency-key"] for each in calls] == ["u/reserve/execute"] * 5
        assert all(0 < each.timeout.seconds < LATER_S for each in calls)
        await far.write(*map(completed, reversed(calls)))
        assert [(await answer).id for answer in answers] == [each.id for each in calls]


async def test_one_slow_answer_holds_up_no_other() -> None:
    held = Held()
    async with opened(held) as stream:
        far = await held.far()
        await stream.up.wait()
        slow, quick = post(stream), post(stream)
        first, second = await far.calls()
        await far.write(completed(second))
        await quick
        assert not slow.done()
        await far.write(completed(first))
        await slow


async def test_g14_no_more_calls_are_in_flight_than_the_participant_takes() -> None:
    held = Held()
    async with opened(held, ExchangeLimits(max_in_flight=2)) as stream:
        far = await held.far()
        await stream.up.wait()
        answers = [post(stream) for _ in range(3)]
        first, second = await far.calls()
        await far.write(completed(second))
        (third,) = await far.calls()
        await far.write(completed(first), completed(third))
        await asyncio.gather(*answers)


async def test_g14_no_message_is_larger_than_the_participant_takes() -> None:
    size = len(call().exchanged(1, limits.SECOND_NS))
    held = Held()
    async with opened(held, ExchangeLimits(max_message_bytes=5 * size // 2)) as stream:
        far = await held.far()
        await stream.up.wait()
        answers = [post(stream) for _ in range(5)]
        batches = [await far.calls() for _ in range(3)]
        assert [len(batch) for batch in batches] == [2, 2, 1]
        await far.write(*(completed(each) for batch in batches for each in batch))
        await asyncio.gather(*answers)


async def test_a_call_that_fits_into_no_message_is_handed_back_and_the_others_go_out() -> None:
    size = len(call().exchanged(1, limits.SECOND_NS))
    async with opened(answer_all, ExchangeLimits(max_message_bytes=size + 20)) as stream:
        await stream.up.wait()
        small, large = post(stream), post(stream, saga_id="s" * 50)
        await small
        with pytest.raises(NotSentError):
            await large
        await post(stream)


async def test_g8_a_call_ends_with_its_own_time_and_its_late_answer_is_ignored() -> None:
    held = Held()
    async with opened(held) as stream:
        far = await held.far()
        await stream.up.wait()
        hurried, patient = post(stream, after_s=0.05), post(stream)
        calls = await far.calls()
        assert await ended(hurried) == (grpc.StatusCode.DEADLINE_EXCEEDED, "no answer came in time")
        await far.write(*map(completed, calls))
        await patient


async def test_a_call_whose_time_is_over_while_it_waits_is_not_sent_and_its_place_is_free() -> None:
    held = Held()
    async with opened(held, ExchangeLimits(max_in_flight=1)) as stream:
        far = await held.far()
        await stream.up.wait()
        first, hurried, last = post(stream), post(stream, after_s=0.05, saga_id="hurried"), post(stream, saga_id="last")
        calls = await far.calls()
        assert (await ended(hurried))[1] == "the time was over before the call could be sent"
        await far.write(*map(completed, calls))
        (sent,) = await far.calls()
        assert sent.execute.context.saga_id == "last"
        await far.write(completed(sent))
        await asyncio.gather(first, last)


async def test_a_call_that_overruns_makes_room_for_the_next() -> None:
    held = Held()
    async with opened(held, ExchangeLimits(max_in_flight=1)) as stream:
        far = await held.far()
        await stream.up.wait()
        hurried, last = post(stream, after_s=0.05), post(stream)
        await far.calls()
        await ended(hurried)
        await far.write(*map(completed, await far.calls()))
        await last


async def test_a_call_that_was_given_up_before_it_was_sent_is_not_sent() -> None:
    held = Held()
    async with opened(held) as stream:
        far = await held.far()
        await stream.up.wait()
        given_up, other = post(stream, saga_id="given-up"), post(stream, saga_id="other")
        given_up.cancel()
        (sent,) = await far.calls()
        assert sent.execute.context.saga_id == "other"
        await far.write(completed(sent))
        await other


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT])
async def test_g5_a_stream_that_ends_leaves_what_was_sent_unknown_and_hands_back_the_rest(
    code: grpc.StatusCode | None,
) -> None:
    async def breaks(far: FarEnd) -> None:
        await far.greet()
        await far.calls()
        if code is not None:
            await far.context.abort(code, "why")

    async with opened(breaks, ExchangeLimits(max_in_flight=1)) as stream:
        await stream.up.wait()
        sent, waiting = post(stream), post(stream)
        ended_with, message = await ended(sent)
        assert ended_with is grpc.StatusCode.UNAVAILABLE  # never what the stream ended with: that is about no call
        assert message.startswith("the stream ended before the answer came: ")
        with pytest.raises(NotSentError):
            await waiting
        assert stream.end_code is (code or grpc.StatusCode.OK)
        assert not stream.takes_calls
        assert stream.retired.is_set()


@pytest.mark.parametrize("number", [0, 2, 1 << 40])
async def test_an_answer_to_a_call_that_was_never_sent_breaks_the_stream(number: int) -> None:
    """Who confuses numbers may have confused others: what is in flight is unknown."""

    async def confuses(far: FarEnd) -> None:
        await far.greet()
        await far.calls()
        await far.write(ExchangeAnswer(id=number, execute=ExecuteResponse()))
        await far.read()

    async with opened(confuses, ExchangeLimits(max_in_flight=1)) as stream:
        await stream.up.wait()
        sent, waiting = post(stream), post(stream)
        assert f"it answered call {number}, which was " in (await ended(sent))[1]
        with pytest.raises(NotSentError):
            await waiting


async def test_a_message_that_does_not_decode_breaks_the_stream() -> None:
    server = grpc.aio.server()

    async def garbage(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await anext(aiter(requests))
        await context.write(b"")
        await anext(aiter(requests))
        await context.write(b"\xff\xff")
        await anext(aiter(requests), None)

    handlers: dict[str, Any] = {"Exchange": grpc.stream_stream_rpc_method_handler(garbage)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("saga.v1.ParticipantService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with asyncio.timeout(20), insecure(f"127.0.0.1:{port}") as channel:
        stream = Exchange(channel.stream_stream(EXCHANGE)(), ExchangeLimits())
        running = asyncio.create_task(stream.run())
        await stream.up.wait()
        assert (await ended(post(stream)))[1].endswith("it sent a message that does not decode")
        await running
    await server.stop(None)


async def test_a_participant_that_does_not_answer_the_greeting_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN_TIMEOUT_S", 0.05)

    async def silent(far: FarEnd) -> None:
        await far.read()
        await far.read()

    async with opened(silent) as stream:
        await stream.retired.wait()
        assert not stream.takes_calls
        assert stream.end_reason == "the participant did not answer the greeting in time"


async def test_a_participant_that_drains_is_sent_nothing_more_and_answers_what_is_open() -> None:
    held = Held()
    async with opened(held, ExchangeLimits(max_in_flight=1)) as stream:
        far = await held.far()
        await stream.up.wait()
        sent, waiting = post(stream), post(stream)
        calls = await far.calls()
        await far.write(drain=True)
        with pytest.raises(NotSentError):
            await waiting
        assert not stream.takes_calls
        assert stream.retired.is_set()
        assert await far.read() == ExchangeRequest(drain=True)
        assert await far.read() is None
        await far.write(*map(completed, calls))
        await sent
        held.let_go()


async def test_a_coordinator_that_drains_says_so_and_takes_the_answers_that_are_open() -> None:
    held = Held()
    async with opened(held) as stream:
        far = await held.far()
        await stream.up.wait()
        answer = post(stream)
        calls = await far.calls()
        stream.drain()
        assert await far.read() == ExchangeRequest(drain=True)
        await far.write(*map(completed, calls))
        await answer
        assert stream.is_idle
        held.let_go()


@pytest.mark.parametrize("point", ["exchange.before_write", "exchange.after_read"])
async def test_g5_at_either_failpoint_what_was_under_way_is_unknown(point: str) -> None:
    async with opened(answer_all) as stream:
        await stream.up.wait()
        failpoints.arm(f"{point}(saga=that)=raise")
        try:
            await post(stream, saga_id="this")
            code, message = await ended(post(stream, saga_id="that"))
        finally:
            failpoints.arm("")
        assert code is grpc.StatusCode.UNAVAILABLE
        assert message.endswith(f"failpoint {point}")


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with opened(answer_all) as stream:
        await stream.up.wait()
        await post(stream)
    # The participant's end of it, which is in this process too, ends a moment later.
    await until(lambda: asyncio.all_tasks() <= before)
