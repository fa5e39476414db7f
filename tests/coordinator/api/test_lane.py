"""The fast lane of starts: by itself, with starts that a test answers, and over a real socket."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.status_pb2 import Status

from coordinator.api.errors import Malformed
from coordinator.api.lane import StartLane
from coordinator.api.rpc import Gate, Gates
from coordinator.core import limits
from coordinator.engine.errors import InvalidRequest, ShuttingDown
from saga.v1 import coordinator_pb2 as pb
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING
from tests.coordinator.api.serving import Api, code_and_reason, failure, kinds, outcome, serving
from tests.coordinator.engine.bench import EXECUTE, accepted, done, request, step, text
from tests.support.logs import logged
from tests.support.waiting import until

WAIT = Duration(seconds=30)


def message(*calls: tuple[int, pb.StartSagaRequest]) -> pb.StartSagasRequest:
    return pb.StartSagasRequest(calls=[pb.StartSagasCall(id=id_, request=asked) for id_, asked in calls])


def small_gates(short: int, long: int) -> Gates:
    gates = Gates()
    gates.short, gates.long = Gate("calls", short), Gate("waits", long)
    return gates


async def quiet() -> None:
    """Let everything happen that can happen without news from outside."""
    for _ in range(50):
        await asyncio.sleep(0)


# --- By itself --------------------------------------------------------------------------------------------------------


class Starts:
    """Starts that are under way until the test answers them."""

    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Future[pb.StartSagaResponse]] = {}

    async def __call__(self, asked: pb.StartSagaRequest) -> pb.StartSagaResponse:
        answer: asyncio.Future[pb.StartSagaResponse] = asyncio.get_running_loop().create_future()
        self.asked[asked.saga_id] = answer
        return await answer

    def answer(self, saga_ids: Iterable[str] = (), payload_bytes: int = 0) -> None:
        """Those, or all that are under way."""
        for saga_id in saga_ids or [each for each, answer in self.asked.items() if not answer.done()]:
            saga = pb.Saga(saga_id=saga_id)
            saga.input.value = bytes(payload_bytes)
            self.asked[saga_id].set_result(pb.StartSagaResponse(saga=saga, created=True))


class Stream:
    """A client's end of a lane."""

    def __init__(self, starts: Starts, gates: Gates) -> None:
        self._sent: asyncio.Queue[pb.StartSagasRequest | Exception | None] = asyncio.Queue()
        self.stopping = asyncio.Event()
        self.answers = StartLane(starts, gates).answers(self._requests(), self.stopping)

    async def _requests(self) -> AsyncIterator[pb.StartSagasRequest]:
        while (sent := await self._sent.get()) is not None:
            if isinstance(sent, Exception):
                raise sent
            yield sent

    def send(self, *saga_ids: str, first: int = 0, **fields: Any) -> None:
        calls = [(first + index, request(saga_id, **fields)) for index, saga_id in enumerate(saga_ids)]
        self._sent.put_nowait(message(*calls))

    def end(self, error: Exception | None = None) -> None:
        self._sent.put_nowait(error)

    async def next(self) -> list[int]:
        """The ids that the next message answers."""
        return [answer.id for answer in (await anext(self.answers)).answers]


@asynccontextmanager
async def lane(gates: Gates | None = None) -> AsyncGenerator[tuple[Starts, Stream], None]:
    starts = Starts()
    stream = Stream(starts, gates or Gates())
    async with asyncio.timeout(10):
        yield starts, stream
    await stream.answers.aclose()


async def test_what_is_answered_at_one_moment_leaves_in_one_message_and_the_rest_while_that_is_written() -> None:
    async with lane() as (starts, stream):
        stream.send("a", "b", "c", "d")
        first = asyncio.create_task(stream.next())
        await until(lambda: len(starts.asked) == 4)
        starts.answer(["b", "a"])
        assert await first == [1, 0]
        starts.answer()  # while the first message is written: nobody asks for the next
        await quiet()
        assert await stream.next() == [2, 3]
        stream.end()
        with pytest.raises(StopAsyncIteration):
            await stream.next()


async def test_a_client_that_half_closes_gets_what_is_left() -> None:
    async with lane() as (starts, stream):
        stream.send("a")
        stream.end()
        answering = asyncio.create_task(stream.next())
        await until(lambda: starts.asked)
        starts.answer()
        assert await answering == [0]
        with pytest.raises(StopAsyncIteration):
            await stream.next()


