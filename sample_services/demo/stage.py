"""What the scenes of a sample play on: the coordinator's process, clients of it, and a place to print.

This module must not know any one sample.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from rich.console import Console
from rich.rule import Rule

from participant_sdk import CoordinatorClient
from saga.v1.coordinator_pb2 import Saga, SagaFilter
from saga.v1.types_pb2 import SagaState
from sample_services.demo import show
from sample_services.demo.processes import Server, Supervisor, run
from sample_services.demo.sample import Service

COORDINATOR: Final = "coordinator"
COORDINATOR_COMMAND: Final = (sys.executable, "-m", "coordinator.cli")
_SAGA_MAX: Final = timedelta(minutes=2)
_CONDITION_MAX_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.02


class SceneFailed(Exception):
    """A scene did not go as it should; the text says what was expected."""


class Stage:
    """Processes under a supervisor, their files in `directory`, and a console."""

    def __init__(self, supervisor: Supervisor, directory: Path, console: Console) -> None:
        self.console = console
        self._supervisor = supervisor
        self._directory = directory

    @property
    def servers(self) -> Mapping[str, Server]:
        """The coordinator and the services, by name."""
        return self._supervisor.servers

    @property
    def coordinator(self) -> Server:
        """The coordinator."""
        return self.servers[COORDINATOR]

    async def start_services(self, services: Iterable[Service]) -> None:
        """Start participants, beside one another. Errors: `ServerFailed`."""
        commands = {each.name: (sys.executable, "-m", each.module, *each.options) for each in services}
        starting = (self._supervisor.start(name, command) for name, command in commands.items())
        for started in await asyncio.gather(*starting, return_exceptions=True):  # the others are not left half started
            if isinstance(started, BaseException):
                raise started
            self._say_started(started)

    async def start_coordinator(self, preferred: str = "") -> None:
        """Start the coordinator with all participants started so far; at the address `preferred`, if that is free.

        Errors: `ServerFailed`.
        """
        participants = [f"--participant={name}={server.address}" for name, server in self.servers.items()]
        journal = self._directory / "journal.db"
        command = (*COORDINATOR_COMMAND, "serve", f"--journal={journal}", *participants)
        self._say_started(await self._supervisor.start(COORDINATOR, command, preferred))

    async def register(self, definitions: Iterable[Path]) -> None:
        """Register definitions, with the command line as anyone would. Errors: `SceneFailed`."""
        server = f"--server={self.coordinator.address}"
        code, output = await run((*COORDINATOR_COMMAND, server, "definition", "apply", *map(str, definitions)))
        if code != 0:
            raise SceneFailed(f"the definitions could not be registered:\n{output}")
        self.say(output)

    def scene(self, title: str) -> None:
        """Announce a scene."""
        self.console.print()
        self.console.print(Rule(title, align="left"))

    def say(self, text: str) -> None:
        """Tell what happens."""
        self.console.print(text, markup=False)

    async def begin(self, definition: str, saga_id: str, input_message: Message) -> Saga:
        """Start a saga and return it as it stands then."""
        async with self._client() as sagas:
            return await sagas.start(definition, input_message, saga_id=saga_id)

    async def end(self, saga_id: str, expected: SagaState.ValueType) -> Saga:
        """Wait for a saga's end and show its timeline. Errors: `SceneFailed` where it does not end as expected."""
        saga = await self._wait(saga_id)
        self.console.print(show.timeline(saga))
        _expect(saga, expected)
        return saga

    async def ended(self, saga_id: str, expected: SagaState.ValueType) -> Saga:
        """Wait for a saga's end and show nothing. Errors: `SceneFailed` where it does not end as expected."""
        saga = await self._wait(saga_id)
        _expect(saga, expected)
        return saga

    async def sagas(self, saga_filter: SagaFilter) -> list[Saga]:
        """Return the sagas that match, with their steps and what they wait for: the oldest first."""
        async with self._client() as sagas:
            found = [saga.saga_id async for saga in sagas.list(saga_filter)]
            return [await sagas.get(saga_id) for saga_id in reversed(found)]

    def show_last_words(self) -> None:
        """Show what each process printed last: where a scene fails, one of them may say why."""
        for server in self.servers.values():
            self.scene(f"{server.name}, last words")
            self.say(server.last_words)

    async def found(self, database: Path, query: str, parameters: tuple[Any, ...]) -> None:
        """Wait until a query finds a row in a SQLite database. Errors: `SceneFailed`."""
        await until(lambda: bool(select(database, query, parameters)), f"a row in {database.name}")

    async def _wait(self, saga_id: str) -> Saga:
        async with self._client() as sagas:
            return (await sagas.wait(saga_id, _SAGA_MAX)).saga

    def _client(self) -> CoordinatorClient:
        """Return a new client: one from before a restart would first sit out its reconnect backoff."""
        return CoordinatorClient(self.coordinator.address)

    def _say_started(self, server: Server) -> None:
        self.say(f"{server.name} listens on {server.address}, process {server.pid}")


def _expect(saga: Saga, expected: SagaState.ValueType) -> None:
    if saga.state != expected:
        found, wanted = SagaState.Name(saga.state), SagaState.Name(expected)
        raise SceneFailed(f"saga {saga.saga_id} is {found}, not {wanted}")


def select(database: Path, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the rows that a query finds in a service's SQLite database."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query, parameters).fetchall()


def number(database: Path, query: str) -> int:
    """Return the one number that a query finds in a service's SQLite database."""
    [(value,)] = select(database, query)
    return int(value)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does. Errors: `SceneFailed` where it takes too long."""
    try:
        async with asyncio.timeout(_CONDITION_MAX_S):
            while not condition():  # noqa: ASYNC110 - another process brings it about
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise SceneFailed(f"waited {_CONDITION_MAX_S:.0f} s for {what}") from None
