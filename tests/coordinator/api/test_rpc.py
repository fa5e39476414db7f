"""Between gRPC and the services, over a real socket."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1.health_pb2 import HealthCheckRequest

from coordinator.api.rpc import Gate, Gates, handler_of
from coordinator.core import limits
from coordinator.engine.errors import OverLimit
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import definition_pb2, participant_pb2
from saga.v1.types_pb2 import SAGA_STATE_RUNNING
from tests.coordinator.api.serving import Api, code_and_reason, detail, failure, kinds, outcome, serving
from tests.coordinator.engine.bench import EXECUTE, accepted, request, step
from tests.support.logs import logged
from tests.support.passing_time import HOUR, let_pass
from tests.support.waiting import until

CONTRACT = (pb, definition_pb2, participant_pb2)
SERVICES = [service for module in CONTRACT for service in module.DESCRIPTOR.services_by_name.values()]
METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
LATER = {"Exchange"}  # the fast lane
SERVED = {path: method for path, method in METHODS.items() if method.name not in LATER}


async def one(path: str, method: MethodDescriptor, api: Api, body: bytes) -> None:
    """Call with bytes, whatever kind of method it is, and take all answers."""
    if method.client_streaming:

        async def bodies() -> AsyncIterator[bytes]:
            yield body

        call: Any = api.channel.stream_stream(path)
        async for _ in call(bodies()):
            pass
    elif method.server_streaming:
        async for _ in api.raw(path, stream=True)(body):
            pass
    else:
        await api.raw(path)(body)


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# --- Names ------------------------------------------------------------------------------------------------------------


def test_the_contract_has_the_methods_that_these_tests_speak_of() -> None:
    assert {service.name for service in SERVICES} == {
        "CoordinatorService",
        "ParticipantDirectoryService",
        "DefinitionService",
        "ParticipantService",
    }
    assert {method.name for method in METHODS.values()} >= LATER
    assert len(METHODS) - len(SERVED) == len(LATER)


async def test_every_method_is_served_under_its_name() -> None:
    async with serving() as api:
        for path, method in SERVED.items():
            code = await code_of(one(path, method, api, b""))
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), path


async def test_methods_of_later_issues_say_that_they_are_not_supported() -> None:
    async with serving() as api:
        for path, method in METHODS.items():
            if method.name in LATER:
                status = await failure(one(path, method, api, b""))
                assert code_and_reason(status) == ("UNIMPLEMENTED", "UNSUPPORTED"), path
                assert method.name in status.message


async def test_a_method_that_nobody_knows_is_grpcs_to_refuse() -> None:
    async with serving() as api:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await api.raw("/saga.v1.CoordinatorService/Frobnicate")(b"")
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- Bytes ------------------------------------------------------------------------------------------------------------


def _bad_utf8(method: MethodDescriptor) -> bytes | None:
    if method.client_streaming:  # no text stands in the outermost message
        return None
    for field in method.input_type.fields:
        if field.type == field.TYPE_STRING:
            return bytes([field.number << 3 | 2]) + b"\x02\xc3\x28"
    return None


async def test_g13_bytes_that_do_not_decode_are_an_invalid_argument() -> None:
    async with serving() as api:
        for path, method in SERVED.items():
            for body in (b"\xff\xff\xff", b"\x0a\x05ab", _bad_utf8(method)):
                if body is not None and (body[0] != 0x0A or method.input_type.fields):
                    status = await failure(one(path, method, api, body))
                    assert code_and_reason(status) == ("INVALID_ARGUMENT", "INVALID_REQUEST"), (path, body)
                    assert method.input_type.full_name in status.message


async def test_g14_a_request_that_is_too_large_is_refused_and_the_server_goes_on() -> None:
    async with serving() as api:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await api.raw("/saga.v1.CoordinatorService/GetSaga")(b"\x00" * (limits.MESSAGE_BYTES_MAX + 1))
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await outcome(api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))) == ("NOT_FOUND", "SAGA_NOT_FOUND")


async def test_g14_an_answer_that_is_too_large_is_told_instead_of_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as api:
        await api.bench.register(step("a"))
        await api.sagas.StartSaga(request(value="x" * 100))
        await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s"))
        monkeypatch.setattr(limits, "MESSAGE_BYTES_MAX", 500)
        status = await failure(api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s")))
        assert code_and_reason(status) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
        assert "PAYLOAD_VIEW_NONE" in status.message


# --- Exceptions -------------------------------------------------------------------------------------------------------


async def test_what_nobody_foresaw_is_internal_and_its_text_stays_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as api:

        async def explode(*_: object) -> object:
            raise RuntimeError("the password is 1234")

        async def explode_later(*_: object) -> AsyncIterator[object]:
            yield await explode()

        monkeypatch.setattr(api.bench.engine, "read", explode)
        monkeypatch.setattr(api.bench.engine, "watch", explode_later)
        status = await failure(api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s")))
        assert code_and_reason(status) == ("INTERNAL", "INTERNAL")
        assert "password" not in str(status)
        assert "the password is 1234" in caplog.text
        status = await failure(_drained(api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"))))
        assert code_and_reason(status) == ("INTERNAL", "INTERNAL")
        assert "password" not in str(status)


# --- Calls that are ended ---------------------------------------------------------------------------------------------


async def _drained(watch: AsyncIterator[pb.WatchSagaResponse]) -> list[pb.WatchSagaResponse]:
    return [response async for response in watch]


async def _nobody_follows(api: Api) -> None:
    await until(lambda: not (api.bench.changes._followers or api.bench.changes._waits))


async def _both_follow(api: Api) -> None:
    await until(lambda: api.bench.changes._followers.get("s") and api.bench.changes._waits.get("s"))


async def _pending_saga(api: Api) -> None:
    await api.bench.register(step("a"))
    api.bench.participants.script("a", EXECUTE, accepted(3600))
    await api.sagas.StartSaga(request())


async def test_a_client_that_goes_away_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    gates = Gates()
    async with serving(gates=gates) as api:
        await _pending_saga(api)
        watch = api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"))
        assert (await anext(aiter(watch))).event.sequence == 1
        wait = api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s"))
        await _both_follow(api)
        watch.cancel()
        wait.cancel()
        await _nobody_follows(api)
        assert gates.long._inside == 0
        assert (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga.saga_id == "s"
        assert logged(caplog) == []


async def test_a_call_whose_deadline_passes_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as api:
        await _pending_saga(api)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await _drained(api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"), timeout=0.2))
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await _nobody_follows(api)
        assert (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga.saga_id == "s"
        assert logged(caplog) == []


async def test_a_stream_that_is_cancelled_while_it_writes_is_closed_before_the_call_ends() -> None:
    happened: list[str] = []
    responses: list[AsyncGenerator[pb.WatchSagaResponse, None]] = []

    class Service:
        def WatchSaga(self, *_: object) -> AsyncGenerator[pb.WatchSagaResponse, None]:  # noqa: N802  gRPC's name
            responses.append(self._responses())  # kept, so that no garbage collector closes it
            return responses[0]

        async def _responses(self) -> AsyncGenerator[pb.WatchSagaResponse, None]:
            try:
                yield pb.WatchSagaResponse()
            finally:
                happened.append("closed")

    writing = asyncio.Event()

    class Context:
        def time_remaining(self) -> None:
            return None

        async def write(self, _: bytes) -> None:
            writing.set()
            await asyncio.Event().wait()  # the client does not read

        async def abort(self, *_: object) -> None:
            happened.append("aborted")

    class Details:
        method = "/saga.v1.CoordinatorService/WatchSaga"
        invocation_metadata = ()

    details: Any = Details()
    handler: Any = handler_of(SERVICES[0], Service(), Gates()).service(details)
    call = asyncio.create_task(handler.unary_stream(b"", Context()))
    await writing.wait()
    call.cancel()
    await call
    assert happened == ["closed", "aborted"]


async def test_a_start_whose_caller_goes_away_is_carried_through() -> None:
    gates = Gates()
    async with serving(gates=gates) as api:
        await api.bench.register(step("a"))
        api.bench.journal.hold()
        starting = api.sagas.StartSaga(request())
        await until(lambda: api.bench.engine.unfinished)
        starting.cancel()
        await until(lambda: gates.short._inside == 0)
        api.bench.journal.release()
        await until(lambda: api.bench.participants.calls)
        assert (await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s"))).ended


async def _wait_and_watch(api: Api) -> list[asyncio.Future[object]]:
    """A WaitSaga and a WatchSaga, both under way."""
    watching = asyncio.ensure_future(_drained(api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"))))
    waiting = asyncio.ensure_future(api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s")))
    await _both_follow(api)
    return [waiting, watching]


async def test_clients_are_told_when_the_server_stops() -> None:
    """A status comes, also for a call without a deadline."""
    async with serving() as api:
        await _pending_saga(api)
        calls = await _wait_and_watch(api)
        await api.server.stop(0)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_drain_answers_those_who_wait() -> None:
    async with serving() as api:
        await _pending_saga(api)
        calls = await _wait_and_watch(api)
        assert await api.bench.engine.drain(5)
        for following in calls:
            status = await failure(following)
            assert code_and_reason(status) == ("UNAVAILABLE", "SHUTTING_DOWN")
            assert set(kinds(status)) == {"RetryInfo"}


# --- Gates ------------------------------------------------------------------------------------------------------------


def small_gates(short: int, long: int) -> Gates:
    gates = Gates()
    gates.short, gates.long = Gate("calls", short), Gate("waits and watches", long)
    return gates


async def test_g14_so_many_waits_and_watches_are_taken_and_they_keep_no_short_call_out() -> None:
    async with serving(gates=small_gates(1, 1)) as api:
        await _pending_saga(api)
        watch = api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"))
        await anext(aiter(watch))
        for refused in (
            api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s")),
            _drained(api.sagas.WatchSaga(pb.WatchSagaRequest(saga_id="s"))),
        ):
            status = await failure(refused)
            assert code_and_reason(status) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
            assert detail(status, RetryInfo).retry_delay.seconds == 1
        assert (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga.saga_id == "s"
        watch.cancel()
        await _nobody_follows(api)
        assert not (await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s", timeout=Duration(nanos=1)))).ended


async def test_g14_so_many_short_calls_are_taken_and_health_is_still_answered() -> None:
    async with serving(gates=small_gates(1, 1)) as api:
        await api.bench.register(step("a"))
        api.bench.journal.hold()
        starting = asyncio.ensure_future(api.sagas.StartSaga(request()))
        await until(lambda: api.bench.engine.unfinished)
        assert await outcome(api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
        await api.health.Check(HealthCheckRequest())
        api.bench.journal.release()
        assert (await starting).created


async def test_g14_a_start_that_waits_is_a_wait() -> None:
    async with serving(gates=small_gates(1, 1)) as api:
        await _pending_saga(api)
        waiting = asyncio.ensure_future(api.sagas.StartSaga(request(wait=Duration(seconds=30))))
        await until(lambda: api.bench.changes._waits)
        for refused in (
            api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s")),
            _drained(api.sagas.StartSagas(iter([]))),
        ):
            assert await outcome(refused) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
        assert not (await api.sagas.StartSaga(request())).created
        at_once = await api.sagas.StartSaga(request("t", wait=Duration(seconds=30)))  # where no more can wait
        assert (at_once.created, at_once.saga.state) == (True, SAGA_STATE_RUNNING)
        waiting.cancel()
        await _nobody_follows(api)


def test_a_gate_counts_those_inside() -> None:
    gate = Gate("guests", 2)
    with gate.enter(), gate.enter(), pytest.raises(OverLimit, match="2 guests"), gate.enter():
        pass
    with pytest.raises(ValueError, match="left"), gate.enter():
        raise ValueError("left")
    with gate.enter(), gate.enter():
        pass


# --- What a method knows of its call ----------------------------------------------------------------------------------


async def test_a_wait_is_answered_before_the_calls_own_deadline() -> None:
    async with serving() as api:
        await _pending_saga(api)
        waiting = asyncio.ensure_future(
            api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s"), timeout=HOUR.total_seconds())
        )
        await until(lambda: api.bench.changes._waits.get("s"))
        let_pass(HOUR)
        response = await waiting
        assert not response.ended
        assert response.saga.saga_id == "s"