async def test_g14_no_message_is_over_the_limit() -> None:
    async with lane() as (starts, stream):
        stream.send(*"abcde")
        first = asyncio.create_task(anext(stream.answers))
        await until(lambda: len(starts.asked) == 5)
        starts.answer(payload_bytes=1 << 20)
        messages = [await first, await anext(stream.answers)]
        assert [len(each.answers) for each in messages] == [3, 2]
        assert all(each.ByteSize() <= limits.MESSAGE_BYTES_MAX for each in messages)


async def test_g14_an_answer_that_no_message_can_carry_is_told_instead() -> None:
    async with lane() as (starts, stream):
        stream.send("a")
        answering = asyncio.create_task(anext(stream.answers))
        await until(lambda: starts.asked)
        starts.answer(payload_bytes=limits.MESSAGE_BYTES_MAX)
        [answer] = (await answering).answers
        assert code_and_reason(answer.status) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")


async def test_g14_a_client_that_sends_more_than_is_answered_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STARTS_PER_STREAM_MAX", 3)
    async with lane() as (starts, stream):
        stream.send(*"abcde")
        first = asyncio.create_task(stream.next())
        await quiet()
        assert list(starts.asked) == ["a", "b", "c"]
        starts.answer(["b"])
        assert await first == [1]
        await quiet()
        assert list(starts.asked) == ["a", "b", "c", "d"]


async def test_g14_a_client_that_takes_no_answers_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STARTS_PER_STREAM_MAX", 3)
    async with lane() as (starts, stream):
        stream.send(*"abc", wait=WAIT)
        stream.send(*"defghi", first=3)
        first = asyncio.create_task(stream.next())
        await until(lambda: len(starts.asked) == 6)
        starts.answer(["a"])
        assert await first == [0]
        starts.answer()
        await quiet()
        assert len(starts.asked) == 6
        assert await stream.next() == [1, 2, 3, 4, 5]
        await until(lambda: len(starts.asked) == 9)


async def test_starts_that_wait_do_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STARTS_PER_STREAM_MAX", 2)
    async with lane() as (starts, stream):
        stream.send(*"abcdef", wait=WAIT)
        stream.send("now", first=6)
        answering = asyncio.create_task(stream.next())
        await until(lambda: "now" in starts.asked)
        starts.answer(["now"])
        assert await answering == [6]


async def test_g14_a_call_above_the_gate_is_refused_as_the_unary_one_is() -> None:
    gates = small_gates(1, 9)
    async with lane(gates) as (starts, stream):
        stream.send("a", "b")
        [refused] = (await anext(stream.answers)).answers
        assert (refused.id, code_and_reason(refused.status)) == (1, ("RESOURCE_EXHAUSTED", "OVER_LIMIT"))
        assert set(kinds(refused.status)) == {"RetryInfo"}
        starts.answer()
        assert await stream.next() == [0]
    assert gates.short._inside == gates.long._inside == 0


async def test_an_id_may_be_used_again_once_it_is_answered() -> None:
    async with lane() as (starts, stream):
        for saga_id in ("a", "b"):
            stream.send(saga_id)
            answering = asyncio.create_task(stream.next())
            await until(partial(starts.asked.__contains__, saga_id))
            starts.answer()
            assert await answering == [0]


async def test_g13_an_id_that_is_not_answered_yet_ends_the_stream() -> None:
    """A status under that id would be taken for the answer of the first one, which has started."""
    async with lane() as (starts, stream):
        stream.send("a")
        stream.send("b")
        with pytest.raises(InvalidRequest, match="call 0 is not answered yet"):
            await anext(stream.answers)
        assert list(starts.asked) == ["a"]


async def test_a_coordinator_that_stops_answers_what_is_open_and_reads_no_more() -> None:
    async with lane() as (starts, stream):
        stream.send("a")
        answering = asyncio.create_task(stream.next())
        await until(lambda: starts.asked)
        stream.stopping.set()
        await quiet()
        stream.send("b", first=1)
        await quiet()
        assert list(starts.asked) == ["a"]
        starts.answer()
        assert await answering == [0]
        with pytest.raises(ShuttingDown):
            await stream.next()


async def test_a_message_that_does_not_decode_ends_the_stream_and_what_waits_there() -> None:
    gates = Gates()
    async with lane(gates) as (starts, stream):
        stream.send("a")
        stream.end(Malformed("no message"))
        with pytest.raises(Malformed):
            await stream.next()
        assert starts.asked["a"].cancelled()
        assert gates.short._inside == 0


# --- Over a socket ----------------------------------------------------------------------------------------------------


