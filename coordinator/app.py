"""Puts a coordinator together, runs it, and takes it down in good order.

Start: lock and open the journal, meet the participants (one that is down keeps nobody from starting), serve, take up
what was unfinished. Stop: answer health checks with NOT_SERVING, start nothing new, let calls in flight be recorded,
end the calls of clients, close the journal. This module must not contain a rule of the coordinator.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from coordinator.api.definitions import DefinitionService
from coordinator.api.directory import DirectoryService
from coordinator.api.participant import ParticipantService
from coordinator.api.reflection import SHARED_FILES
from coordinator.api.rpc import Gates
from coordinator.api.sagas import SagaService
from coordinator.api.server import Server
from coordinator.config import Settings
from coordinator.engine.changes import Changes
from coordinator.engine.clock import Clock, SystemClock
from coordinator.engine.compatibility import Compatibility
from coordinator.engine.definitions import Definitions
from coordinator.engine.engine import Engine
from coordinator.engine.retention import Retention, RetentionPolicy
from coordinator.engine.world import Tasks, World
from coordinator.journal.errors import JournalError
from coordinator.journal.port import Journal
from coordinator.journal.sqlite import SqliteJournal
from coordinator.participants.directory import Directory

log = logging.getLogger(__name__)

_CLIENTS_GRACE_S: Final = 1.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StartupError(Exception):
    """The coordinator cannot start; the text says why and what would help."""


async def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT. `on_ready` gets HOST:PORT once calls are answered. StartupError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in _SIGNALS:
        loop.add_signal_handler(signum, stop.set)
    try:
        async with running(settings) as address:
            on_ready(address)
            await stop.wait()
            log.info("shutting down")
    finally:
        for signum in _SIGNALS:
            loop.remove_signal_handler(signum)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """A coordinator that runs as long as the context is open; yields HOST:PORT. StartupError."""
    async with AsyncExitStack() as stack:
        journal = await _open(settings)
        stack.push_async_callback(journal.close)
        directory = Directory(
            settings.targets,
            shared=SHARED_FILES,
            calls_max={name: each.calls_max for name, each in settings.participants.items()},
            fast_lane=settings.fast_lane,
        )
        await stack.enter_async_context(directory)
        clock = SystemClock()
        world = World(journal, directory, clock, Changes(), Tasks(), random.random, behind_s=directory.behind_s)
        definitions = Definitions(journal, directory.descriptions, clock, _key_retention_ns(settings))
        directory.on_change(definitions.look_again)
        engine = Engine(world, definitions, settings.unfinished_sagas_max)
        stack.push_async_callback(engine.close)
        await engine.open()
        compatibility = Compatibility(journal, directory.descriptions)
        directory.on_change(compatibility.changed)
        await stack.enter_async_context(compatibility.running())
        gates = Gates()
        server = Server(
            SagaService(engine, journal, clock, gates),
            DefinitionService(definitions, journal),
            DirectoryService(directory, compatibility.problems, definitions),
            ParticipantService(engine.children, definitions),
            directory,
            gates,
        )
        address = await _start(server, settings.listen)
        stack.push_async_callback(server.stop, _CLIENTS_GRACE_S)
        await stack.enter_async_context(_retaining(settings, journal, clock))
        health = _Health(server, journal)
        recovery = asyncio.create_task(_recover(engine))
        try:
            await health.follow()
            yield address
        finally:
            await health.stop()
            await _drain(engine, settings.drain_seconds)
            recovery.cancel()
            with suppress(asyncio.CancelledError):
                await recovery


def _key_retention_ns(settings: Settings) -> int | None:
    """For how long, at least, a saga is remembered once it has ended; None: for ever."""
    return settings.retention + settings.tombstone_retention if settings.retention is not None else None


async def _open(settings: Settings) -> SqliteJournal:
    try:
        journal = await SqliteJournal.open(settings.journal)
    except (JournalError, OSError, sqlite3.Error) as error:
        raise StartupError(str(error)) from error
    return journal


@asynccontextmanager
async def _retaining(settings: Settings, journal: Journal, clock: Clock) -> AsyncIterator[None]:
    """Retire old sagas, as long as the context is open, where the settings ask for it."""
    if settings.retention is None:
        yield
        return
    if settings.export_directory is not None:
        try:
            settings.export_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"sagas cannot be exported: {error}") from error
    policy = RetentionPolicy(settings.retention, settings.tombstone_retention, settings.export_directory)
    async with Retention(journal, clock, policy).running():
        yield


async def _start(server: Server, address: str) -> str:
    try:
        return await server.start(address)
    except OSError as error:
        raise StartupError(f"cannot listen on {address}: {error.strerror or error}") from error


async def _recover(engine: Engine) -> None:
    try:
        count = await engine.recover()
    except Exception:  # new sagas are driven all the same
        log.exception("unfinished sagas could not be taken up; each is once somebody asks for it")
        return
    if count:
        log.info("unfinished sagas were taken up", extra={"count": count, "resting": engine.resting})


async def _drain(engine: Engine, timeout_s: float) -> None:
    resting = engine.resting
    if not await engine.drain(timeout_s):
        log.warning("calls were still in flight when the time to drain was over; they are taken up at the next start")
    left = resting + engine.unfinished
    log.info("drained; sagas that have not ended are taken up at the next start", extra={"count": left})


class _Health:
    """Answers health checks with SERVING while the journal can be written and the coordinator does not stop."""

    def __init__(self, server: Server, journal: Journal) -> None:
        self._server = server
        self._journal = journal
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Say how things stand, now and whenever that changes."""
        self._journal.on_health_change(lambda _healthy: self._changed.set())
        await self._server.say_serving(self._journal.healthy)
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._server.say_serving(self._journal.healthy)

    async def stop(self) -> None:
        """Say that nothing new is taken."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._server.say_serving(False)
