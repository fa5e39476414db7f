"""The fast lane of one participant: it comes, goes, and comes back, and nobody waits for it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from coordinator.core import limits, retry
from coordinator.participants import lane as module
from coordinator.participants.call import EXCHANGE
from coordinator.participants.channel import CallEndedError, insecure
from coordinator.participants.exchange import Exchange
from coordinator.participants.lane import Lane
from saga.v1.participant_pb2 import ExchangeLimits
from tests.coordinator.participants.fakes import FakeParticipant, FarEnd, answer_all, call, completed, serving
from tests.support.waiting import until

OFFERED = ExchangeLimits()
LATER_S = 60.0
LONGEST_S = limits.EXCHANGE_BACKOFF_MAX_NS / limits.SECOND_NS


class Streams:
    """Counts the streams that were begun."""

    def __init__(self) -> None:
        self.begun = 0
        self._changed = asyncio.Condition()

    async def note(self) -> None:
        async with self._changed:
            self.begun += 1
            self._changed.notify_all()

    async def wait(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.begun >= count)


@asynccontextmanager
async def lane_to(fake: FakeParticipant) -> AsyncIterator[Lane]:
    async with asyncio.timeout(20), serving(fake) as target, insecure(target) as channel:
        begin: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(EXCHANGE)
        lane = Lane("fake", begin)
        try:
            yield lane
        finally:
            await lane.close()


def recorded_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how many seconds the lane waits each time at most."""
    waits: list[float] = []

    class Recording(Lane):
        async def _wait_for_news(self, failures: int) -> None:
            self._jitter = lambda: 1.0
            waits.append(self._pause_s(failures))
            await super()._wait_for_news(failures)

    monkeypatch.setattr(sys.modules[__name__], "Lane", Recording)
    return waits


async def up(lane: Lane) -> Exchange:
    """The stream that takes calls, as soon as there is one."""
    await until(lambda: lane.stream)
    assert lane.stream is not None
    return lane.stream


async def complete(stream: Exchange) -> None:
    answer = await stream.post(call(), asyncio.get_running_loop().time() + LATER_S)
    assert answer.execute.HasField("completed")


async def test_a_participant_that_does_not_offer_the_lane_is_not_asked_for_it() -> None:
    fake = FakeParticipant()
    fake.on_exchange = answer_all
    async with lane_to(fake) as lane:
        lane.offer(None)
        await asyncio.sleep(0.01)
        assert lane.stream is None
        lane.offer(OFFERED)
        await complete(await up(lane))
    assert fake.exchanges == 1


async def test_an_offer_that_is_withdrawn_ends_the_lane_until_it_is_made_again() -> None:
    fake = FakeParticipant()
    fake.on_exchange = answer_all
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        first = await up(lane)
        lane.offer(None)
        assert lane.stream is None
        lane.offer(OFFERED)
        second = await up(lane)
        assert second is not first
        await complete(second)


async def test_a_stream_that_breaks_is_followed_by_another() -> None:
    fake, breaks = FakeParticipant(), asyncio.Event()

    async def serve(far: FarEnd) -> None:
        if fake.exchanges > 1:
            await answer_all(far)
        await far.greet()
        await breaks.wait()

    fake.on_exchange = serve
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        first = await up(lane)
        breaks.set()
        await first.retired.wait()
        await complete(await up(lane))
    assert fake.exchanges == 2


async def test_a_stream_that_drains_is_beside_its_successor_until_it_is_answered() -> None:
    fake, answers = FakeParticipant(), asyncio.Event()

    async def serve(far: FarEnd) -> None:
        if fake.exchanges > 1:
            await answer_all(far)
            return
        await far.greet()
        calls = await far.calls()
        await far.write(drain=True)
        await answers.wait()
        await far.write(*map(completed, calls))

    fake.on_exchange = serve
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        first = await up(lane)
        open_one = asyncio.create_task(complete(first))
        await first.retired.wait()
        await complete(await up(lane))
        assert not open_one.done()
        answers.set()
        await open_one


async def test_where_streams_do_not_get_through_none_is_tried_until_there_is_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = recorded_waits(monkeypatch)
    fake, streams = FakeParticipant(), Streams()

    async def refuse(far: FarEnd) -> None:
        await streams.note()
        await far.context.abort(grpc.StatusCode.UNIMPLEMENTED, "a proxy that knows no streams")

    fake.on_exchange = refuse
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        await streams.wait(1)
        await until(lambda: waits[-1] == LONGEST_S)
        assert lane.stream is None
        assert fake.exchanges == 1
        lane.offer(OFFERED)  # it has described itself again
        await streams.wait(2)


async def test_the_pauses_between_streams_that_break_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", retry.pauses(limits.MILLISECOND_NS, 8 * limits.MILLISECOND_NS))
    waits = recorded_waits(monkeypatch)
    fake, streams = FakeParticipant(), Streams()

    async def breaks(far: FarEnd) -> None:
        await streams.note()
        await far.context.abort(grpc.StatusCode.UNAVAILABLE, "no")

    fake.on_exchange = breaks
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        await streams.wait(7)
    waited = [wait_s for wait_s in waits if wait_s]
    assert waited[:6] == [0.001, 0.002, 0.004, 0.008, 0.008, 0.008]


async def test_closing_drains_a_stream_on_which_nothing_is_open() -> None:
    fake = FakeParticipant()
    ends: list[bool] = []

    async def serve(far: FarEnd) -> None:
        await far.greet()
        message = await far.read()
        ends.append(message is not None and message.drain)

    fake.on_exchange = serve
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        await up(lane)
    assert ends == [True]


async def test_closing_ends_calls_in_flight_unknown() -> None:
    fake, arrived = FakeParticipant(), asyncio.Event()

    async def serve(far: FarEnd) -> None:
        await far.greet()
        await far.calls()
        arrived.set()
        await far.read()

    fake.on_exchange = serve
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        stream = await up(lane)
        in_flight = asyncio.create_task(complete(stream))
        await arrived.wait()
    with pytest.raises(CallEndedError) as caught:
        await in_flight
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.message.endswith("the connection was closed by the coordinator")


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    fake = FakeParticipant()
    fake.on_exchange = answer_all
    async with lane_to(fake) as lane:
        lane.offer(OFFERED)
        await complete(await up(lane))
    await until(lambda: asyncio.all_tasks() == before)  # the participant's end, too, which is in this process
