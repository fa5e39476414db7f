"""The engine on a real journal whose disk fails now and then: what it does to participants is always covered by what a
power cut at that moment would leave (G1), and it goes on by itself when the disk is well again (G3).

SAGA_PROPERTY_EXAMPLES sets how many random runs are made; SAGA_PROPERTY_SEED makes one of them, alone.
"""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from coordinator.core.inputs import Done, Refused, Reply
from coordinator.engine.changes import Changes
from coordinator.engine.definitions import Definitions
from coordinator.engine.engine import Engine
from coordinator.engine.verify import verify
from coordinator.engine.world import Tasks, World
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.port import JournalReader
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_database import Database
from coordinator.participants.call import Call
from saga.v1.types_pb2 import Operation, SagaState
from tests.coordinator.engine.bench import (
    COMPENSATE,
    EXECUTE,
    REFUSED,
    UNAVAILABLE,
    Participants,
    accepted,
    definition,
    descriptions,
    done,
    request,
    step,
)
from tests.support import faulty_disk
from tests.support.faulty_disk import Entry, Fault, FaultyDisk, Noted, installed, kill, power_cut, put
from tests.support.virtual_time import LoopClock, VirtualTimeLoop

EXAMPLES = int(os.environ.get("SAGA_PROPERTY_EXAMPLES", "5"))
SEEDS = [int(os.environ["SAGA_PROPERTY_SEED"])] if "SAGA_PROPERTY_SEED" in os.environ else range(EXAMPLES)
CUTS = 6
SAGAS = [f"s{number}" for number in range(6)]
STEPS = ("reserve", "charge", "ship")
FAULTS: Sequence[Callable[[], list[Fault]]] = (
    faulty_disk.full_disk,
    faulty_disk.broken_writes,
    faulty_disk.broken_syncs,
    faulty_disk.read_only,
    faulty_disk.broken_reads,
    lambda: faulty_disk.broken_reads() + faulty_disk.broken_syncs(),
)

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _time_waits_for_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Database._execute

    async def standing_still(self: Database, *work: Any, **options: Any) -> Any:
        with cast("VirtualTimeLoop", asyncio.get_running_loop()).standing_still():
            return await execute(self, *work, **options)  # type: ignore[no-untyped-call]  # has no annotations

    monkeypatch.setattr(Database, "_execute", standing_still)


@dataclass(frozen=True, slots=True)
class Started:
    """A start was acknowledged."""

    saga_id: str


@dataclass(frozen=True, slots=True)
class Called:
    """A participant was called."""

    saga_id: str
    step: str
    operation: Operation.ValueType
    attempt: int
    key: str


@dataclass(frozen=True, slots=True)
class Answered:
    """It answered."""

    called: Called
    reply: Reply


class Fates(Participants):
    """Participants that fare as the seed has it, whoever asks and whenever, and note what they are asked."""

    def __init__(self, journal: JournalReader, disk: FaultyDisk, seed: int) -> None:
        super().__init__(journal)
        self._disk = disk
        self._seed = seed

    async def call(self, call: Call) -> Reply:
        context = call.context
        called = Called(context.saga_id, context.step, call.operation, context.attempt, context.idempotency_key)
        self._disk.note(called)
        reply = self._reply(called)
        await asyncio.sleep(self._chance(called, "pace").random())
        self._disk.note(Answered(called, reply))
        return reply

    def _reply(self, called: Called) -> Reply:
        if called.attempt < 3 and self._chance(called, called.attempt).random() < 0.3:
            return UNAVAILABLE
        if called.operation == EXECUTE and self._chance(called, "fate").random() < 0.2:
            return REFUSED
        if self._chance(called, len(self._disk.log)).random() < 0.2:
            return accepted(1)
        return done() if called.operation == EXECUTE else Done()

    def _chance(self, called: Called, of: object) -> random.Random:
        return random.Random(f"{self._seed} {called.saga_id} {called.step} {called.operation} {of}")


class Coordinator:
    """An engine on a journal that lies on a disk."""

    def __init__(self, journal: SqliteJournal, disk: FaultyDisk, seed: int) -> None:
        clock = LoopClock()
        self.journal = journal
        self.disk = disk
        self.definitions = Definitions(journal, descriptions, clock)
        chance = random.Random(seed)
        world = World(journal, Fates(journal, disk, seed), clock, Changes(), Tasks(), chance.random)
        self.engine = Engine(world, self.definitions)

    async def register(self) -> None:
        kinds = ("COMPENSATABLE", "COMPENSATABLE", "PIVOT")
        await self.definitions.register(definition(*map(step, STEPS, kinds)))

    async def start(self, saga_id: str) -> None:
        """As a client does: the same start again, until it is acknowledged."""
        await insist(lambda: self.engine.start(request(saga_id)))
        self.disk.note(Started(saga_id))

    async def ended(self, saga_id: str) -> str:
        assert await insist(lambda: self.engine.wait(saga_id, 1e6))
        state: SagaState.ValueType = await insist(lambda: self.engine.read(saga_id, lambda saga: saga.state))
        return SagaState.Name(state).removeprefix("SAGA_STATE_")


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await ask()
        except JournalUnavailable:
            await asyncio.sleep(0.1)


@asynccontextmanager
async def coordinator(directory: Path, disk: FaultyDisk, seed: int) -> AsyncIterator[Coordinator]:
    with installed(disk):
        journal = await SqliteJournal.open(directory / "journal.db")
        made = Coordinator(journal, disk, seed)
        try:
            await made.engine.open()
            yield made
        finally:
            await made.engine.close()
            await journal.close()


