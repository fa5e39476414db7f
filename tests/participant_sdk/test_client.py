"""The client against a small coordinator that does what a test says, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import CoordinatorClient, SagaError, client, unpack
from participant_sdk.errors import CallError
from participant_sdk.limits import RETRY_ATTEMPTS, WAIT_SLICE_MAX
from saga.v1 import coordinator_pb2 as pb
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, Completed, Rejected
from tests.participant_sdk.scripted_coordinator import Coordinator, serving, started, unavailable
from tests.participant_sdk.support import struct

LOST = CallError(grpc.StatusCode.UNAVAILABLE, "", "connection lost")


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
async def address(coordinator: Coordinator) -> AsyncIterator[str]:
    async with serving(coordinator) as served:
        yield served


@pytest.fixture(params=[True, False], ids=["lane", "unary"])
async def sagas(
    address: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[CoordinatorClient]:
    monkeypatch.setattr(client, "RETRY_WAIT_INITIAL", timedelta(milliseconds=1))
    async with CoordinatorClient(address, fast_lane=request.param) as connected:
        yield connected


def event(sequence: int) -> pb.WatchSagaResponse:
    return pb.WatchSagaResponse(event=SagaEvent(saga_id="s", sequence=sequence))


class TestStart:
    async def test_sends_what_was_asked(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [started]
        start_time = datetime(2030, 1, 1, tzinfo=UTC)
        saga = await sagas.start(
            "orders",
            StringValue(value="x"),
            saga_id="order-7",
            version=3,
            labels={"order": "7"},
            timeout=timedelta(minutes=5),
            start_time=start_time,
        )
        [request] = coordinator.requests
        assert saga.saga_id == request.saga_id == "order-7"
        assert (request.definition, request.version, dict(request.labels)) == ("orders", 3, {"order": "7"})
        assert unpack(request.input, StringValue) == StringValue(value="x")
        assert request.timeout.ToTimedelta() == timedelta(minutes=5)
        assert request.start_time.ToDatetime(tzinfo=UTC) == start_time

    async def test_g10_its_own_retries_carry_one_id(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [unavailable, unavailable, lambda _request: pb.StartSagaResponse()]
        await sagas.start("orders", StringValue())
        ids = {request.saga_id for request in coordinator.requests}
        assert (len(coordinator.requests), len(ids)) == (3, 1)
        assert "" not in ids
        [request] = coordinator.requests[:1]
        assert not request.HasField("timeout")
        assert not request.HasField("start_time")

    async def test_a_start_time_needs_a_time_zone(self, sagas: CoordinatorClient) -> None:
        with pytest.raises(ValueError, match="time zone"):
            await sagas.start("orders", StringValue(), start_time=datetime(2030, 1, 1))

    async def test_retries_are_bounded(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [unavailable] * 100
        with pytest.raises(SagaError) as error:
            await sagas.start("orders", StringValue())
        assert (error.value.code, error.value.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert len(coordinator.requests) == RETRY_ATTEMPTS

    async def test_only_unavailable_is_retried(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        def refuses(_request: Any) -> Any:
            raise CallError(grpc.StatusCode.ALREADY_EXISTS, "ERROR_REASON_SAGA_EXISTS", "another request")

        coordinator.script = [refuses]
        with pytest.raises(SagaError, match="SAGA_EXISTS: another request"):
            await sagas.start("orders", StringValue())
        assert len(coordinator.requests) == 1


class TestRun:
    async def test_a_saga_that_ends_within_the_first_call(
        self, coordinator: Coordinator, sagas: CoordinatorClient
    ) -> None:
        ended = pb.Saga(saga_id="s", state=SAGA_STATE_COMPENSATED)
        coordinator.script = [lambda _request: pb.StartSagaResponse(saga=ended)]
        waited = await sagas.run("orders", StringValue(value="x"), saga_id="s", labels={"order": "7"})
        assert waited == (ended, True)
        [request] = coordinator.requests
        assert (request.saga_id, request.definition, dict(request.labels)) == ("s", "orders", {"order": "7"})
        assert request.wait.ToTimedelta() == WAIT_SLICE_MAX

    async def test_a_saga_that_takes_longer_is_waited_for(
        self, coordinator: Coordinator, sagas: CoordinatorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "WAIT_SLICE_MAX", timedelta(seconds=7))
        ended = pb.WaitSagaResponse(saga=pb.Saga(state=SAGA_STATE_COMPLETED), ended=True)
        coordinator.script = [
            unavailable,
            started,
            unavailable,
            lambda _request: pb.WaitSagaResponse(),
            lambda _: ended,
        ]
        assert await sagas.run("orders", StringValue()) == (ended.saga, True)
        assert [request.wait.ToTimedelta() for request in coordinator.requests[:2]] == [timedelta(seconds=7)] * 2
        assert [request.timeout.ToTimedelta() for request in coordinator.requests[2:]] == [timedelta(seconds=7)] * 3
        assert len({request.saga_id for request in coordinator.requests}) == 1

    async def test_the_wait_is_bounded(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [started]
        waited = await sagas.run("orders", StringValue(), saga_id="s", wait=timedelta(0))
        assert (waited.saga.saga_id, waited.ended) == ("s", False)
        assert timedelta(0) < coordinator.requests[0].wait.ToTimedelta() < timedelta(seconds=1)

    async def test_an_answer_before_the_time_is_over_does_not_end_the_wait(
        self, coordinator: Coordinator, sagas: CoordinatorClient
    ) -> None:
        """A coordinator that stops answers who waits at once."""
        ended = pb.WaitSagaResponse(saga=pb.Saga(state=SAGA_STATE_COMPLETED), ended=True)
        coordinator.script = [started, unavailable, lambda _request: pb.WaitSagaResponse(), lambda _request: ended]
        assert await sagas.run("orders", StringValue(), wait=timedelta(seconds=30)) == (ended.saga, True)
        asked = [request.timeout.ToTimedelta() for request in coordinator.requests[1:]]
        assert timedelta(seconds=30) >= max(asked) >= min(asked) > timedelta(0)


class TestWait:
    async def test_waits_in_slices_until_the_end(
        self, coordinator: Coordinator, sagas: CoordinatorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "WAIT_SLICE_MAX", timedelta(seconds=7))
        ended = pb.WaitSagaResponse(saga=pb.Saga(state=SAGA_STATE_COMPLETED), ended=True)
        coordinator.script = [lambda _request: pb.WaitSagaResponse(), unavailable, lambda _request: ended]
        waited = await sagas.wait("s")
        assert (waited.saga.state, waited.ended) == (SAGA_STATE_COMPLETED, True)
        assert [request.timeout.ToTimedelta() for request in coordinator.requests] == [timedelta(seconds=7)] * 3

    async def test_gives_up_at_its_own_timeout(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [lambda _request: pb.WaitSagaResponse(saga=pb.Saga(saga_id="s"))]
        waited = await sagas.wait("s", timeout=timedelta(0))
        assert (waited.saga.saga_id, waited.ended) == ("s", False)
        assert timedelta(0) < coordinator.requests[0].timeout.ToTimedelta() <= timedelta(milliseconds=20)

    async def test_a_timeout_of_zero_looks_once(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [lambda _request: pb.WaitSagaResponse()]
        assert not (await sagas.wait("s", timeout=timedelta(0))).ended
        assert coordinator.requests[0].timeout.ToTimedelta() > timedelta(0)  # unset would mean 30 s


class TestWatch:
    async def test_takes_up_where_it_broke_without_repeating(
        self, coordinator: Coordinator, sagas: CoordinatorClient
    ) -> None:
        coordinator.script = [
            lambda _request: [event(3), event(4), LOST],
            unavailable,
            lambda _request: [event(4), event(5)],
        ]
        seen = [response.event.sequence async for response in sagas.watch("s", after_sequence=2)]
        assert seen == [3, 4, 5]
        assert [request.after_sequence for request in coordinator.requests] == [2, 4, 4]

    async def test_reconnects_are_bounded(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [unavailable] * 100
        with pytest.raises(SagaError):
            await anext(sagas.watch("s"))
        assert len(coordinator.requests) == RETRY_ATTEMPTS

    async def test_progress_renews_the_budget(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        one_each = [lambda _request, number=number: [event(number), LOST] for number in range(1, 20)]
        coordinator.script = [*one_each, lambda _request: [event(20)]]
        seen = [response.event.sequence async for response in sagas.watch("s")]
        assert seen == list(range(1, 21))

    async def test_a_stream_that_stood_for_a_while_renews_the_budget(
        self, coordinator: Coordinator, sagas: CoordinatorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_WAIT_MAX", timedelta(0))
        coordinator.script = [*[unavailable] * 20, lambda _request: [event(1)]]
        assert [response.event.sequence async for response in sagas.watch("s")] == [1]

    async def test_another_error_ends_it(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        def unknown(_request: Any) -> Any:
            raise CallError(grpc.StatusCode.NOT_FOUND, "ERROR_REASON_SAGA_NOT_FOUND", "no such saga")

        coordinator.script = [unknown]
        with pytest.raises(SagaError) as error:
            await anext(sagas.watch("s"))
        assert error.value.reason == "SAGA_NOT_FOUND"


class TestReading:
    async def test_get(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [lambda request: pb.GetSagaResponse(saga=pb.Saga(saga_id=request.saga_id))]
        assert (await sagas.get("s", pb.PAYLOAD_VIEW_NONE)).saga_id == "s"
        assert coordinator.requests[0].payloads == pb.PAYLOAD_VIEW_NONE

    async def test_list_goes_through_the_pages(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [
            lambda _request: pb.ListSagasResponse(sagas=[pb.Saga(saga_id="c")], next_page_token="t"),
            lambda _request: pb.ListSagasResponse(sagas=[pb.Saga(saga_id="b"), pb.Saga(saga_id="a")]),
        ]
        saga_filter = pb.SagaFilter(definition="orders")
        assert [saga.saga_id async for saga in sagas.list(saga_filter, page_size=2)] == ["c", "b", "a"]
        assert [(r.page_token, r.page_size, r.filter) for r in coordinator.requests] == [
            ("", 2, saga_filter),
            ("t", 2, saga_filter),
        ]

    async def test_list_without_a_filter_sends_none(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [lambda _request: pb.ListSagasResponse()]
        assert [saga async for saga in sagas.list()] == []
        assert not coordinator.requests[0].HasField("filter")

    async def test_events_go_through_the_pages(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [
            lambda _request: pb.ListSagaEventsResponse(events=[SagaEvent(sequence=6)], next_page_token="t"),
            lambda _request: pb.ListSagaEventsResponse(events=[SagaEvent(sequence=7)]),
        ]
        assert [found.sequence async for found in sagas.events("s", after_sequence=5)] == [6, 7]
        assert [(r.after_sequence, r.page_token) for r in coordinator.requests] == [(5, ""), (5, "t")]


class TestSteering:
    async def test_cancel(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [lambda _request: pb.CancelSagaResponse(saga=pb.Saga(saga_id="s"))]
        assert (await sagas.cancel("s", "changed my mind", actor="me", expected_sequence=4)).saga_id == "s"
        assert coordinator.requests == [
            pb.CancelSagaRequest(saga_id="s", reason="changed my mind", actor="me", expected_sequence=4)
        ]

    async def test_complete_step(self, coordinator: Coordinator, sagas: CoordinatorClient) -> None:
        coordinator.script = [lambda _request: pb.CompleteStepResponse()] * 3
        for outcome in (Completed(), Rejected(reason="NO"), pb.Failed(message="broke")):
            await sagas.complete_step("s", "reserve", "key", outcome)
        assert [request.WhichOneof("outcome") for request in coordinator.requests] == [
            "completed",
            "rejected",
            "failed",
        ]
        assert coordinator.requests[1].rejected.reason == "NO"


def test_unpack() -> None:
    payload = AnyMessage()
    with pytest.raises(TypeError, match=r"holds nothing, not google\.protobuf\.StringValue"):
        unpack(payload, StringValue)
    payload.Pack(struct())
    with pytest.raises(TypeError, match=r"holds google\.protobuf\.Struct"):
        unpack(payload, StringValue)
    payload.Pack(StringValue(value="x"))
    assert unpack(payload, StringValue).value == "x"


async def test_outside_async_with_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await CoordinatorClient("127.0.0.1:1").get("s")


async def test_a_coordinator_that_is_not_there(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setattr(client, "RETRY_WAIT_INITIAL", timedelta(milliseconds=1))
    async with CoordinatorClient(f"127.0.0.1:{unused_tcp_port}") as sagas, asyncio.timeout(60):
        with pytest.raises(SagaError) as error:
            await sagas.get("s")
    assert (error.value.code, error.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")


async def test_a_call_is_bounded(coordinator: Coordinator, address: str) -> None:
    coordinator.script = [lambda _request: asyncio.Event().wait()]
    async with CoordinatorClient(address, call_timeout=timedelta(milliseconds=50)) as sagas:
        with pytest.raises(SagaError) as error:
            await sagas.get("s")
    assert error.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


class TestReconnecting:
    async def test_a_coordinator_that_is_away_is_looked_for_again_and_again(self) -> None:
        """gRPC's own waits grow to two minutes: a coordinator that is back would not be noticed in time."""
        looked_for = asyncio.Semaphore(0)

        def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()
            looked_for.release()

        async with await asyncio.start_server(turn_away, "127.0.0.1", 0) as door:
            host, port = door.sockets[0].getsockname()
            async with CoordinatorClient(f"{host}:{port}") as sagas, asyncio.timeout(12):
                asking = asyncio.create_task(sagas.get("s"))
                for _ in range(6):  # the sixth would come after 12 s at the earliest
                    await looked_for.acquire()
                asking.cancel()
