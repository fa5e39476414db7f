import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import grpc
import pytest

from coordinator.core import limits
from coordinator.core.inputs import Done, Unknown
from coordinator.participants.channel import insecure
from coordinator.participants.directory import DescribeFailedError, Directory, UnknownParticipantError
from saga.v1.coordinator_pb2 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_OPEN,
    PARTICIPANT_STATE_READY,
    PARTICIPANT_STATE_UNDESCRIBED,
)
from saga.v1.participant_pb2 import ExecuteRequest, ExecuteResponse
from saga.v1.types_pb2 import FAILURE_KIND_UNAVAILABLE
from tests.coordinator.core.protos import files, proto
from tests.coordinator.participants.fakes import (
    OUTPUT,
    Context,
    FakeParticipant,
    call,
    description,
    free_port,
    serving,
    succeed,
)
from tests.support.waiting import until

OTHER_SHOP = proto("shop.proto", "shop", {"ReserveRequest": ["sku", "count:int64"], "Reservation": ["hold"]})


@asynccontextmanager
async def directory_of(**fakes: FakeParticipant) -> AsyncIterator[Directory]:
    async with AsyncExitStack() as stack:
        targets = {name: await stack.enter_async_context(serving(fake)) for name, fake in fakes.items()}
        yield await stack.enter_async_context(Directory(targets))


@contextmanager
def silent() -> Iterator[tuple[socket.socket, str]]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener, f"127.0.0.1:{listener.getsockname()[1]}"


def states(directory: Directory) -> dict[str, int]:
    return {shown.name: shown.state for shown in directory.participants()}


async def test_participants_are_shown_by_name() -> None:
    async with directory_of(payment=FakeParticipant(), inventory=FakeParticipant()) as directory:
        assert [shown.name for shown in directory.participants()] == ["inventory", "payment"]
        assert directory.participant("payment").description.actions[0].name == "Reserve"
        assert not directory.participant("payment").description.HasField("descriptors")


async def test_one_that_is_down_stops_neither_the_start_nor_the_others() -> None:
    port, came = free_port(), asyncio.Event()
    async with serving(FakeParticipant()) as target:
        targets = {"payment": target, "inventory": f"127.0.0.1:{port}"}
        async with Directory(targets) as directory:
            assert states(directory) == {
                "inventory": PARTICIPANT_STATE_UNDESCRIBED,
                "payment": PARTICIPANT_STATE_READY,
            }
            assert directory.descriptions() == {"inventory": None, "payment": description()}
            assert await directory.call(call(participant="payment")) == Done(output=OUTPUT)
            directory.on_change(came.set)
            async with serving(FakeParticipant(), port):
                await came.wait()
                assert directory.descriptions() == {"inventory": description(), "payment": description()}


async def test_one_that_never_answers_holds_the_start_up_no_longer_than_describe_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "DESCRIBE_TIMEOUT_NS", 200 * limits.MILLISECOND_NS)
    with silent() as (_, target):
        async with asyncio.timeout(60), Directory({"a": target, "b": target}) as directory:
            assert [shown.last_failure[:18] for shown in directory.participants()] == ["DEADLINE_EXCEEDED:"] * 2


async def test_a_call_goes_to_the_participant_it_names() -> None:
    payment, inventory = FakeParticipant(), FakeParticipant()
    async with directory_of(payment=payment, inventory=inventory) as directory:
        assert await directory.call(call(participant="payment")) == Done(output=OUTPUT)
    assert (len(payment.executes), len(inventory.executes)) == (1, 0)


async def test_g5_a_call_to_a_participant_that_was_taken_out_of_the_configuration_is_unknown() -> None:
    async with Directory({}) as directory:
        reply = await directory.call(call(participant="gone"))
    assert isinstance(reply, Unknown)
    assert (reply.failure.kind, reply.retryable) == (FAILURE_KIND_UNAVAILABLE, True)
    assert reply.failure.message == "the configuration names no participant `gone`"


async def test_a_participant_can_be_asked_again() -> None:
    fake, changes = FakeParticipant(), []
    async with directory_of(payment=fake) as directory:
        directory.on_change(lambda: changes.append(directory.participant("payment").description.version))
        fake.description = description(version="2")
        shown = await directory.refresh("payment")
        assert shown.description.version == "2"
        assert changes == ["2"]
        await directory.refresh("payment")
        assert changes == ["2"]


async def test_a_participant_that_cannot_be_asked_is_an_error_that_says_why() -> None:
    fake = FakeParticipant()
    async with directory_of(payment=fake) as directory:
        fake.refuses_describe = True
        with pytest.raises(DescribeFailedError, match=r"^UNAVAILABLE: starting up$"):
            await directory.refresh("payment")
        fake.refuses_describe = False
        fake.description = description("no good")
        with pytest.raises(DescribeFailedError, match="`no good` has a bad name"):
            await directory.refresh("payment")


async def test_a_name_that_the_configuration_does_not_know_is_an_error() -> None:
    async with Directory({}) as directory:
        with pytest.raises(UnknownParticipantError, match="no participant `gone`"):
            directory.participant("gone")
        with pytest.raises(UnknownParticipantError):
            directory.types_of("gone")
        with pytest.raises(UnknownParticipantError):
            await directory.refresh("gone")