async def spoil(disk: FaultyDisk, chance: random.Random) -> None:
    """Fail now and then, for a moment or for longer than a driver waits between two looks."""
    while True:
        await asyncio.sleep(chance.random())
        disk.fail(*chance.choice(FAULTS)())
        await asyncio.sleep(chance.choice((0.1, 1, 10)) * chance.random())
        disk.heal()


def noted(log: Sequence[Entry], kind: type[T]) -> list[T]:
    return [entry.what for entry in log if isinstance(entry, Noted) and isinstance(entry.what, kind)]


def assert_effects(log: Sequence[Entry], states: dict[str, str]) -> None:
    """G2, G4: one key for all attempts; what completed stands, what may have happened is compensated."""
    keys: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    last: dict[tuple[str, str, int], Reply] = {}
    for answer in noted(log, Answered):
        called = answer.called
        keys[called.saga_id, called.step, called.operation].add(called.key)
        last[called.saga_id, called.step, called.operation] = answer.reply
    assert all(len(found) == 1 for found in keys.values()), "G2"
    for saga_id, state in states.items():
        assert state in ("COMPLETED", "COMPENSATED"), f"{saga_id}: {state}"
        for name in STEPS:
            executed, compensated = (last.get((saga_id, name, operation)) for operation in (EXECUTE, COMPENSATE))
            if state == "COMPLETED":
                assert isinstance(executed, Done)
                assert compensated is None, "G6"
            elif executed is not None and not isinstance(executed, Refused):
                assert isinstance(compensated, Done), f"G4: {saga_id} {name}"


async def assert_covered(log: Sequence[Entry], journal: SqliteJournal) -> None:
    """G1: the journal has every start that was acknowledged, and every attempt that was made."""
    for started in noted(log, Started):
        assert await journal.find(started.saga_id) is not None, f"G3: {started} is lost"
    for called in noted(log, Called):
        events = await journal.read(called.saga_id)
        attempts = [event.attempt_started for event in events if event.HasField("attempt_started")]
        assert any(
            (each.step, each.operation, each.attempt) == (called.step, called.operation, called.attempt)
            for each in attempts
        ), f"G1: {called}"
        assert called.key.startswith(events[0].saga_created.uid), "G2"
    assert (await verify(journal)).problems == []


async def first_life(directory: Path, seed: int) -> list[Entry]:
    """Sagas run from start to end on a disk that fails now and then."""
    disk, chance = FaultyDisk(), random.Random(seed)
    async with coordinator(put({}, directory), disk, seed) as it:
        await it.register()
        spoiling = asyncio.create_task(spoil(disk, chance))
        await asyncio.gather(*map(it.start, SAGAS))
        await asyncio.sleep(chance.random() * 20)
        spoiling.cancel()
        disk.heal()
        states = {saga_id: await it.ended(saga_id) for saga_id in SAGAS}  # with no help from anybody
        assert it.engine.unfinished == 0
        assert_effects(disk.log, states)
        await assert_covered(disk.log, it.journal)
    return disk.log


async def second_life(directory: Path, disk: FaultyDisk, seed: int) -> None:
    """Another coordinator finds what is left; every saga ends whose start was acknowledged."""
    log = [*disk.log]
    async with coordinator(directory, disk, seed) as it:
        await assert_covered(log, it.journal)
        await it.engine.recover()
        found = {started.saga_id for started in noted(log, Started)}
        assert_effects(disk.log, {saga_id: await it.ended(saga_id) for saga_id in found})


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_the_disk_does_every_call_is_covered_and_every_saga_ends(tmp_path: Path, seed: int) -> None:
    """G1–G4, G6: seen at calls and starts, as a power cut would leave it, or a kill; then taken up to the end."""
    log = await first_life(tmp_path / "first", seed)
    chance = random.Random(seed)
    moments = [place + 1 for place, entry in enumerate(log) if isinstance(entry, Noted)]
    for number, at in enumerate(chance.sample(moments, CUTS)):
        directory = tmp_path / f"{number}"
        if number % 3:
            notes = [entry for entry in log[:at] if isinstance(entry, Noted)]
            await second_life(put(power_cut(log[:at], chance), directory), FaultyDisk(notes), seed)
        else:
            await second_life(put(kill(log[:at]), directory), FaultyDisk(log[:at]), seed)


async def test_a_disk_that_cannot_be_read_while_a_coordinator_starts_keeps_nothing_from_being_taken_up(
    tmp_path: Path,
) -> None:
    """G3: the queue of exclusive keys, the list of the unfinished and each saga are asked for until they can be had."""
    log = await first_life(tmp_path / "first", seed=0)
    calls = [place for place, entry in enumerate(log) if isinstance(entry, Noted) and isinstance(entry.what, Called)]
    at = calls[len(calls) // 2]
    disk = FaultyDisk(log[:at])
    with installed(disk):
        journal = await SqliteJournal.open(put(kill(log[:at]), tmp_path / "killed") / "journal.db")
        it = Coordinator(journal, disk, 0)
        disk.fail(*faulty_disk.broken_reads(), *faulty_disk.full_disk())
        opening = asyncio.create_task(it.engine.open())
        await asyncio.sleep(1)
        assert not opening.done()
        disk.heal()
        await opening
        disk.fail(*faulty_disk.broken_reads(), *faulty_disk.full_disk())
        recovering = asyncio.create_task(it.engine.recover())
        await asyncio.sleep(20)
        assert not recovering.done()
        disk.heal()
        assert await recovering > 0
        found = {started.saga_id for started in noted(log[:at], Started)}
        assert_effects(disk.log, {saga_id: await it.ended(saga_id) for saga_id in found})
        await it.engine.close()
        await journal.close()
