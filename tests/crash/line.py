"""Plays cells: one coordinator after the other on one journal, each killed by its own failpoint; then judges.

The coordinator that recovers from one cell is already armed for the next, whose failpoints are narrowed to sagas that
have not started: so each cell costs one start. All lines share one participant, which is never killed, and what is
judged is read from its database: how each saga ended says the coordinator, what it did says the participant.

A cell whose failpoint was not reached is a violation, so that none proves nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
)

from coordinator.failpoints import Failpoint
from participant_sdk import CoordinatorClient, SagaError
from saga.v1.coordinator_pb2 import ListParticipantsRequest, Saga
from saga.v1.coordinator_pb2_grpc import ParticipantDirectoryServiceStub
from saga.v1.definition_pb2 import RegisterDefinitionRequest
from saga.v1.definition_pb2_grpc import DefinitionServiceStub
from saga.v1.types_pb2 import SagaState
from tests.crash.matrix import Cell, Life
from tests.crash.messages import Work
from tests.crash.process import Coordinator
from tests.crash.shapes import SHAPES, Shape

if TYPE_CHECKING:
    from saga.v1.coordinator_pb2_grpc import ParticipantDirectoryServiceAsyncStub
    from saga.v1.definition_pb2_grpc import DefinitionServiceAsyncStub

PATIENCE_S: Final = 60.0
"""How long anything may take that must happen."""


@dataclass(slots=True)
class Counts:
    """What was played, and what was wrong."""

    cells: int = 0
    kills: int = 0
    raises: int = 0
    delays: int = 0
    sagas: int = 0
    effects: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.cells} cells, {self.kills} kills, {self.raises} raises, {self.delays} delays, {self.sagas} sagas, "
            f"{self.effects} effects checked, {len(self.violations)} violations"
        )


class Services:
    """The participant, and what its database says."""

    def __init__(self, directory: Path, address: str) -> None:
        self.address = address
        self._database = directory / "effects.db"
        self._gateway = directory / "gateway.txt"

    def effects(self, saga_id: str) -> list[tuple[str, str]]:
        """What a saga and its children did, in order: step and operation."""
        rows = self._select(
            "SELECT saga_id || '/' || step, operation FROM effects WHERE saga_id = ? OR saga_id LIKE ? ORDER BY number",
            (saga_id, f"{saga_id}/%"),
        )
        return [(path.removeprefix(f"{saga_id}/"), operation) for path, operation in rows]

    def owners(self, saga_ids: Sequence[str]) -> list[str]:
        """Which of these sagas had each effect, in order."""
        marks = ",".join("?" * len(saga_ids))
        rows = self._select(f"SELECT saga_id FROM effects WHERE saga_id IN ({marks}) ORDER BY number", saga_ids)
        return [saga_id for (saga_id,) in rows]

    def charges(self, saga_id: str) -> int:
        """How often the gateway charged for a saga."""
        if not self._gateway.exists():
            return 0
        return sum(line.split()[0] == saga_id for line in self._gateway.read_text().splitlines())

    def doubled(self) -> list[tuple[Any, ...]]:
        """Every operation of every step that took effect more than once."""
        return self._select(
            "SELECT saga_id, step, operation, count(*) FROM effects GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )

    def not_net_zero(self) -> list[tuple[Any, ...]]:
        """Every step that was compensated and has something left, or less than nothing."""
        return self._select(
            "SELECT saga_id, step, sum(amount) FROM effects GROUP BY 1, 2 "
            "HAVING sum(amount) <> 0 AND max(operation = 'COMPENSATE') OR sum(amount) NOT IN (0, 1)"
        )

    def _select(self, query: str, parameters: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return connection.execute(query, parameters).fetchall()


_SERIALS: Final = count(1)


class _Run:
    """A cell that is being played: its sagas, and which of them were acknowledged."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.serial = f"{next(_SERIALS):05}"
        self.acknowledged: set[str] = set()

    def armed(self, life: Life) -> list[str]:
        """The failpoints, narrowed to this cell's sagas."""
        return [text.replace("{saga}", f"*-{self.serial}.*") for text in life.armed]

    @property
    def suffix(self) -> str:
        """What distinguishes its definitions."""
        return f"_{self.serial}" if self.cell.fresh else ""

    @property
    def sagas(self) -> list[tuple[str, Shape]]:
        return [(saga_id, shape) for shape in self.cell.shapes for saga_id in shape.saga_ids(self.serial)]


