import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from coordinator.core import limits
from coordinator.core.descriptors import InvalidDescriptorsError
from coordinator.core.inputs import Done, Refused, Reply, Unknown
from coordinator.participants.channel import insecure
from coordinator.participants.member import Member
from coordinator.participants.places import Places
from saga.v1.coordinator_pb2 import (
    PARTICIPANT_STATE_READY,
    PARTICIPANT_STATE_UNDESCRIBED,
    PARTICIPANT_STATE_UNREACHABLE,
)
from saga.v1.participant_pb2 import ExchangeLimits, ExecuteRequest, ExecuteResponse
from saga.v1.types_pb2 import (
    FAILURE_KIND_PROTOCOL_VIOLATION,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    Completed,
    FailureKind,
    Rejected,
)
from tests.coordinator.participants.fakes import (
    OUTPUT,
    Context,
    Execute,
    FakeParticipant,
    FarEnd,
    OnExchange,
    Wire,
    answer_all,
    call,
    completed,
    description,
    free_port,
    serving,
    serving_bytes,
    start,
    succeed,
)
from tests.support.waiting import until


class Changes:
    """Counts how often a description became another."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self.changed.set()

    async def next(self) -> None:
        self.changed.clear()
        await self.changed.wait()


class Connections:
    """Makes a member's channel, and keeps it so that a test can wait for its state."""

    def __init__(self) -> None:
        self.channels: list[grpc.aio.Channel] = []

    def __call__(self, target: str) -> grpc.aio.Channel:
        self.channels.append(insecure(target))
        return self.channels[-1]

    async def lost(self) -> None:
        await self.channels[0].wait_for_state_change(grpc.ChannelConnectivity.READY)


@asynccontextmanager
async def member_at(target: str, changes: Changes | None = None) -> AsyncIterator[Member]:
    member = Member("fake", target, insecure, changes or Changes())
    try:
        await member.start()
        yield member
    finally:
        await member.close()


def assert_unknown(reply: Reply, kind: FailureKind.ValueType, *, retryable: bool, answered: bool) -> None:
    assert isinstance(reply, Unknown)
    assert (reply.failure.kind, reply.retryable, reply.answered) == (kind, retryable, answered), reply.failure


async def test_a_participant_that_is_up_is_described_and_ready() -> None:
    changes = Changes()
    async with serving(FakeParticipant()) as target, member_at(target, changes) as member:
        shown = member.snapshot()
    assert (shown.name, shown.target, shown.state) == ("fake", target, PARTICIPANT_STATE_READY)
    assert shown.description.actions[0].name == "Reserve"
    assert not shown.description.HasField("descriptors")
    assert shown.HasField("describe_time")
    assert (shown.last_failure, list(shown.problems)) == ("", [])
    assert changes.count == 1


async def test_a_participant_that_is_up_is_described_once() -> None:
    fake = FakeParticipant()
    async with serving(fake) as target, member_at(target) as member:
        await member.call(call())
        await member.call(call())
    assert fake.describes == 1


async def test_a_participant_that_is_down_at_the_start_is_described_when_it_comes_up() -> None:
    port, changes = free_port(), Changes()
    async with member_at(f"127.0.0.1:{port}", changes) as member:
        shown = member.snapshot()
        assert shown.state == PARTICIPANT_STATE_UNDESCRIBED
        assert shown.last_failure.startswith("UNAVAILABLE: ")
        assert not shown.HasField("description")
        assert not shown.HasField("describe_time")
        async with serving(FakeParticipant(), port):
            await changes.next()
            assert member.snapshot().state == PARTICIPANT_STATE_READY
            assert member.snapshot().last_failure == ""


async def test_a_participant_that_comes_back_is_described_again() -> None:
    port, changes, connections = free_port(), Changes(), Connections()
    first, _ = await start(FakeParticipant(description("Reserve")), port)
    member = Member("fake", f"127.0.0.1:{port}", connections, changes)
    await member.start()
    lost = asyncio.create_task(connections.lost())
    await first.stop(None)
    await lost
    assert member.state == PARTICIPANT_STATE_UNREACHABLE
    assert member.description == description("Reserve")  # what it last said stands
    second, _ = await start(FakeParticipant(description("Reserve", "Release")), port)
    await changes.next()
    assert member.description == description("Reserve", "Release")
    assert member.state == PARTICIPANT_STATE_READY
    await member.close()
    await second.stop(None)


