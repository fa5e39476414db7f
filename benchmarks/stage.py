"""A system on the stage: its processes started as a user starts them, and a driver that puts load on it.

Every process gets a folder that is thrown away afterwards, on the disk that TMPDIR names. Only one stage is up at a
time, so that systems are not measured against each other's leftovers. This module must not measure.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

import grpc

from benchmarks.load import FIRST_WORDS, Load, Outcome
from benchmarks.participants import AT_MOST
from benchmarks.workload import ACTIONS, CALL_MAX_S, DEFINITION, PARTICIPANT, step_name
from saga.v1.coordinator_pb2 import GetSagaRequest, ListSagasRequest, Saga, SagaFilter, StartSagasRequest
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from saga.v1.definition_pb2 import (
    AttemptPolicy,
    GetDefinitionRequest,
    RegisterDefinitionRequest,
    SagaDefinition,
    StepDefinition,
)
from saga.v1.definition_pb2_grpc import DefinitionServiceStub
from saga.v1.participant_pb2 import DescribeRequest
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from saga.v1.types_pb2 import SAGA_STATE_PENDING
from sample_services.demo.processes import Server, ServerFailed, Supervisor

ROOT: Final = Path(__file__).parents[1]
ENVIRONMENT: Final = f"PYTHONPATH={ROOT}:{ROOT / 'protos'}"
ATTEMPT_MAX_S: Final = 600  # sagas that wait for a participant must not spend their attempts
_DRIVER_READY_S: Final = 60.0
_DRIVER_MAX_S: Final = 900.0
_TAIL_CHARACTERS: Final = 2000
_DRIVER_LINE_BYTES: Final = 1 << 16
_TAKEN_UP: Final = "unfinished sagas were taken up"
_LOOK_S: Final = 0.005


class BenchmarkFailed(Exception):
    """Something did not do what it is measured at; the text says what."""


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:]


class Driver:
    """A driver process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, command: Sequence[str], log: Path) -> Self:
        """Start it; returns when it is ready. Errors: `BenchmarkFailed`."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_DRIVER_LINE_BYTES,
                start_new_session=True,
            )
        driver = cls(process, log)
        try:
            if await driver._line(_DRIVER_READY_S) != FIRST_WORDS:
                raise driver._broken()
        except BaseException:
            await driver.stop()
            raise
        return driver

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def drive(self, load: Load) -> Outcome:
        """Put a load on the system. Errors: `BenchmarkFailed` where the driver ends."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)).encode() + b"\n")
        await self._process.stdin.drain()
        return Outcome(**json.loads(await self._line(_DRIVER_MAX_S)))

    async def stop(self) -> None:
        """End it: its standard input ends; where that takes too long, it and what it started are killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _line(self, patience_s: float) -> str:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(patience_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self._broken() from None
        if not line:
            raise self._broken()
        return line.decode().strip()

    def _broken(self) -> BenchmarkFailed:
        return BenchmarkFailed(f"the driver ended or does not answer: {_tail(self._log)}")


class Stage:
    """The processes of one system. Made by `stage`; `processes` are their ids, by name."""

    def __init__(self, folder: Path, supervisor: Supervisor) -> None:
        self.folder = folder
        self.processes: dict[str, int] = {}
        self.journal = folder / "journal.db"
        self._supervisor = supervisor
        self._drivers: list[Driver] = []
        self._loads = 0

    # --- Starting processes ---

    async def start(self, name: str, *command: str, environment: Sequence[str] = ()) -> Server:
        """Start a server; what it says on its standard error goes to a file, as a service's log does.

        Errors: `BenchmarkFailed`.
        """
        into_file = ("sh", "-c", 'exec "$@" 2>>"$0"', str(self._errors(name)), "env", ENVIRONMENT, *environment)
        try:
            server = await self._supervisor.start(name, (*into_file, *command))
        except ServerFailed as failed:
            raise BenchmarkFailed(f"{failed}{_tail(self._errors(name))}") from None
        self.processes[name] = server.pid
        return server

    async def participants(self, barrier: str = "memory") -> Server:
        """Start the participants over a barrier."""
        database = self.folder / "participants.db"
        module = (sys.executable, "-m", "benchmarks.participants")
        return await self.start("participants", *module, "--barrier", barrier, "--database", str(database))

    async def coordinator(self, participants: Server, *, fast_lane: bool = False, **settings: object) -> Server:
        """Start our coordinator, as a user does, and register the definition of three steps."""
        given = {"fast_lane": str(fast_lane).lower(), **settings}
        server = await self.start(
            "coordinator",
            *(sys.executable, "-m", "coordinator", "serve", f"--journal={self.journal}"),
            f"--participant={PARTICIPANT}={participants.address}",
            environment=[f"SAGA_{name.upper()}={value}" for name, value in given.items()],
        )
        await register(server.address, DEFINITION, len(ACTIONS))
        return server

    async def driver(self, *command: str, name: str = "driver") -> Driver:
        """Start a driver; `name` says what else it is."""
        driver = await Driver.start(("env", ENVIRONMENT, *command), self._errors("driver"))
        self._drivers.append(driver)
        self.processes[name] = driver.pid
        return driver

    async def saga_driver(self, server: Server, *options: str) -> Driver:
        """Start a driver of something that serves `saga.v1`."""
        return await self.driver(sys.executable, "-m", "benchmarks.driver", "--target", server.address, *options)

    # --- Stopping them ---

    async def stop(self, server: Server) -> None:
        """Ask a server to end; returns when it is gone."""
        del self.processes[server.name]
        await server.stop()

    async def start_again(self, server: Server) -> None:
        """Start a server that was killed, at the same address."""
        self._errors(server.name).unlink()
        await server.start()
        self.processes[server.name] = server.pid

    async def close(self) -> None:
        """End the drivers; the servers are ended by their supervisor."""
        await asyncio.gather(*(driver.stop() for driver in self._drivers))

    # --- Looking at them ---

    def load_id(self) -> str:
        """A prefix for saga ids that no other load of this stage has."""
        self._loads += 1
        return f"bench-{self._loads:03}"

    async def taken_up(self) -> None:
        """Returns when the coordinator has taken up what was unfinished at its start. Errors: `BenchmarkFailed`."""
        try:
            async with asyncio.timeout(_DRIVER_MAX_S):
                log = self._errors("coordinator")
                while _TAKEN_UP not in log.read_text(encoding="utf-8"):  # noqa: ASYNC110  # another process writes it
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise BenchmarkFailed("unfinished sagas were not taken up") from None

    @staticmethod
    def calls_at_most(participants: Server) -> int:
        """How many calls were under way at most; the participants must have stopped."""
        return int(participants.last_words.rpartition(AT_MOST)[2])

    def _errors(self, name: str) -> Path:
        return self.folder / f"{name}.errors"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """A stage in a folder that exists; all its processes have ended when the context is left."""
    async with Supervisor(folder) as supervisor:
        opened = Stage(folder, supervisor)
        try:
            yield opened
        finally:
            await opened.close()


# --- Asking a coordinator ---


def definition(name: str, steps: int) -> SagaDefinition:
    """A definition of so many steps, one after the other, each of which is given the saga's input."""
    policy = AttemptPolicy()
    policy.timeout.FromSeconds(ATTEMPT_MAX_S)
    return SagaDefinition(
        name=name,
        input_type="benchmarks.v1.Order",
        steps=[
            StepDefinition(
                name=step_name(number),
                participant=PARTICIPANT,
                action=ACTIONS[number % len(ACTIONS)],
                input="input",
                execute=policy,
            )
            for number in range(steps)
        ],
    )


