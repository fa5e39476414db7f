import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from benchmarks.lane import Lane


@dataclass
class Call:
    id: int


class Echo:
    """A stream that answers each message's calls, latest first, when it is let; `broken` ends it."""

    def __init__(self) -> None:
        self.messages: list[list[int]] = []
        self.answers: asyncio.Queue[list[Call] | None] = asyncio.Queue()

    async def write(self, calls: list[Call]) -> None:
        self.messages.append([call.id for call in calls])
        await asyncio.sleep(0)
        self.answers.put_nowait(calls[::-1])

    async def __aiter__(self) -> AsyncIterator[list[Call]]:
        while (calls := await self.answers.get()) is not None:
            yield calls

    def cancel(self) -> None:
        self.answers.put_nowait(None)


def lane_over(stream: Echo, in_flight_max: int) -> Lane[Call]:
    return Lane(stream, list, lambda message: message, in_flight_max)


async def test_what_is_queued_leaves_as_one_message_and_every_call_gets_its_own_answer() -> None:
    stream = Echo()
    lane = lane_over(stream, 100)
    answers = await asyncio.gather(*(lane.call(Call) for _ in range(10)))
    assert [answer.id for answer in answers] == list(range(1, 11))
    assert stream.messages == [list(range(1, 11))]
    await lane.close()


async def test_no_more_are_in_flight_than_the_other_side_takes() -> None:
    stream = Echo()
    lane = lane_over(stream, 4)
    await asyncio.gather(*(lane.call(Call) for _ in range(10)))
    assert [len(message) for message in stream.messages] == [4, 4, 2]
    await lane.close()


async def test_calls_of_a_stream_that_ends_fail() -> None:
    stream = Echo()
    lane = lane_over(stream, 0)
    call = asyncio.create_task(lane.call(Call))
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(ConnectionError):
        await call
    await lane.close()