async def answered(api: Api, *messages: pb.StartSagasRequest) -> dict[int, pb.StartSagasAnswer]:
    """Send them, half-close, and take all answers."""
    found = [answer async for response in api.sagas.StartSagas(iter(messages)) for answer in response.answers]
    assert len({answer.id for answer in found}) == len(found)
    return {answer.id: answer for answer in found}


async def test_g10_many_are_started_on_one_stream_and_each_once() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        asked = [(number, request(f"s{number}")) for number in range(100)]
        first = await answered(api, message(*asked[:30]), message(*asked[30:]))
        assert sorted(first) == list(range(100))
        assert all(answer.start.created for answer in first.values())
        again = await answered(api, message(*asked))
        assert not any(answer.start.created for answer in again.values())
        assert [again[id_].start.saga.saga_id for id_, _ in asked] == [asked_.saga_id for _, asked_ in asked]
        assert len({again[id_].start.saga.uid for id_, _ in asked}) == 100


REFUSED = {
    "malformed": pb.StartSagaRequest(saga_id=" ", wait=Duration(seconds=601)),
    "unknown": request(definition="absent"),
    "another type": request(input=text("in", prefix="x/not.")),
    "exists": request("taken", value="otherwise"),
}


async def test_g13_what_is_wrong_with_a_call_is_told_as_the_unary_call_tells_it() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        await api.sagas.StartSaga(request("taken"))
        by_lane = await answered(api, message(*enumerate(REFUSED.values())), message((9, request("right"))))
        for id_, asked in enumerate(REFUSED.values()):
            told: Status = by_lane[id_].status
            assert told == await failure(api.sagas.StartSaga(asked))
        assert by_lane[9].start.created


async def test_g1_a_start_is_answered_when_it_is_durable() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.journal.hold()
        stream = api.sagas.StartSagas()
        await stream.write(message((1, request())))
        await until(lambda: api.bench.engine.unfinished)
        reading = asyncio.create_task(stream.read())
        await quiet()
        assert not reading.done()
        api.bench.journal.release()
        assert [answer.id for answer in (await reading).answers] == [1]
        assert await api.bench.journaled()
        stream.cancel()


async def test_g13_garbage_ends_the_stream_and_what_was_started_goes_on() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        stream: Any = api.channel.stream_stream("/saga.v1.CoordinatorService/StartSagas")()
        await stream.write(message((1, request())).SerializeToString())
        assert pb.StartSagasResponse.FromString(await stream.read()).answers[0].start.created
        await stream.write(b"\xff\xff")
        assert code_and_reason(await failure(stream.read())) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert await api.bench.ended() == "COMPLETED"


async def test_a_client_that_goes_away_leaves_what_it_started(caplog: pytest.LogCaptureFixture) -> None:
    gates = Gates()
    async with serving(gates=gates) as api:
        await api.bench.register(step("a"))
        api.bench.participants.hold("a")
        api.bench.journal.hold()
        stream = api.sagas.StartSagas()
        await stream.write(message((1, request()), (2, request("waited", wait=WAIT))))
        await until(lambda: api.bench.engine.unfinished == 2)
        stream.cancel()
        await until(lambda: gates.short._inside == gates.long._inside == 0)
        api.bench.journal.release()
        await until(lambda: len(api.bench.participants.calls) == 2)
        assert logged(caplog) == []


async def test_a_drain_answers_open_starts_and_ends_the_streams() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.script("a", EXECUTE, accepted(3600))
        stream = api.sagas.StartSagas()
        await stream.write(message((1, request(wait=WAIT))))
        await until(lambda: api.bench.participants.calls)
        assert await api.bench.engine.drain(5)
        [answer] = (await stream.read()).answers
        assert (answer.start.created, answer.start.saga.state) == (True, SAGA_STATE_RUNNING)
        status = await failure(stream.read())
        assert code_and_reason(status) == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert await outcome(api.sagas.StartSagas().read()) == ("UNAVAILABLE", "SHUTTING_DOWN")


async def test_starts_that_wait_are_answered_when_their_sagas_stand() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.hold("a")
        stream = api.sagas.StartSagas()
        await stream.write(message((1, request("slow", wait=WAIT)), (2, request("now"))))
        assert [answer.id for answer in (await stream.read()).answers] == [2]
        await until(lambda: len(api.bench.participants.calls) == 2)
        api.bench.participants.answer("a", done())
        [answer] = (await stream.read()).answers
        assert (answer.id, answer.start.saga.saga_id, answer.start.created) == (1, "slow", True)
        assert answer.start.saga.state == SAGA_STATE_COMPLETED
        stream.cancel()