class Line:
    """Coordinators one after the other on one journal. `async with` ends the last one.

    Without `fast_lane` none of them has one, whatever the cells say.
    """

    def __init__(
        self, directory: Path, name: str, services: Services, counts: Counts, *, fast_lane: bool = True
    ) -> None:
        self._fast_lane = fast_lane
        self._journal = directory / f"{name}.db"
        self._services = services
        self._counts = counts
        self._coordinator: Coordinator | None = None
        self._owed: _Run | None = None
        self._registered: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._coordinator is not None:
            await self._coordinator.kill()

    async def play(self, cell: Cell) -> None:
        """Play a cell; where one of its failpoints is not reached, that is a violation."""
        if not await self.sweep(cell):
            self._violation(cell, "a failpoint was not reached")

    async def sweep(self, cell: Cell) -> bool:
        """Play a cell; False where one of its failpoints is not reached, which then was no cell."""
        run = _Run(cell)
        if not all("{saga}" in text for text in cell.lives[0].armed):
            await self.settle()  # the cell before must not bring about what is armed for this one
        for number, life in enumerate(cell.lives):
            coordinator = await self._begin(run.armed(life), fast_lane=cell.fast_lane)
            if number == 0:
                await self._settle_what_is_owed()
            if life.survives:
                await self._finish(run)
            else:
                await self._drive_to_its_death(run, life, coordinator)
            if not all(coordinator.reached[text] for text in run.armed(life)):
                return False
            self._count(life)
        self._counts.cells += 1
        self._owed = None if cell.lives[-1].survives else run
        return True

    async def play_together(self, cells: Sequence[Cell]) -> None:
        """Play cells of one life each, which one coordinator survives, all in that one."""
        runs = [_Run(cell) for cell in cells]
        armed = [text for run in runs for text in run.armed(run.cell.lives[0])]
        coordinator = await self._begin(armed)
        await self._settle_what_is_owed()
        await asyncio.gather(*(self._finish(run) for run in runs))
        for run in runs:
            self._counts.cells += 1
            self._count(run.cell.lives[0])
            if not all(coordinator.reached[text] for text in run.armed(run.cell.lives[0])):
                self._violation(run.cell, "its failpoint was not reached")

    async def census(self, expected: Mapping[Failpoint, set[str]]) -> None:
        """Run every shape undisturbed; a violation where they reach other failpoints than is expected of their names.

        It is about the failpoints that can be narrowed to a saga.
        """
        run = _Run(Cell("census", SHAPES, []))
        texts = {
            f"{point.label}(saga={shape.name}-{run.serial}.*)=delay:0ms": (point, shape.name)
            for point in Failpoint
            for shape in SHAPES
            if "saga" in point.knows
        }
        coordinator = await self._begin(list(texts))
        await self._settle_what_is_owed()
        await self._finish(run)
        for text, (point, name) in texts.items():
            if (name in expected.get(point, ())) != bool(coordinator.reached[text]):
                self._violation(run.cell, f"{name} reaches {point.label} {coordinator.reached[text]} times")

    async def settle(self) -> None:
        """Finish the last cell, with a coordinator that nothing happens to."""
        if self._owed is not None:
            await self._begin([])
            await self._settle_what_is_owed()

    # --- One coordinator ---

    async def _begin(self, armed: Sequence[str], *, fast_lane: bool = True) -> Coordinator:
        if self._coordinator is not None:
            await self._coordinator.kill()
        self._coordinator = await Coordinator.start(
            self._journal, self._services.address, ", ".join(armed), fast_lane=fast_lane and self._fast_lane
        )
        return self._coordinator

    async def _drive_to_its_death(self, run: _Run, life: Life, coordinator: Coordinator) -> None:
        """Drive the cell until its coordinator is gone, or nothing is left to drive."""
        dying = asyncio.create_task(coordinator.died())
        driving: list[asyncio.Task[Any]] = [asyncio.create_task(self._drive(run, coordinator))]
        if life.stop_at is not None:
            driving.append(asyncio.create_task(_stop(coordinator, run.armed(life)[life.stop_at])))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait([dying, driving[0]], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._violation(run.cell, "it neither died nor came to an end")
        for task in driving:
            task.cancel()
        for outcome in await asyncio.gather(*driving, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, SagaError | grpc.aio.AioRpcError):
                raise outcome  # not that its coordinator is gone: the test itself is wrong
        dying.cancel()

    async def _settle_what_is_owed(self) -> None:
        run, self._owed = self._owed, None
        if run is not None:
            await self._finish(run)

    async def _finish(self, run: _Run) -> None:
        """Drive a cell to its end, and judge it."""
        assert self._coordinator is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                states = await self._drive(run, self._coordinator)
        except (TimeoutError, SagaError, grpc.aio.AioRpcError) as error:
            self._violation(run.cell, f"its sagas did not all end: {error!r}")
        else:
            self._judge(run, states)

    async def _drive(self, run: _Run, coordinator: Coordinator) -> dict[str, SagaState.ValueType]:
        """Start the sagas, wait until they have ended, and start them once more (G10); returns how they ended."""
        if not coordinator.address:
            return {}
        async with CoordinatorClient(coordinator.address) as client:
            await self._register(run, coordinator)
            if coordinator.fast_lane:
                await _on_the_fast_lane(coordinator)
            ended = await asyncio.gather(*(self._drive_saga(run, client, *saga) for saga in run.sagas))
        return {saga.saga_id: saga.state for saga in ended}

    async def _drive_saga(self, run: _Run, client: CoordinatorClient, saga_id: str, shape: Shape) -> Saga:
        definition, work = f"crash_{shape.name}{run.suffix}", Work(key=run.serial)
        if saga_id not in run.acknowledged:  # one that was is there, and goes on without anybody asking (G3)
            await client.start(definition, work, saga_id=saga_id)
            run.acknowledged.add(saga_id)
        saga, _ = await client.wait(saga_id)
        again = await client.start(definition, work, saga_id=saga_id)
        assert again.uid == saga.uid, "the same request is the same saga"
        return saga

    async def _register(self, run: _Run, coordinator: Coordinator) -> None:
        wanted = {each.name: each for shape in run.cell.shapes for each in shape.definitions(run.suffix)}
        async with grpc.aio.insecure_channel(coordinator.address) as channel:
            stub: DefinitionServiceAsyncStub = DefinitionServiceStub(channel)
            for name in [name for name in wanted if name not in self._registered]:
                request = RegisterDefinitionRequest(definition=wanted[name])
                async for attempt in _REGISTERING.copy():  # one object serves one task at a time
                    with attempt:
                        response = await stub.RegisterDefinition(request, timeout=PATIENCE_S)
                if response.definition.version != 1:
                    self._violation(run.cell, f"{name} was registered as version {response.definition.version}")
                self._registered.add(name)

    # --- Judging ---

    def _judge(self, run: _Run, states: Mapping[str, SagaState.ValueType]) -> None:
        for saga_id, shape in run.sagas:
            self._counts.sagas += 1
            if states[saga_id] != shape.ends:
                self._violation(run.cell, f"{saga_id} ended {SagaState.Name(states[saga_id])}")
            effects = self._services.effects(saga_id)
            self._counts.effects += len(effects)
            if effects != list(shape.effects):
                self._violation(run.cell, f"{saga_id} left {effects}, not {list(shape.effects)}")
            if (charges := self._services.charges(saga_id)) != shape.charges:
                self._violation(run.cell, f"{saga_id} was charged {charges} times")
        for shape in run.cell.shapes:
            owners = [owner for owner, _ in groupby(self._services.owners(shape.saga_ids(run.serial)))]
            if len(owners) != len(set(owners)):
                self._violation(run.cell, f"sagas that exclude each other ran at the same time: {owners}")

    def _count(self, life: Life) -> None:
        for text in life.armed:
            self._counts.kills += "=kill" in text
            self._counts.raises += "=raise" in text
            self._counts.delays += "=delay" in text

    def _violation(self, cell: Cell, what: str) -> None:
        words = self._coordinator.last_words if self._coordinator is not None else ""
        self._counts.violations.append(f"{cell.name}: {what}\n{words}")


_REGISTERING: Final = AsyncRetrying(
    retry=retry_if_exception(
        lambda error: isinstance(error, grpc.aio.AioRpcError) and error.code() == grpc.StatusCode.UNAVAILABLE
    ),
    wait=wait_fixed(0.05),
    stop=stop_after_attempt(20),
    reraise=True,
)


_LOOKING: Final = AsyncRetrying(
    retry=retry_if_exception_type(AssertionError),
    wait=wait_fixed(0.005),
    stop=stop_after_delay(PATIENCE_S),
    reraise=True,
)


async def _on_the_fast_lane(coordinator: Coordinator) -> None:
    """Return when calls go over Exchange: until then they are unary, and reach none of its failpoints."""
    async with grpc.aio.insecure_channel(coordinator.address) as channel:
        stub: ParticipantDirectoryServiceAsyncStub = ParticipantDirectoryServiceStub(channel)
        async for attempt in _LOOKING.copy():
            with attempt:
                listed = await stub.ListParticipants(ListParticipantsRequest())
                assert any(participant.fast_lane for participant in listed.participants)


async def _stop(coordinator: Coordinator, failpoint: str) -> None:
    await coordinator.acted(failpoint)
    coordinator.ask_to_stop()
