"""The fast lane of starts: through the client, against a small coordinator on a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import CoordinatorClient, SagaError, client, lane
from participant_sdk.errors import CallError, Violation
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceServicer
from tests.participant_sdk.scripted_coordinator import Coordinator, serving, started
from tests.support.waiting import until


@asynccontextmanager
async def connected(coordinator: CoordinatorServiceServicer, **options: Any) -> AsyncIterator[CoordinatorClient]:
    async with serving(coordinator) as address, CoordinatorClient(address, **options) as sagas, asyncio.timeout(20):
        yield sagas


async def start(sagas: CoordinatorClient, saga_id: str, value: str = "") -> str:
    return (await sagas.start("orders", StringValue(value=value), saga_id=saga_id)).saga_id


async def test_what_piles_up_while_a_message_is_written_becomes_the_next() -> None:
    coordinator = Coordinator()
    coordinator.script = [started] * 100
    async with connected(coordinator) as sagas:
        ids = await asyncio.gather(*(start(sagas, f"s{number}") for number in range(100)))
        assert ids == [f"s{number}" for number in range(100)]
        assert coordinator.streams == 1
        assert len(coordinator.messages) < 50
        calls = [call for message in coordinator.messages for call in message.calls]
        assert [call.request.saga_id for call in calls] == ids
        assert len({call.id for call in calls}) == 100


async def test_messages_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "START_MESSAGE_BYTES", 250)
    coordinator = Coordinator()
    coordinator.script = [started] * 12
    async with connected(coordinator) as sagas:
        await asyncio.gather(*(start(sagas, f"s{number}", "x" * 100) for number in range(12)))
        assert all(len(message.calls) <= 2 for message in coordinator.messages)


async def test_answers_come_in_any_order_and_a_refusal_is_told_with_its_details() -> None:
    coordinator, slow = Coordinator(), asyncio.Event()

    async def late(request: Any) -> Any:
        await slow.wait()
        return started(request)

    def refuses(_request: Any) -> Any:
        violations = [Violation("input", "too long")]
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", "wrong", violations)

    coordinator.script = [late, refuses, started]
    async with connected(coordinator) as sagas:
        first = asyncio.create_task(start(sagas, "first"))
        await until(lambda: coordinator.requests)
        with pytest.raises(SagaError) as refused:
            await start(sagas, "second")
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert (refused.value.message, refused.value.violations) == ("wrong", (Violation("input", "too long"),))
        assert await start(sagas, "third") == "third"
        slow.set()
        assert await first == "first"
        assert coordinator.streams == 1


async def test_a_start_is_bounded_and_its_late_answer_disturbs_nobody() -> None:
    coordinator, slow = Coordinator(), asyncio.Event()

    async def late(request: Any) -> Any:
        await slow.wait()
        return started(request)

    coordinator.script = [late, started]
    async with connected(coordinator, call_timeout=timedelta(seconds=2)) as sagas:  # in which the next is answered
        with pytest.raises(SagaError) as error:
            await start(sagas, "late")
        assert error.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
        slow.set()
        assert await start(sagas, "next") == "next"
        assert coordinator.streams == 1


async def test_so_many_are_in_flight_and_those_that_wait_keep_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "STARTS_IN_FLIGHT_MAX", 2)
    coordinator, slow = Coordinator(), asyncio.Event()

    async def late(request: Any) -> Any:
        await slow.wait()
        return started(request)

    coordinator.script = [late] * 3
    async with connected(coordinator) as sagas:
        waits = [asyncio.create_task(sagas.run("orders", StringValue(), wait=timedelta(0))) for _ in range(3)]
        await until(lambda: len(coordinator.requests) == 2)
        coordinator.script.insert(0, started)
        assert await start(sagas, "now") == "now"
        assert len(coordinator.requests) == 3
        slow.set()
        await asyncio.gather(*waits)
        assert len(coordinator.requests) == 4


async def test_a_coordinator_without_the_lane_is_asked_one_by_one() -> None:
    class Older(Coordinator):
        StartSagas = CoordinatorServiceServicer.StartSagas  # UNIMPLEMENTED

    coordinator = Older()
    coordinator.script = [started] * 20
    async with connected(coordinator) as sagas:
        ids = await asyncio.gather(*(start(sagas, f"s{number}") for number in range(20)))
        assert ids == [f"s{number}" for number in range(20)]
        assert len(coordinator.requests) == 20


async def test_g10_a_lane_that_breaks_has_its_starts_made_anew_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LANE_PAUSE_INITIAL", timedelta(seconds=30))
    coordinator = Coordinator()
    coordinator.lane_fails = [grpc.StatusCode.INTERNAL]
    coordinator.script = [started] * 4
    async with connected(coordinator) as sagas:
        assert await start(sagas, "first") == "first"
        assert await start(sagas, "second") == "second"  # not over the lane: it has a pause
        assert coordinator.streams == 1
        assert sagas._lane is not None
        sagas._lane._paused_until = 0.0
        assert await start(sagas, "third") == "third"
        assert await start(sagas, "fourth") == "fourth"
        assert coordinator.streams == 2
        assert [len(message.calls) for message in coordinator.messages] == [1, 1, 1]


async def test_a_lane_that_breaks_again_and_again_is_tried_less_often() -> None:
    coordinator = Coordinator()
    coordinator.lane_fails = [grpc.StatusCode.UNAVAILABLE] * 8
    coordinator.script = [started] * 9
    async with connected(coordinator) as sagas:
        pauses, made = [], sagas._lane
        assert made is not None
        for number in range(8):
            await start(sagas, f"s{number}")
            pauses.append(made._pause_s)
            made._paused_until = 0.0
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
        await start(sagas, "over the lane")
        assert coordinator.streams == 9
        assert made._pause_s == 0


async def test_a_coordinator_that_is_away_for_a_moment_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_WAIT_INITIAL", timedelta(milliseconds=10))
    coordinator = Coordinator()
    coordinator.script = [started] * 2
    async with asyncio.timeout(20):
        async with serving(coordinator) as address:
            sagas = CoordinatorClient(address)
            await sagas.__aenter__()
            assert await start(sagas, "before") == "before"
        starting = asyncio.create_task(start(sagas, "after"))
        async with serving(coordinator, int(address.rpartition(":")[2])):
            assert await starting == "after"
            await sagas.__aexit__()


async def test_a_client_that_is_closed_leaves_nothing_open() -> None:
    coordinator = Coordinator()
    coordinator.script = [started]
    before = asyncio.all_tasks()
    async with connected(coordinator) as sagas:
        await start(sagas, "s")
        assert coordinator.streams == 1
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_client_that_is_closed_sends_away_who_waits() -> None:
    coordinator = Coordinator()
    coordinator.script = [lambda _request: asyncio.Event().wait()]
    async with connected(coordinator) as sagas:
        starting = asyncio.create_task(start(sagas, "s"))
        await until(lambda: coordinator.requests)
        await sagas.__aexit__()
        with pytest.raises(RuntimeError, match="async with"):
            await starting


async def test_a_program_that_is_cancelled_while_it_closes_its_client_is_cancelled() -> None:
    """A loop round `async with CoordinatorClient` would otherwise outlive its end."""
    closing, ended = lane.StartLane(), asyncio.Event()

    async def carries() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await ended.wait()

    closing._carrying = asyncio.create_task(carries())
    await asyncio.sleep(0)
    program = asyncio.create_task(closing.close())
    await asyncio.sleep(0)
    program.cancel()
    await asyncio.wait([program])
    assert program.cancelled()
    ended.set()