async def test_the_same_description_again_is_no_change() -> None:
    port, changes, fake = free_port(), Changes(), FakeParticipant()
    first, _ = await start(fake, port)
    async with member_at(f"127.0.0.1:{port}", changes):
        await first.stop(None)
        second, _ = await start(fake, port)
        await fake.described(times=2)
    await second.stop(None)
    assert changes.count == 1


async def test_a_participant_that_cannot_describe_itself_yet_is_asked_until_it_can() -> None:
    fake, changes = FakeParticipant(), Changes()
    fake.refuses_describe = True
    async with serving(fake) as target, member_at(target, changes) as member:
        await fake.described(times=3)  # all on one connection
        assert member.last_failure == "UNAVAILABLE: starting up"
        fake.refuses_describe = False
        await changes.next()
        assert member.state == PARTICIPANT_STATE_READY


async def test_a_bad_description_is_refused_with_its_problems() -> None:
    async with serving(FakeParticipant(description("bad name"))) as target, member_at(target) as member:
        shown = member.snapshot()
    assert shown.state == PARTICIPANT_STATE_UNDESCRIBED
    assert len(shown.problems) == 1
    assert "`bad name` has a bad name" in shown.problems[0]
    assert shown.last_failure.startswith("its description cannot be used: action `bad name`")


async def test_a_bad_description_leaves_the_earlier_one_standing_until_a_good_one_comes() -> None:
    fake, changes = FakeParticipant(description("Reserve")), Changes()
    async with serving(fake) as target, member_at(target, changes) as member:
        fake.description = description("Reserve", "Reserve")
        assert not await member.describe()
        assert member.description == description("Reserve")
        assert member.snapshot().problems == ["action `Reserve` stands there 2 times"]
        fake.description = description("Release")
        assert await member.describe()
        assert member.snapshot().problems == []
        assert member.last_failure == ""
    assert changes.count == 2


async def test_a_description_over_the_message_limit_is_refused() -> None:
    described = description()
    described.actions[0].description = "x" * limits.MESSAGE_BYTES_MAX
    async with serving(FakeParticipant(described)) as target, member_at(target) as member:
        assert member.last_failure.startswith("RESOURCE_EXHAUSTED: ")


async def test_garbage_is_no_description() -> None:
    async with serving_bytes(b"\xff") as target, member_at(target) as member:
        assert member.problems == ("the description does not decode",)


async def test_g5_execute_compensate_and_confirm_are_answered_by_their_bodies() -> None:
    fake = FakeParticipant()
    async with serving(fake) as target, member_at(target) as member:
        assert await member.call(call()) == Done(output=OUTPUT)
        assert await member.call(call(OPERATION_COMPENSATE)) == Done(noop=True)
        assert await member.call(call(OPERATION_CONFIRM)) == Done()
    assert fake.headers["idempotency-key"] == "u/reserve/execute"
    assert [len(sent) for sent in (fake.executes, fake.compensates, fake.confirms)] == [1, 1, 1]