async def test_a_clash_is_a_problem_of_both_participants() -> None:
    other = FakeParticipant(description(descriptors=files(OTHER_SHOP)))
    async with directory_of(a=FakeParticipant(), b=other, c=FakeParticipant()) as directory:
        problems = {shown.name: list(shown.problems) for shown in directory.participants()}
    text = "shop.ReserveRequest of participant b differs from shop.ReserveRequest of participant a"
    assert problems == {"a": [text], "b": [text], "c": []}


async def test_types_follow_the_descriptions() -> None:
    fake = FakeParticipant()
    other = FakeParticipant(description(descriptors=files(OTHER_SHOP)))

    def fields(participant: str) -> list[str]:
        request = directory.types_of(participant).pool.FindMessageTypeByName("shop.ReserveRequest")
        return [field.name for field in request.fields]

    async with directory_of(a=fake, b=other) as directory:
        assert directory.types() is directory.types()  # nothing has changed
        assert len(directory.types().clashes) == 1
        assert (fields("a"), fields("b")) == (["sku"], ["sku", "count"])
        fake.description = other.description
        await directory.refresh("a")
        assert directory.types().clashes == ()
        assert fields("a") == ["sku", "count"]


async def test_a_participant_that_is_not_described_has_the_shared_types_alone() -> None:
    async with Directory({"a": f"127.0.0.1:{free_port()}"}, shared=files(OTHER_SHOP)) as directory:
        assert [file.name for file in directory.types_of("a").files] == ["shop.proto"]


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with directory_of(a=FakeParticipant(), b=FakeParticipant()):
        pass
    assert asyncio.all_tasks() == before


async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()

    async def enter(target: str) -> None:
        async with Directory({"a": target}):
            pytest.fail("the start went through")

    with silent() as (listener, target):
        starting = asyncio.create_task(enter(target))
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        with connection:
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
    assert asyncio.all_tasks() == before


async def test_a_start_that_fails_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()

    def connect(target: str) -> grpc.aio.Channel:
        if target == "bad":
            raise ValueError(target)
        return insecure(target)

    with pytest.raises(ValueError, match="bad"):
        await Directory({"a": "127.0.0.1:1", "b": "bad"}, connect=connect).__aenter__()
    assert asyncio.all_tasks() == before


async def test_closing_twice_or_unstarted_is_no_error() -> None:
    directory = Directory({"a": "127.0.0.1:1"})
    await directory.close()
    await directory.start()
    await directory.close()
    await directory.close()


# --- Traffic ----------------------------------------------------------------------------------------------------------


async def test_g14_calls_in_flight_are_bounded_by_participant_and_can_be_seen() -> None:
    arrived, leave = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: ExecuteRequest, context: Context) -> ExecuteResponse:
        arrived.release()
        await leave.wait()
        return await succeed(request, context)

    async with (
        serving(FakeParticipant(on_execute=slow)) as target,
        serving(FakeParticipant()) as quick,
        Directory({"bank": target, "quick": quick}, calls_max={"bank": 2}) as directory,
    ):
        calls = [asyncio.create_task(directory.call(call(participant="bank"))) for _ in range(3)]
        await arrived.acquire()
        await arrived.acquire()
        await until(lambda: directory.behind_s("bank") > 0)
        assert await directory.call(call(participant="quick")) == Done(output=OUTPUT)
        assert (directory.behind_s("quick"), directory.behind_s("nobody")) == (0, 0)
        bank, other = (each.traffic for each in directory.participants())
        assert (bank.calls_max, bank.calls_in_flight, bank.calls_waiting) == (2, 2, 1)
        assert bank.behind.ToNanoseconds() > 0
        assert (other.calls_max, other.calls_in_flight) == (limits.CALLS_PER_PARTICIPANT_MAX, 0)
        assert bank.breaker == BREAKER_STATE_CLOSED
        leave.set()
        assert await asyncio.gather(*calls) == [Done(output=OUTPUT)] * 3
        assert directory.behind_s("bank") == 0


async def test_a_participant_that_is_gone_is_probed_and_comes_back() -> None:
    port, fake = free_port(), FakeParticipant()
    async with Directory({"bank": f"127.0.0.1:{port}"}) as directory:
        for _ in range(limits.UNANSWERED_CALLS_MAX):
            assert isinstance(await directory.call(call(participant="bank")), Unknown)
        traffic = directory.participant("bank").traffic
        assert (traffic.breaker, traffic.unanswered_calls) == (BREAKER_STATE_OPEN, limits.UNANSWERED_CALLS_MAX)
        assert traffic.HasField("open_until")
        held = [asyncio.create_task(directory.call(call(participant="bank"))) for _ in range(3)]
        await until(lambda: directory.participant("bank").traffic.calls_held >= 2)
        async with serving(fake, port):
            await until(lambda: directory.participant("bank").state == PARTICIPANT_STATE_READY)
            replies = await asyncio.gather(*held)
            assert replies.count(Done(output=OUTPUT)) >= 2  # a probe may have gone out before it was back
            traffic = directory.participant("bank").traffic
            assert (traffic.breaker, traffic.unanswered_calls) == (BREAKER_STATE_CLOSED, 0)
            assert not traffic.HasField("open_until")
