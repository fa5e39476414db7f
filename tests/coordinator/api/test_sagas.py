"""CoordinatorService, over a real socket."""

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.api import paging, sagas
from coordinator.api.rpc import Caller, Gates
from coordinator.api.sagas import SagaService
from coordinator.core.limits import SECOND_NS
from saga.v1 import coordinator_pb2 as pb
from saga.v1.types_pb2 import (
    FAILURE_KIND_UNREADABLE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    SagaState,
)
from tests.coordinator.api.serving import Api, code_and_reason, failure, fields, outcome, serving
from tests.coordinator.engine.bench import (
    COMPENSATE,
    EXECUTE,
    REFUSED,
    accepted,
    brief,
    done,
    request,
    step,
    text,
)
from tests.support.waiting import until


async def _ended(api: Api, saga_id: str = "s") -> pb.Saga:
    response = await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id=saga_id))
    assert response.ended
    saga: pb.Saga = response.saga
    return saga


async def _pending(api: Api, saga_id: str = "s") -> None:
    await api.bench.register(step("a"))
    api.bench.participants.script("a", EXECUTE, accepted(3600))
    await api.sagas.StartSaga(request(saga_id))


# --- Start ------------------------------------------------------------------------------------------------------------


async def test_a_saga_is_started_shown_and_waited_for() -> None:
    async with serving() as api:
        await api.bench.register(step("a"), output="a")
        api.bench.participants.script("a", EXECUTE, done("by a"))
        response = await api.sagas.StartSaga(request(labels={"city": "Delft"}))
        assert response.created
        assert (response.saga.saga_id, response.saga.definition, response.saga.version) == ("s", "order", 1)
        saga = await _ended(api)
        assert saga.state == SAGA_STATE_COMPLETED
        assert (saga.input, saga.output) == (text("in"), text("by a"))
        assert saga.labels == {"city": "Delft"}
        assert (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga == saga


async def test_g10_a_repeated_start_is_answered_with_the_saga() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        responses = await asyncio.gather(*(api.sagas.StartSaga(request()) for _ in range(8)))
        assert sum(response.created for response in responses) == 1
        assert len({response.saga.uid for response in responses}) == 1
        again = await api.sagas.StartSaga(request(input=text("in", prefix="example.com/")))
        assert not again.created
        assert await outcome(api.sagas.StartSaga(request(version=1))) == ("ALREADY_EXISTS", "SAGA_EXISTS")


async def test_a_saga_without_an_id_is_given_one() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        saga = (await api.sagas.StartSaga(request(""))).saga
        assert saga.saga_id == saga.uid
        assert (await _ended(api, saga.uid)).state == SAGA_STATE_COMPLETED


async def test_g13_a_start_that_is_refused_leaves_nothing_behind() -> None:
    async with serving() as api:
        assert await outcome(api.sagas.StartSaga(request())) == ("NOT_FOUND", "DEFINITION_NOT_FOUND")
        await api.bench.register(step("a"))
        status = await failure(api.sagas.StartSaga(pb.StartSagaRequest(saga_id=" ", timeout=Duration())))
        assert fields(status) == ["saga_id", "definition", "input", "timeout"]
        status = await failure(api.sagas.StartSaga(request(input=text("in", prefix="x/not."))))
        assert fields(status) == ["input"]
        assert not (await api.sagas.ListSagas(pb.ListSagasRequest())).sagas


async def test_g14_a_start_that_was_made_is_answered_though_the_saga_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not look as if it had failed."""
    async with serving() as api:
        await api.bench.register(step("a"))
        monkeypatch.setattr(sagas, "ROOM_BYTES", 100)
        response = await api.sagas.StartSaga(request())
        assert response.created
        assert not response.saga.HasField("input")
        assert (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga.HasField("input")


async def test_a_delayed_start_is_shown() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        at = Timestamp(seconds=api.bench.clock.now_ns() // SECOND_NS + 3600)
        saga = (await api.sagas.StartSaga(request(start_time=at))).saga
        assert saga.start_time == at
        assert [wait.timer.reason for wait in saga.waits] == ["start"]
        too_far = Timestamp(seconds=at.seconds + 367 * 86_400)
        status = await failure(api.sagas.StartSaga(request("t", start_time=too_far)))
        assert fields(status) == ["start_time"]


async def test_a_journal_that_cannot_be_written_makes_a_start_unavailable() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.journal.fail_next()
        assert await outcome(api.sagas.StartSaga(request())) == ("UNAVAILABLE", "JOURNAL_UNAVAILABLE")
        assert (await api.sagas.StartSaga(request())).created


# --- Start and wait ---------------------------------------------------------------------------------------------------


async def test_a_start_that_waits_is_answered_when_the_saga_stands() -> None:
    async with serving() as api:
        await api.bench.register(step("a"), output="a")
        api.bench.participants.hold("a")
        starting = asyncio.ensure_future(api.sagas.StartSaga(request(wait=Duration(seconds=30))))
        await until(lambda: api.bench.changes._waits and api.bench.participants.calls)
        api.bench.participants.answer("a", done("by a"))
        response = await starting
        assert response.created
        assert response.saga == (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga
        assert response.saga.state == SAGA_STATE_COMPLETED
        again = await api.sagas.StartSaga(request(wait=Duration(seconds=5)))
        assert (again.created, again.saga) == (False, response.saga)


async def test_a_start_whose_wait_is_over_is_answered_with_the_saga_as_it_stands() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.script("a", EXECUTE, accepted(3600))
        for wait, timeout in ((Duration(), None), (Duration(nanos=1_000_000), None), (Duration(seconds=600), 0.4)):
            response = await api.sagas.StartSaga(request(wait=wait), timeout=timeout)
            assert response.saga.state == SAGA_STATE_RUNNING
        assert not response.created
        api.bench.participants.script("a", COMPENSATE, REFUSED)
        await api.sagas.CancelSaga(pb.CancelSagaRequest(saga_id="s"))
        response = await api.sagas.StartSaga(request(wait=Duration(seconds=30)))
        assert response.saga.state == SAGA_STATE_FAILED


async def test_a_start_that_waits_is_not_failed_by_a_coordinator_that_stops() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.script("a", EXECUTE, accepted(3600))
        starting = asyncio.ensure_future(api.sagas.StartSaga(request(wait=Duration(seconds=30))))
        await until(lambda: api.bench.changes._waits and api.bench.participants.calls)
        assert await api.bench.engine.drain(5)
        response = await starting
        assert (response.created, response.saga.state) == (True, SAGA_STATE_RUNNING)


async def test_rule_11_a_start_that_waits_is_not_failed_by_a_saga_that_is_set_aside() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.hold("a")
        starting = asyncio.ensure_future(api.sagas.StartSaga(request(wait=Duration(seconds=30))))
        await until(lambda: api.bench.changes._waits and api.bench.participants.calls)
        api.bench.journal.fail_next()
        api.bench.journal.damage("s", 2, b"\xff")  # found when it is read back
        api.bench.participants.answer("a", done())
        response = await starting
        assert response.created
        assert response.saga.failure.kind == FAILURE_KIND_UNREADABLE


async def test_a_saga_too_large_for_an_answer_is_waited_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        monkeypatch.setattr(sagas, "ROOM_BYTES", 300)
        response = await api.sagas.StartSaga(request(value="x" * 100, wait=Duration(seconds=30)))
        assert response.saga.state == SAGA_STATE_COMPLETED
        assert not response.saga.HasField("input")


# --- Get and wait -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [pb.PAYLOAD_VIEW_UNSPECIFIED, pb.PAYLOAD_VIEW_FULL, pb.PAYLOAD_VIEW_NONE])
async def test_payloads_are_left_out_where_they_are_not_wanted(view: pb.PayloadView.ValueType) -> None:
    async with serving() as api:
        await api.bench.register(step("a"), output="a")
        await api.sagas.StartSaga(request(value="secret"))
        full = view != pb.PAYLOAD_VIEW_NONE
        waited = (await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s", payloads=view))).saga
        got = (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s", payloads=view))).saga
        assert waited == got
        assert got.HasField("input") == got.HasField("output") == got.steps[0].HasField("input") == full
        events = await api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="s", payloads=view))
        watched = [r.event async for r in api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s", payloads=view))]
        assert watched == list(events.events)
        assert ("secret" in str(watched)) == full


async def test_a_saga_that_nobody_knows_is_not_found() -> None:
    async with serving() as api:
        for call in (
            api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s")),
            api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s")),
            api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="s")),
            api.sagas.CancelSaga(pb.CancelSagaRequest(saga_id="s")),
            _watched(api),
        ):
            assert await outcome(call) == ("NOT_FOUND", "SAGA_NOT_FOUND")


async def test_g13_requests_that_name_no_saga_are_refused() -> None:
    async with serving() as api:
        for call in (
            api.sagas.GetSaga(pb.GetSagaRequest()),
            api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(page_size=-1, after_sequence=-1)),
            api.sagas.WaitSaga(pb.WaitSagaRequest(timeout=Duration(seconds=601))),
            api.sagas.CancelSaga(pb.CancelSagaRequest(actor="x" * 257)),
            _watched(api, "", after_sequence=-1),
        ):
            status = await failure(call)
            assert code_and_reason(status) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            assert fields(status)[0] == "saga_id"


async def test_a_wait_is_over_when_its_time_is() -> None:
    async with serving() as api:
        await _pending(api)
        for timeout in (Duration(), Duration(nanos=1_000_000)):
            response = await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s", timeout=timeout))
            assert not response.ended
            assert response.saga.state == SAGA_STATE_RUNNING
        api.bench.participants.script("a", COMPENSATE, REFUSED)
        await api.sagas.CancelSaga(pb.CancelSagaRequest(saga_id="s"))
        response = await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s", timeout=Duration(seconds=30)))
        assert response.ended
        assert response.saga.state == SAGA_STATE_FAILED


async def test_rule_11_a_saga_that_was_set_aside_is_shown_as_lists_show_it() -> None:
    async with serving() as api:
        await _pending(api)
        await api.bench.journal.quarantine("s", "garbage on the disk")
        await api.bench.engine.close()
        shown = (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga
        assert (shown.state, shown.needs_attention) == (SAGA_STATE_FAILED, True)
        assert (shown.failure.kind, shown.failure.message) == (FAILURE_KIND_UNREADABLE, "garbage on the disk")
        assert not shown.steps
        assert (await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s"))).ended
        assert await outcome(api.sagas.StartSaga(request())) == ("FAILED_PRECONDITION", "SAGA_UNREADABLE")


async def test_a_saga_that_cannot_be_read_and_was_not_set_aside_is_unreadable() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        await api.sagas.StartSaga(request())
        await _ended(api)
        api.bench.journal.damage("s", 2, b"\xff")
        for call in (api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s")), _watched(api)):
            assert await outcome(call) == ("FAILED_PRECONDITION", "SAGA_UNREADABLE")


# --- Watch ------------------------------------------------------------------------------------------------------------


async def _watched(api: Api, saga_id: str = "s", after_sequence: int = 0) -> list[str]:
    asked = pb.WatchSagaRequest(saga_id=saga_id, after_sequence=after_sequence)
    return [brief(response.event) async for response in api.sagas.WatchSaga(asked)]


async def test_a_watch_follows_a_saga_to_its_end() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.hold("a")
        await api.sagas.StartSaga(request())
        watching = asyncio.create_task(_watched(api))
        await until(lambda: api.bench.changes._followers and api.bench.participants.calls)
        api.bench.participants.answer("a", done())
        seen = await watching
        assert seen == await api.bench.journaled()
        assert await _watched(api, after_sequence=4) == seen[4:]


async def test_a_watch_that_is_closed_leaves_nothing_behind_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as api:
        await _pending(api)
        service = SagaService(api.bench.engine, api.bench.journal, api.bench.clock, Gates())
        opened = []
        engine_watch = api.bench.engine.watch

        def watch_and_keep(saga_id: str, after: int) -> Any:
            opened.append(engine_watch(saga_id, after))  # kept, so that no garbage collector closes it
            return opened[0]

        monkeypatch.setattr(api.bench.engine, "watch", watch_and_keep)
        watch = service.WatchSaga(pb.WatchSagaRequest(saga_id="s"), Caller(lambda: None))
        await anext(watch)
        assert list(api.bench.changes._followers) == ["s"]
        await watch.aclose()
        assert api.bench.changes._followers == {}


async def test_a_watch_says_where_the_saga_stands_after_each_event() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        await api.sagas.StartSaga(request())
        watch = api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"))
        states = [response.state async for response in watch]
        assert states == [SAGA_STATE_PENDING, *[SAGA_STATE_RUNNING] * 4, SAGA_STATE_COMPLETED]


# --- Lists ------------------------------------------------------------------------------------------------------------


async def _walk(
    api: Api,
    size: int,
    wanted: pb.SagaFilter | None = None,
    order: pb.SagaOrder.ValueType = pb.SAGA_ORDER_UNSPECIFIED,
) -> tuple[list[str], int]:
    listed: list[str] = []
    page_token, pages = "", 0
    while page_token or not pages:
        asked = pb.ListSagasRequest(page_size=size, page_token=page_token, filter=wanted, order=order)
        response = await api.sagas.ListSagas(asked)
        listed += [saga.saga_id for saga in response.sagas]
        page_token, pages = response.next_page_token, pages + 1
    return listed, pages


async def _seven_sagas(api: Api) -> list[str]:
    """Newest first; the even ones are labelled."""
    await api.bench.register(step("a"))
    for number in range(7):
        await api.sagas.StartSaga(request(str(number), labels={} if number % 2 else {"even": "yes"}))
        await _ended(api, str(number))
    return ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize(("size", "pages"), [(0, 1), (1, 7), (3, 3), (7, 1), (2_000_000_000, 1)])
async def test_all_sagas_are_listed_page_by_page(size: int, pages: int) -> None:
    async with serving() as api:
        sagas = await _seven_sagas(api)
        assert await _walk(api, size) == (sagas, pages)


async def test_sagas_are_listed_in_the_order_asked_for() -> None:
    async with serving() as api:
        sagas = await _seven_sagas(api)
        assert await _walk(api, 3, order=pb.SAGA_ORDER_NEWEST_FIRST) == (sagas, 3)
        assert await _walk(api, 3, order=pb.SAGA_ORDER_OLDEST_FIRST) == (sagas[::-1], 3)


async def test_not_to_say_an_order_is_to_ask_for_the_newest_first() -> None:
    async with serving() as api:
        sagas = await _seven_sagas(api)
        first = await api.sagas.ListSagas(pb.ListSagasRequest(page_size=3))
        rest = pb.ListSagasRequest(page_token=first.next_page_token, order=pb.SAGA_ORDER_NEWEST_FIRST)
        assert [saga.saga_id for saga in (await api.sagas.ListSagas(rest)).sagas] == sagas[3:]


async def test_sagas_are_listed_as_the_filter_says_and_without_payloads() -> None:
    async with serving() as api:
        await _seven_sagas(api)
        even = pb.SagaFilter(labels={"even": "yes"}, states=[SAGA_STATE_COMPLETED])
        assert await _walk(api, 3, even) == (["6", "4", "2", "0"], 2)
        assert await _walk(api, 3, pb.SagaFilter(states=[SAGA_STATE_FAILED])) == ([], 1)
        shown = (await api.sagas.ListSagas(pb.ListSagasRequest(page_size=1))).sagas[0]
        full = (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="6", payloads=pb.PAYLOAD_VIEW_NONE))).saga
        del full.steps[:]
        full.ClearField("past_point_of_no_return")
        assert shown == full


async def test_g14_a_page_of_sagas_that_would_not_fit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as api:
        sagas = await _seven_sagas(api)
        monkeypatch.setattr(paging, "ROOM_BYTES", 400)
        listed, pages = await _walk(api, 0)
        assert listed == sagas
        assert 1 < pages <= 7


@pytest.mark.parametrize("room_bytes", [None, 80])
@pytest.mark.parametrize("size", [0, 1, 2, 6, 1000])
async def test_events_are_listed_page_by_page(
    size: int, room_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        await api.sagas.StartSaga(request())
        await _ended(api)
        if room_bytes:
            monkeypatch.setattr(paging, "ROOM_BYTES", room_bytes)
        listed: list[str] = []
        page_token, pages = "", 0
        while page_token or not pages:
            response = await api.sagas.ListSagaEvents(
                pb.ListSagaEventsRequest(saga_id="s", page_size=size, page_token=page_token, after_sequence=1)
            )
            listed += map(brief, response.events)
            page_token, pages = response.next_page_token, pages + 1
        assert listed == (await api.bench.journaled())[1:]
        if not room_bytes:
            assert pages == -(-5 // (size or 100))
        elif size != 1:
            assert 2 < pages <= 5  # one event or two fit


async def test_bad_pages_are_refused() -> None:
    async with serving() as api:
        await _seven_sagas(api)
        page = (await api.sagas.ListSagas(pb.ListSagasRequest(page_size=1))).next_page_token
        events = (await api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="1", page_size=1))).next_page_token
        foreign = pb.SagaFilter(definition="order")
        for call in (
            api.sagas.ListSagas(pb.ListSagasRequest(page_token="x")),
            api.sagas.ListSagas(pb.ListSagasRequest(page_token=page, filter=foreign)),
            api.sagas.ListSagas(pb.ListSagasRequest(page_token=page, order=pb.SAGA_ORDER_OLDEST_FIRST)),
            api.sagas.ListSagas(pb.ListSagasRequest(order=pb.SagaOrder.ValueType(3))),
            api.sagas.ListSagas(pb.ListSagasRequest(page_token=events)),
            api.sagas.ListSagas(pb.ListSagasRequest(page_size=-1)),
            api.sagas.ListSagas(pb.ListSagasRequest(filter=pb.SagaFilter(states=[SagaState.ValueType(77)]))),
            api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="2", page_token=events)),
            api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="1", page_token=page)),
        ):
            assert await outcome(call) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


# --- Cancel -----------------------------------------------------------------------------------------------------------


async def test_a_cancel_turns_the_saga_back() -> None:
    async with serving() as api:
        await _pending(api)
        api.bench.participants.hold("a", COMPENSATE)
        asked = pb.CancelSagaRequest(saga_id="s", reason="changed my mind", actor="alice")
        saga = (await api.sagas.CancelSaga(asked)).saga
        assert (saga.state, saga.failure.message) == (SAGA_STATE_COMPENSATING, "changed my mind")
        await until(lambda: len(api.bench.participants.calls) == 2)
        assert (await api.sagas.CancelSaga(asked)).saga.last_sequence == saga.last_sequence
        api.bench.participants.answer("a", done(), COMPENSATE)
        assert (await _ended(api)).state == SAGA_STATE_COMPENSATED
        events = (await api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="s"))).events
        assert [event.actor for event in events if event.HasField("compensation_started")] == ["alice"]


async def test_a_cancel_that_the_state_forbids_or_that_comes_too_late_is_refused() -> None:
    async with serving() as api:
        await _pending(api)
        late = pb.CancelSagaRequest(saga_id="s", expected_sequence=1)
        assert await outcome(api.sagas.CancelSaga(late)) == ("ABORTED", "SEQUENCE_MISMATCH")
        api.bench.participants.script("a", EXECUTE, done())
        await api.sagas.StartSaga(request("t"))
        await _ended(api, "t")
        over = pb.CancelSagaRequest(saga_id="t")
        assert await outcome(api.sagas.CancelSaga(over)) == ("FAILED_PRECONDITION", "STATE_FORBIDS")


async def test_a_cancel_whose_append_fails_is_unavailable() -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        api.bench.participants.hold("a")
        await api.sagas.StartSaga(request())
        await until(lambda: api.bench.participants.calls)
        api.bench.journal.fail_next()
        call = api.sagas.CancelSaga(pb.CancelSagaRequest(saga_id="s"))
        assert await outcome(call) == ("UNAVAILABLE", "JOURNAL_UNAVAILABLE")
