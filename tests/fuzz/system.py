"""A coordinator and participants as processes, sagas in every state, and what can be seen of it all from outside.

Memory is the process's own, the journal is read from its file, the logs are what the processes wrote. This module must
not know what is thrown at them.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_channelz.v1.channelz_pb2 import GetServersRequest
from grpc_channelz.v1.channelz_pb2_grpc import ChannelzStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from saga.v1.coordinator_pb2 import GetSagaRequest, ListSagasRequest, PauseSagaRequest, Saga, StartSagaRequest
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from saga.v1.definition_pb2 import RegisterDefinitionRequest, SagaDefinition, StepDefinition
from saga.v1.definition_pb2_grpc import DefinitionServiceStub
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
    STEP_STATE_PENDING,
)
from sample_services.orders.v1.orders_pb2 import Address
from tests.fuzz.hostile import CANARY

PATIENCE_S: Final = 60.0
_LISTENING: Final = re.compile(r"listening on (\S+)")


def payload(recipient: str = "ok") -> AnyMessage:
    """An input with a canary in it."""
    packed = AnyMessage()
    packed.Pack(Address(recipient=recipient, street=CANARY, city="Delft", country_code="NL"))
    return packed


DEFINITION: Final = SagaDefinition(
    name="fuzz",
    input_type=Address.DESCRIPTOR.full_name,
    labels={"city": "input.city"},
    output="finish",
    steps=[
        StepDefinition(name=name, participant="fuzz", action="Act", kind=kind, input="input")
        for name, kind in (
            ("book", STEP_KIND_COMPENSATABLE),
            ("hold", STEP_KIND_RESERVABLE),
            ("decide", STEP_KIND_PIVOT),
            ("finish", STEP_KIND_RETRIABLE),
        )
    ],
)


def definition(name: str = "fuzz", **fields: Any) -> SagaDefinition:
    made = SagaDefinition(name=name, **fields)
    made.MergeFrom(DEFINITION)
    made.name = name
    return made


class Server:
    """One process, its log and its memory."""

    def __init__(self, name: str, directory: Path, *command: str) -> None:
        self.log_path = directory / f"{name}.log"
        self._log = self.log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "DEBUG"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()  # it comes, or the process ends
        found = _LISTENING.search(line)
        if found is None:
            self.stop()
            raise RuntimeError(f"{name} did not start: {self.log}")
        self.address = found[1]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", errors="replace")

    def memory_mib(self) -> int:
        """What it holds now."""
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, check=True)
        return int(shown.stdout) // 1024

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._log.close()


@dataclass(frozen=True)
class Written:
    """How far the journal has got."""

    events: int
    definitions: int
    deprecated: int


@dataclass
class System:
    """What is fuzzed. `moving` are the sagas that an accepted request has set going: they may write by themselves."""

    coordinator: Server
    participant: Server
    lone: Server
    """A participant that only the fuzz calls."""
    directory: Path
    channel: grpc.Channel
    lone_channel: grpc.Channel
    moving: set[str] = field(default_factory=set)
    sagas: list[Saga] = field(default_factory=list)
    page_token: str = ""

    @property
    def servers(self) -> Sequence[Server]:
        return self.coordinator, self.participant, self.lone

    def written(self) -> Written:
        with self._journal() as journal:
            (events,) = journal.execute("SELECT coalesce(max(rowid), 0) FROM events").fetchone()
            definitions, deprecated = journal.execute(
                "SELECT count(*), coalesce(sum(deprecated), 0) FROM definitions"
            ).fetchone()
        return Written(events, definitions, deprecated)

    def written_to(self, since: Written) -> set[str]:
        """The sagas that have got events since, without those that move by themselves."""
        with self._journal() as journal:
            rows = journal.execute(
                "SELECT DISTINCT saga_id FROM events JOIN sagas USING (saga) WHERE events.rowid > ?", (since.events,)
            ).fetchall()
        return {saga_id for (saga_id,) in rows if not self._moves(saga_id)}

    def effects(self) -> tuple[int, int]:
        """The rows of the lone participant: of the barrier, and of its own."""
        with closing(sqlite3.connect(f"file:{self.directory / 'lone.db'}?mode=ro", uri=True)) as database:
            (rows,) = database.execute("SELECT count(*) FROM saga_barrier").fetchone()
            (effects,) = database.execute("SELECT count(*) FROM effects").fetchone()
        return rows, effects

    def open_calls(self) -> int:
        """The calls that the coordinator has not finished, this question left out; as gRPC counts them."""
        servers = ChannelzStub(self.channel).GetServers(GetServersRequest(), timeout=PATIENCE_S).server
        data = [server.data for server in servers]
        return int(sum(each.calls_started - each.calls_succeeded - each.calls_failed for each in data)) - 1

    def serves(self) -> bool:
        for channel in (self.channel, self.lone_channel):
            health: Any = HealthStub(channel)
            answer = health.Check(HealthCheckRequest(), timeout=PATIENCE_S)
            if answer.status != HealthCheckResponse.SERVING:
                return False
        return True

    def _moves(self, saga_id: str) -> bool:
        parts = saga_id.split("/")
        return any("/".join(parts[: length + 1]) in self.moving for length in range(len(parts)))

    @contextmanager
    def _journal(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self.directory / 'journal.db'}?mode=ro", uri=True)) as journal:
            yield journal


@contextmanager
def running(directory: Path) -> Iterator[System]:
    """The system, with a saga in every state."""
    with ExitStack() as stack:

        def start(name: str, *command: str) -> Server:
            server = Server(name, directory, *command)
            stack.callback(server.stop)
            return server

        participant, lone = (
            start(name, "tests.fuzz.participant", "--database", str(directory / f"{name}.db"))
            for name in ("participant", "lone")
        )
        coordinator = start(
            "coordinator",
            *("coordinator.cli", "serve", "--listen", "127.0.0.1:0", "--log-level", "debug"),
            *("--journal", str(directory / "journal.db"), "--participant", f"fuzz={participant.address}"),
        )
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        channel, lone_channel = (
            stack.enter_context(grpc.insecure_channel(server.address, options=unlimited))
            for server in (coordinator, lone)
        )
        system = System(coordinator, participant, lone, directory, channel, lone_channel)
        _set_the_scene(system)
        yield system


def _set_the_scene(system: System) -> None:
    definitions, sagas = DefinitionServiceStub(system.channel), CoordinatorServiceStub(system.channel)
    for made in (definition(), definition("keyed", exclusive_keys=["'one'"])):
        definitions.RegisterDefinition(RegisterDefinitionRequest(definition=made), timeout=PATIENCE_S)

    def start(saga_id: str, recipient: str, ready: Callable[[Saga], bool], **fields: Any) -> None:
        asked: dict[str, Any] = {"saga_id": saga_id, "definition": "fuzz", "input": payload(recipient)} | fields
        sagas.StartSaga(StartSagaRequest(**asked), timeout=PATIENCE_S)
        until(lambda: ready(sagas.GetSaga(GetSagaRequest(saga_id=saga_id), timeout=PATIENCE_S).saga))

    start("completed", "ok", lambda saga: saga.state == SAGA_STATE_COMPLETED)
    start("compensated", "reject:decide", lambda saga: saga.state == SAGA_STATE_COMPENSATED)
    start("failed", "reject:decide stuck:book", lambda saga: saga.state == SAGA_STATE_FAILED)
    later = Timestamp(seconds=int(time.time()) + 30 * 24 * 3600)
    start("scheduled", "ok", lambda saga: saga.state == SAGA_STATE_PENDING, start_time=later)
    start("waiting", "pend:book", lambda saga: saga.steps[0].state == STEP_STATE_PENDING)
    start("deciding", "pend:decide", lambda saga: saga.steps[2].state == STEP_STATE_PENDING)
    start("finishing", "pend:finish", lambda saga: saga.steps[3].state == STEP_STATE_PENDING)
    start("paused", "pend:hold", lambda saga: saga.steps[1].state == STEP_STATE_PENDING)
    sagas.PauseSaga(PauseSagaRequest(saga_id="paused", reason="a test", actor="fuzz"), timeout=PATIENCE_S)
    start("holder", "pend:hold", lambda saga: saga.steps[1].state == STEP_STATE_PENDING, definition="keyed")
    start("queued", "ok", lambda saga: saga.state == SAGA_STATE_PENDING, definition="keyed")
    listed = sagas.ListSagas(ListSagasRequest(page_size=2), timeout=PATIENCE_S)
    system.page_token = listed.next_page_token
    every = sagas.ListSagas(ListSagasRequest(), timeout=PATIENCE_S).sagas
    system.sagas = [sagas.GetSaga(GetSagaRequest(saga_id=saga.saga_id), timeout=PATIENCE_S).saga for saga in every]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes bring about."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