async def register(address: str, name: str, steps: int) -> None:
    """Register a definition."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = DefinitionServiceStub(channel)
        request = RegisterDefinitionRequest(definition=definition(name, steps))
        await stub.RegisterDefinition(request, timeout=CALL_MAX_S, wait_for_ready=True)


async def unfinished(address: str, name: str) -> int:
    """How many sagas of a definition have not ended."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = DefinitionServiceStub(channel)
        response = await stub.GetDefinition(GetDefinitionRequest(name=name), timeout=CALL_MAX_S, wait_for_ready=True)
        return response.metadata.unfinished_saga_count


async def begun(address: str) -> bool:
    """Whether no saga waits for its start any more."""
    pending = ListSagasRequest(page_size=1, filter=SagaFilter(states=[SAGA_STATE_PENDING]))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = CoordinatorServiceStub(channel)
        return not (await stub.ListSagas(pending, timeout=CALL_MAX_S)).sagas


async def get(address: str, saga_id: str) -> Saga:
    """A saga as it stands."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = CoordinatorServiceStub(channel)
        return (await stub.GetSaga(GetSagaRequest(saga_id=saga_id), timeout=CALL_MAX_S)).saga


async def exchanges(participants: str) -> bool:
    """Whether participants offer the fast lane."""
    async with grpc.aio.insecure_channel(participants) as channel:
        described = await ParticipantServiceStub(channel).Describe(DescribeRequest(), timeout=CALL_MAX_S)
    return described.HasField("exchange")


async def starts_sagas(address: str) -> bool:
    """Whether a coordinator serves the fast lane."""
    async with grpc.aio.insecure_channel(address) as channel:
        starts = CoordinatorServiceStub(channel).StartSagas(timeout=CALL_MAX_S)
        try:
            await starts.write(StartSagasRequest())
            await starts.done_writing()
            async for _ in starts:
                pass
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise
    return True
