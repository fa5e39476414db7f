"""A whole coordinator: put together, run, and taken down in good order."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as Payload
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from coordinator import app
from coordinator.app import StartupError, running, serve
from coordinator.config import Settings
from coordinator.core import limits
from coordinator.core.instants import to_timestamp
from coordinator.engine.engine import Engine
from coordinator.journal.memory import MemoryJournal
from coordinator.logs import JsonFormatter, TextFormatter
from saga.v1 import coordinator_pb2 as pb
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from saga.v1.definition_pb2 import RegisterDefinitionRequest, SagaDefinition, StepDefinition
from saga.v1.definition_pb2_grpc import DefinitionServiceStub
from saga.v1.participant_pb2 import ExecuteRequest, ExecuteResponse
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING
from tests.coordinator.participants import fakes
from tests.coordinator.participants.fakes import RESERVE, FakeParticipant, free_port
from tests.support.waiting import until

SECRET = b"card-4242-4242"
INPUT = Payload(type_url=f"type.googleapis.com/{RESERVE}", value=b"\n" + bytes([len(SECRET)]) + SECRET)
DEFINITION = SagaDefinition(
    name="order",
    input_type=RESERVE,
    steps=[StepDefinition(name="reserve", participant="shop", action="Reserve", input="input")],
)


class Client:
    """Stubs for a coordinator."""

    def __init__(self, channel: Any) -> None:  # Any: the stubs are annotated for the synchronous API
        self.sagas: Any = CoordinatorServiceStub(channel)
        self.definitions: Any = DefinitionServiceStub(channel)
        self.health: Any = HealthStub(channel)

    async def register(self) -> None:
        await self.definitions.RegisterDefinition(RegisterDefinitionRequest(definition=DEFINITION))

    async def start(self, saga_id: str = "s", start_time: Timestamp | None = None) -> None:
        request = pb.StartSagaRequest(saga_id=saga_id, definition="order", input=INPUT, start_time=start_time)
        await self.sagas.StartSaga(request)

    async def ended(self, saga_id: str = "s") -> pb.Saga:
        response = await self.sagas.WaitSaga(pb.WaitSagaRequest(saga_id=saga_id))
        assert response.ended
        saga: pb.Saga = response.saga
        return saga


@asynccontextmanager
async def client_of(address: str) -> AsyncGenerator[Client, None]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(channel)


def settings(path: Path, target: str = "127.0.0.1:1", **fields: Any) -> Settings:
    usual: dict[str, Any] = {"listen": "127.0.0.1:0", "journal": path / "saga.db", "participants": {"shop": target}}
    return Settings(**usual | fields)


@pytest.fixture
async def shop() -> AsyncGenerator[tuple[FakeParticipant, str], None]:
    fake = FakeParticipant()
    async with fakes.serving(fake) as target:
        yield fake, target


def held(until_set: asyncio.Event) -> fakes.Execute:
    async def execute(request: ExecuteRequest, context: fakes.Context) -> ExecuteResponse:
        await until_set.wait()
        return await fakes.succeed(request, context)

    return execute


# --- Running ----------------------------------------------------------------------------------------------------------


async def test_a_saga_is_driven_to_its_end(tmp_path: Path, shop: tuple[FakeParticipant, str]) -> None:
    async with running(settings(tmp_path, shop[1])) as address, client_of(address) as client:
        await client.register()
        await client.start()
        assert (await client.ended()).state == SAGA_STATE_COMPLETED
    assert len(shop[0].executes) == 1


async def test_g3_what_a_coordinator_leaves_unfinished_the_next_one_takes_up(
    tmp_path: Path, shop: tuple[FakeParticipant, str]
) -> None:
    fake, target = shop
    fake.on_execute = held(asyncio.Event())
    async with running(settings(tmp_path, target, drain_seconds=0)) as address, client_of(address) as client:
        await client.register()
        await client.start()
        await until(lambda: fake.executes)
    fake.on_execute = fakes.succeed
    async with running(settings(tmp_path, target)) as address, client_of(address) as client:
        saga = await client.ended()  # nobody asked for it: it was taken up
        assert saga.state == SAGA_STATE_COMPLETED
        assert [request.context.attempt for request in fake.executes] == [1, 2]
        assert len({request.context.idempotency_key for request in fake.executes}) == 1  # G2


async def test_g14_a_participant_takes_as_many_calls_as_the_settings_say_and_is_known_to_be_behind(
    tmp_path: Path, shop: tuple[FakeParticipant, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, target = shop
    leave = asyncio.Event()
    fake.on_execute = held(leave)
    monkeypatch.setattr(limits, "BEHIND_MAX_NS", 0)
    bounded = settings(tmp_path, participants={"shop": {"target": target, "calls_max": 1}})
    async with running(bounded) as address, client_of(address) as client:
        await client.register()
        await client.start("in-flight")
        await until(lambda: fake.executes)
        await client.start("waits")
        with pytest.raises(grpc.aio.AioRpcError, match="calls to `shop` have waited"):
            await _start_many(client)  # until the second one's call has come to wait
        leave.set()
        for saga_id in ("in-flight", "waits"):
            assert (await client.ended(saga_id)).state == SAGA_STATE_COMPLETED


async def _start_many(client: Client) -> None:
    for number in range(1000):
        await client.start(f"late-{number}")


async def test_two_coordinators_live_side_by_side_and_leave_nothing_behind(
    tmp_path: Path, shop: tuple[FakeParticipant, str]
) -> None:
    before = asyncio.all_tasks()
    (tmp_path / "other").mkdir()
    async with (
        running(settings(tmp_path, shop[1])) as one,
        running(settings(tmp_path / "other", shop[1])) as other,
    ):
        for address in (one, other):
            async with client_of(address) as client:
                await client.register()
                await client.start()
                await client.ended()
    assert asyncio.all_tasks() == before


async def test_a_participant_that_is_down_keeps_nobody_from_starting_and_may_come_up_later(tmp_path: Path) -> None:
    port = free_port()
    async with running(settings(tmp_path, f"127.0.0.1:{port}")) as address, client_of(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.register()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        fake = FakeParticipant()
        async with fakes.serving(fake, port):
            await _repeat(client.register)
            await client.start()
            assert (await client.ended()).state == SAGA_STATE_COMPLETED


async def _repeat(call: Callable[[], Awaitable[None]]) -> None:
    """Until it succeeds."""
    async with asyncio.timeout(60):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_recovery_that_fails_is_told_and_new_sagas_are_driven(
    tmp_path: Path,
    shop: tuple[FakeParticipant, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: Engine) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Engine, "recover", fail)
    async with running(settings(tmp_path, shop[1])) as address, client_of(address) as client:
        await client.register()
        await client.start()
        assert (await client.ended()).state == SAGA_STATE_COMPLETED
    assert "a defect" in caplog.text


async def test_ended_sagas_are_retired_where_the_settings_ask_for_it(
    tmp_path: Path, shop: tuple[FakeParticipant, str]
) -> None:
    async with running(settings(tmp_path, shop[1])) as address, client_of(address) as client:
        await client.register()
        await client.start()
        await client.ended()
    exports = tmp_path / "exports" / "old"
    retaining = settings(tmp_path, shop[1], retention=0, export_directory=exports)
    async with running(retaining) as address, client_of(address) as client:
        await until(lambda: list(exports.glob("*.jsonl.gz")))
        await _repeat_until_gone(client)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.start()
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert "has been retired" in (refused.value.details() or "")
        await client.start("t")


async def _repeat_until_gone(client: Client) -> None:
    code: Any = None
    async with asyncio.timeout(60):
        while code is not grpc.StatusCode.NOT_FOUND:
            code = await client.sagas.GetSaga(pb.GetSagaRequest(saga_id="s")).code()


# --- What keeps it from starting --------------------------------------------------------------------------------------


async def _cannot_start(with_settings: Settings) -> str:
    with pytest.raises(StartupError) as refused:
        async with running(with_settings):
            pytest.fail("it started")
    return str(refused.value)


async def test_a_journal_serves_one_coordinator_at_a_time(tmp_path: Path) -> None:
    async with running(settings(tmp_path)):
        reason = await _cannot_start(settings(tmp_path))
        assert "saga.db is in use by the coordinator with process id" in reason
    async with running(settings(tmp_path)):
        pass


async def test_a_port_serves_one_coordinator_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with running(settings(tmp_path)) as address:
        reason = await _cannot_start(settings(tmp_path / "other", listen=address))
        assert f"cannot listen on {address}" in reason
    async with running(settings(tmp_path / "other")):  # what was opened before the port was tried is closed again
        pass


async def test_a_place_for_exports_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reason = await _cannot_start(settings(tmp_path, retention=0, export_directory=tmp_path / "file" / "old"))
    assert "cannot be exported" in reason
    async with running(settings(tmp_path)):  # what was opened before is closed again
        pass


async def test_a_journal_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("this is no journal, and it is longer than a header of SQLite would be " * 20)
    for path in (tmp_path, tmp_path / "missing" / "saga.db", tmp_path / "note.txt"):
        assert str(path) in await _cannot_start(settings(tmp_path, journal=path))
    assert (tmp_path / "note.txt").read_text().startswith("this is no journal")


# --- Health -----------------------------------------------------------------------------------------------------------


async def test_health_follows_the_journal(
    tmp_path: Path, shop: tuple[FakeParticipant, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = MemoryJournal()

    async def in_memory(_: Settings) -> MemoryJournal:
        return journal

    monkeypatch.setattr(app, "_open", in_memory)
    async with running(settings(tmp_path, shop[1])) as address, client_of(address) as client:
        watch = aiter(client.health.Watch(HealthCheckRequest(service="saga.v1.CoordinatorService")))
        assert (await anext(watch)).status == HealthCheckResponse.SERVING
        journal.fail_next(2)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.register()
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await anext(watch)).status == HealthCheckResponse.NOT_SERVING
        await _repeat(client.register)
        assert (await anext(watch)).status == HealthCheckResponse.SERVING


async def test_a_participant_that_is_down_is_no_reason_to_be_unhealthy(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as address, client_of(address) as client:
        assert (await client.health.Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING


# --- Stopping ---------------------------------------------------------------------------------------------------------


async def test_a_stop_records_what_is_in_flight_and_takes_nothing_new(
    tmp_path: Path, shop: tuple[FakeParticipant, str]
) -> None:
    fake, target = shop
    answer = asyncio.Event()
    fake.on_execute = held(answer)
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with running(settings(tmp_path, target)) as address:
            ready.set_result(address)
            await stop.wait()

    serving = asyncio.create_task(run())
    async with client_of(await ready) as client:
        await client.register()
        await client.start()
        await until(lambda: fake.executes)
        watch = aiter(client.health.Watch(HealthCheckRequest()))
        assert (await anext(watch)).status == HealthCheckResponse.SERVING
        waiting = asyncio.ensure_future(client.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s")))
        stop.set()
        assert (await anext(watch)).status == HealthCheckResponse.NOT_SERVING
        for refused in (waiting, asyncio.ensure_future(client.start("t"))):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await refused
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        saga = (await client.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga
        assert saga.state == SAGA_STATE_RUNNING
        answer.set()
        await serving
    async with running(settings(tmp_path, target)) as address, client_of(address) as client:
        assert (await client.ended()).state == SAGA_STATE_COMPLETED
    assert len(fake.executes) == 1  # its answer was recorded: no attempt was lost


async def test_a_stop_waits_no_longer_than_it_may(
    tmp_path: Path, shop: tuple[FakeParticipant, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    fake, target = shop
    fake.on_execute = held(asyncio.Event())
    async with running(settings(tmp_path, target, drain_seconds=0.05)) as address, client_of(address) as client:
        await client.register()
        await client.start()
        await client.start("later", to_timestamp(time.time_ns() + 3600 * limits.SECOND_NS))
        await until(lambda: fake.executes)
        began_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began_s < 3
    assert "still in flight" in caplog.text
    [drained] = [vars(record) for record in caplog.records if record.message.startswith("drained")]
    assert drained["count"] == 2  # one with a call in flight, and one that rests


async def test_serve_ends_at_a_signal_and_gives_the_signals_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def ready(address: str) -> None:
        assert address.startswith("127.0.0.1:")
        os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(60):
        await serve(settings(tmp_path), ready)
    assert signal.getsignal(signal.SIGTERM) == before


_SERVE = """
import asyncio, pathlib, sys
from coordinator.app import serve
from coordinator.config import Settings
from coordinator.logs import set_up