@pytest.mark.parametrize("barriered", [True, False])
async def test_a_refusal_covers_earlier_attempts_if_the_participant_says_it_has_a_barrier(barriered: bool) -> None:
    async def refuse(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        return ExecuteResponse(rejected=Rejected(reason="OUT_OF_STOCK"))

    fake = FakeParticipant(description(barriered=barriered), on_execute=refuse)
    async with serving(fake) as target, member_at(target) as member:
        assert await member.call(call()) == Refused("OUT_OF_STOCK", covers_earlier=barriered)


async def test_g5_garbage_is_unknown() -> None:
    async with serving_bytes(b"\xff") as target, member_at(target) as member:
        reply = await member.call(call())
    assert_unknown(reply, FAILURE_KIND_PROTOCOL_VIOLATION, retryable=False, answered=True)


async def test_g5_an_output_of_the_wrong_type_is_unknown() -> None:
    async def mistaken(request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        return ExecuteResponse(completed=Completed(output=request.input))

    async with serving(FakeParticipant(on_execute=mistaken)) as target, member_at(target) as member:
        reply = await member.call(call())
    assert_unknown(reply, FAILURE_KIND_PROTOCOL_VIOLATION, retryable=False, answered=True)


async def test_g5_a_reply_over_the_message_limit_is_unknown_though_it_was_executed() -> None:
    async def verbose(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        return ExecuteResponse(rejected=Rejected(message="x" * (limits.MESSAGE_BYTES_MAX + 1)))

    fake = FakeParticipant(on_execute=verbose)
    async with serving(fake) as target, member_at(target) as member:
        reply = await member.call(call())
    assert_unknown(reply, FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)
    assert isinstance(reply, Unknown)
    assert reply.failure.grpc_code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert len(fake.executes) == 1


async def test_g5_a_defect_of_the_participant_is_unknown() -> None:
    async def broken(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        raise RuntimeError

    async with serving(FakeParticipant(on_execute=broken)) as target, member_at(target) as member:
        reply = await member.call(call())
    assert_unknown(reply, FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)


async def test_g8_an_answer_that_does_not_come_in_time_leaves_the_call_under_way() -> None:
    release = asyncio.Event()

    async def slow(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        await release.wait()
        return ExecuteResponse()

    async with serving(FakeParticipant(on_execute=slow)) as target, member_at(target) as member:
        reply = await member.call(call(timeout_ns=100 * limits.MILLISECOND_NS))
        release.set()
    assert_unknown(reply, FAILURE_KIND_TIMED_OUT, retryable=True, answered=False)


async def test_g8_a_connection_that_is_cut_leaves_the_call_under_way() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        arrived.set()
        await release.wait()
        return ExecuteResponse()

    fake = FakeParticipant(on_execute=slow)
    async with serving(fake) as target:
        wire = Wire(target)
        async with wire as wired, member_at(wired) as member:
            in_flight = asyncio.create_task(member.call(call()))
            await arrived.wait()
            await wire.cut()
            assert_unknown(await in_flight, FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)
            assert_unknown(await member.call(call()), FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)
            shown = member.snapshot()
            assert shown.state == PARTICIPANT_STATE_UNREACHABLE
            assert shown.last_failure.startswith("UNAVAILABLE: ")
        release.set()
    assert len(fake.executes) == 1


async def test_g5_calls_in_flight_when_the_member_closes_end_unknown() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(_request: ExecuteRequest, _context: Context) -> ExecuteResponse:
        arrived.set()
        await release.wait()
        return ExecuteResponse()

    async with serving(FakeParticipant(on_execute=slow)) as target:
        async with member_at(target) as member:
            in_flight = asyncio.create_task(member.call(call()))
            await arrived.wait()
        assert_unknown(await in_flight, FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)
        assert_unknown(await member.call(call()), FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)
        assert not await member.describe()
        assert member.last_failure.startswith("CANCELLED: ")
        release.set()


async def test_what_breaks_the_keeper_is_shown_at_the_end() -> None:
    fake, port = FakeParticipant(), free_port()

    def fail() -> None:
        raise InvalidDescriptorsError(["a listener's defect"])

    before = asyncio.all_tasks()
    member = Member("fake", f"127.0.0.1:{port}", insecure, fail)
    await member.start()
    async with serving(fake, port):
        await fake.described(times=1)
        (keeper,) = [task for task in asyncio.all_tasks() if "_keep_described" in repr(task.get_coro())]
        await asyncio.wait([keeper])
    with pytest.raises(InvalidDescriptorsError):
        await member.close()
    assert asyncio.all_tasks() == before


# --- The fast lane ---


def lane_of(on_exchange: OnExchange, on_execute: Execute = succeed) -> FakeParticipant:
    fake = FakeParticipant(description(exchange=ExchangeLimits()), on_execute)
    fake.on_exchange = on_exchange
    return fake


async def fast(member: Member) -> None:
    await until(lambda: member.snapshot().fast_lane)


async def test_calls_go_over_the_fast_lane_where_it_is_offered() -> None:
    fake = lane_of(answer_all)
    async with serving(fake) as target, member_at(target) as member:
        await fast(member)
        assert await member.call(call()) == Done(output=OUTPUT)
    assert fake.executes == []


async def test_without_the_setting_calls_are_unary() -> None:
    fake = lane_of(answer_all)
    async with serving(fake) as target:
        member = Member("fake", target, insecure, Changes(), fast_lane=False)
        await member.start()
        assert await member.call(call()) == Done(output=OUTPUT)
        assert not member.snapshot().fast_lane
        await member.close()
    assert (len(fake.executes), fake.exchanges) == (1, 0)


async def test_calls_are_unary_while_no_stream_gets_through() -> None:
    async def swallows(far: FarEnd) -> None:
        await far.read()  # as a proxy that holds back what it is sent
        await far.read()

    fake = lane_of(swallows)
    async with serving(fake) as target, member_at(target) as member:
        await until(lambda: fake.exchanges)
        assert await member.call(call()) == Done(output=OUTPUT)
        assert not member.snapshot().fast_lane
    assert len(fake.executes) == 1


async def test_a_call_that_the_stream_hands_back_is_made_once_by_a_unary_call() -> None:
    arrived, breaks = asyncio.Event(), asyncio.Event()

    async def breaks_with_one_open(far: FarEnd) -> None:
        await far.greet()
        await far.calls()
        arrived.set()
        await breaks.wait()
        await far.context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    fake = lane_of(breaks_with_one_open)
    fake.description.exchange.max_in_flight = 1
    async with serving(fake) as target, member_at(target) as member:
        await fast(member)
        sent = asyncio.create_task(member.call(call(saga_id="sent")))
        waiting = asyncio.create_task(member.call(call(saga_id="waiting")))
        await arrived.wait()
        breaks.set()
        assert_unknown(await sent, FAILURE_KIND_UNAVAILABLE, retryable=True, answered=False)
        assert await waiting == Done(output=OUTPUT)
    assert [request.context.saga_id for request in fake.executes] == ["waiting"]


async def test_g8_no_answer_in_time_over_the_fast_lane_leaves_the_call_under_way() -> None:
    async def silent(far: FarEnd) -> None:
        await far.greet()
        while await far.read() is not None:
            pass

    async with serving(lane_of(silent)) as target, member_at(target) as member:
        await fast(member)
        reply = await member.call(call(timeout_ns=50 * limits.MILLISECOND_NS))
    assert_unknown(reply, FAILURE_KIND_TIMED_OUT, retryable=True, answered=False)


async def test_g14_both_lanes_share_the_places() -> None:
    arrived, opens = asyncio.Event(), asyncio.Event()

    async def slow(far: FarEnd) -> None:
        await far.greet()
        calls = await far.calls()
        arrived.set()
        await opens.wait()
        await far.write(*map(completed, calls), drain=True)
        await far.read()

    fake = lane_of(slow)
    async with serving(fake) as target, member_at(target) as member:
        member._channel.places = Places(1)
        await fast(member)
        first, second = (asyncio.create_task(member.call(call())) for _ in range(2))
        await arrived.wait()
        await member.describe()
        assert fake.executes == []
        opens.set()
        assert await first == await second == Done(output=OUTPUT)
    assert len(fake.executes) == 1  # the second, which found the stream draining


async def test_a_stream_that_is_not_read_does_not_hold_up_describe() -> None:
    async def deaf(far: FarEnd) -> None:
        await far.greet()
        await asyncio.Event().wait()

    fake = lane_of(deaf)
    async with serving(fake) as target, member_at(target) as member:
        await fast(member)
        large = [
            asyncio.create_task(member.call(call(saga_id="s" * 500_000, timeout_ns=300 * limits.MILLISECOND_NS)))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        assert await member.describe()
        for reply in await asyncio.gather(*large):
            assert_unknown(reply, FAILURE_KIND_TIMED_OUT, retryable=True, answered=False)
    assert fake.executes == []