set_up("info", "json")
settings = Settings(listen="127.0.0.1:0", journal=pathlib.Path(sys.argv[1]), participants={"shop": sys.argv[2]})
asyncio.run(serve(settings, lambda address: print(address, flush=True)))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_a_process(
    signum: signal.Signals, tmp_path: Path, shop: tuple[FakeParticipant, str]
) -> None:
    fake, target = shop
    answer = asyncio.Event()
    fake.on_execute = held(answer)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", _SERVE, str(tmp_path / "saga.db"), target),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        async with client_of(address) as client:
            await client.register()
            await client.start()
            await until(lambda: fake.executes)
            process.send_signal(signum)
            answer.set()
            _, log = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, log.decode()
    assert b"shutting down" in log
    assert b"Traceback" not in log
    async with running(settings(tmp_path, target)) as address, client_of(address) as client:
        assert (await client.ended()).state == SAGA_STATE_COMPLETED
    assert len(fake.executes) == 1


# --- The log ----------------------------------------------------------------------------------------------------------


async def test_the_log_of_a_run_has_its_transitions_and_no_payload(
    tmp_path: Path, shop: tuple[FakeParticipant, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "coordinator")
    async with running(settings(tmp_path, shop[1])) as address, client_of(address) as client:
        await client.register()
        await client.start()
        saga = await client.ended()
        assert SECRET in saga.input.value
        wrong = Payload(type_url="type.googleapis.com/shop.Reservation", value=INPUT.value)
        with pytest.raises(grpc.aio.AioRpcError):
            await client.sagas.StartSaga(pb.StartSagaRequest(definition="order", input=wrong))
    transitions = [record for record in caplog.records if record.message == "saga transition"]
    assert len(transitions) == saga.last_sequence
    assert [record.levelname for record in caplog.records if record.message == "saga ended"] == ["DEBUG"]
    for formatter in (TextFormatter(), JsonFormatter()):
        assert not [line for line in map(formatter.format, caplog.records) if SECRET.decode() in line]
