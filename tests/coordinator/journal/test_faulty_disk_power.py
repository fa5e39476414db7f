"""Power cuts, kills and damage: whatever a disk may hold afterwards, the journal on it is whole, and has all that it
said it had (G1).

SAGA_PROPERTY_EXAMPLES sets how many random runs are made; SAGA_PROPERTY_SEED makes one of them, alone.
"""

import asyncio
import os
import random
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.journal.errors import JournalUnavailable, SagaNotFound
from coordinator.journal.port import Append
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_view import SqliteView
from coordinator.journal.sqlite_writer import WriterLimits
from saga.v1.coordinator_pb2 import SagaFilter
from tests.coordinator.journal.builders import event, index
from tests.support import faulty_disk
from tests.support.faulty_disk import Entry, FaultyDisk, Noted, Synced, installed, kill, power_cut, put

EXAMPLES = int(os.environ.get("SAGA_PROPERTY_EXAMPLES", "8"))
SEEDS = [int(os.environ["SAGA_PROPERTY_SEED"])] if "SAGA_PROPERTY_SEED" in os.environ else range(EXAMPLES)
CUTS = 6
NAME = "journal.db"
QUICK = WriterLimits(probe_interval_ns=1_000_000)
FAULTS = (
    faulty_disk.full_disk,
    faulty_disk.broken_writes,
    faulty_disk.broken_syncs,
    faulty_disk.read_only,
    faulty_disk.broken_reads,
)


@dataclass(frozen=True, slots=True)
class Durable:
    """The journal said that a saga is durable up to this sequence."""

    saga_id: str
    sequence: int


@asynccontextmanager
async def opened(directory: Path, disk: FaultyDisk | None = None) -> AsyncIterator[SqliteJournal]:
    with installed(disk or FaultyDisk()):
        journal = await SqliteJournal.open(directory / NAME, QUICK)
        try:
            yield journal
        finally:
            await journal.close()


class Writing:
    """Sagas that are appended to side by side, while the disk fails now and then."""

    def __init__(self, journal: SqliteJournal, disk: FaultyDisk, chance: random.Random) -> None:
        self._journal = journal
        self._disk = disk
        self._chance = chance

    async def write(self, sagas: int, appends: int) -> None:
        spoiling = asyncio.create_task(self._spoil())
        await asyncio.gather(*(self._write_saga(f"s{number}", appends) for number in range(sagas)))
        spoiling.cancel()
        self._disk.heal()

    async def _write_saga(self, saga_id: str, appends: int) -> None:
        last = 0
        for number in range(appends):
            first, count = last + 1, self._chance.randrange(1, 4)
            try:
                await self._journal.append(self._append(saga_id, first, count, f"{number}"))
            except JournalUnavailable:
                last = await self._position(saga_id)
            else:
                last = first + count - 1
            if last:
                self._disk.note(Durable(saga_id, last))

    def _append(self, saga_id: str, first: int, count: int, note: str) -> Append:
        """All its events say which append they belong to, and how many there are."""
        events = [event(saga_id, sequence, f"{first} {count} {note}") for sequence in range(first, first + count)]
        if first == 1:
            events[0].saga_created.version = count
            events[0].saga_created.input.value = b"x" * self._chance.choice((10, 100, 60_000))
        return Append(saga_id, events, index(saga_id, first + count - 1, labels={"count": "x"}))

    async def _position(self, saga_id: str) -> int:
        while True:
            try:
                return (await self._journal.read(saga_id))[-1].sequence
            except SagaNotFound:
                return 0
            except JournalUnavailable:
                await asyncio.sleep(0.001)

    async def _spoil(self) -> None:
        while True:
            await asyncio.sleep(self._chance.random() / 100)
            self._disk.fail(*self._chance.choice(FAULTS)())
            await asyncio.sleep(self._chance.random() / 200)
            self._disk.heal()


async def shown(directory: Path) -> dict[str, int]:
    """What a journal holds: each saga's last sequence. It is whole, and every append is there as a whole."""
    async with opened(directory) as journal:
        return await _shown(journal)


async def _shown(journal: SqliteJournal) -> dict[str, int]:
    page = await journal.list_sagas(SagaFilter(), None, 1000)
    found: dict[str, int] = {}
    for item in page.items:
        events = await journal.read(item.saga_id)
        assert [each.sequence for each in events] == list(range(1, item.last_sequence + 1))
        end = 0
        for each in events:
            if each.sequence > end:  # an append begins
                count = each.saga_created.version or int(each.step_skipped.step.split()[1])
                end = each.sequence + count - 1
        assert item.last_sequence == end, "half an append"
        found[item.saga_id] = end
    return found


async def assert_sound(directory: Path) -> None:
    view = await SqliteView.open(directory / NAME)
    assert await view.damages() == []
    await view.close()


def promised(log: Sequence[Entry]) -> dict[str, int]:
    said = [entry.what for entry in log if isinstance(entry, Noted) and isinstance(entry.what, Durable)]
    return {each.saga_id: each.sequence for each in said}


def assert_kept(log: Sequence[Entry], found: dict[str, int]) -> None:
    lost = {saga_id: sequence for saga_id, sequence in promised(log).items() if found.get(saga_id, 0) < sequence}
    assert not lost, f"lost behind: {found}"


async def written(directory: Path, chance: random.Random, appends: int) -> list[Entry]:
    """What a disk that failed now and then wrote down over the whole life of a journal."""
    disk = FaultyDisk()
    async with opened(put({}, directory), disk) as journal:
        await Writing(journal, disk, chance).write(sagas=6, appends=appends)
    return disk.log


@pytest.mark.parametrize("seed", SEEDS)
async def test_g1_after_a_power_cut_all_that_was_durable_is_there_and_nothing_half(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    log = await written(tmp_path / "first", chance, appends=12)
    for number in range(CUTS):
        at = chance.randrange(len(log) + 1)
        directory = put(power_cut(log[:at], chance), tmp_path / f"cut {number}")
        assert_kept(log[:at], await shown(directory))
        await assert_sound(directory)


@pytest.mark.parametrize("seed", SEEDS)
async def test_g1_what_a_restarted_coordinator_shows_survives_a_power_cut(tmp_path: Path, seed: int) -> None:
    """The one before was killed before a sync, or after one that failed: what it left is made sure of, then shown."""
    chance = random.Random(seed)
    log = await written(tmp_path / "first", chance, appends=4)
    syncs = [(place, entry.whole) for place, entry in enumerate(log) if isinstance(entry, Synced)]
    failed = [place + 1 for place, whole in syncs if not whole]
    before = [place for place, _ in syncs]
    for number in range(CUTS):
        at = chance.choice(failed if failed and number % 2 else before)
        directory = put(kill(log[:at]), tmp_path / f"killed {number}")
        disk = FaultyDisk(log[:at])
        async with opened(directory, disk) as journal:
            found = await _shown(journal)
            shown_at = len(disk.log)
            await journal.append(_two("next", 1))
            appended_at = len(disk.log)
        assert_kept(log[:at], found)
        cut = put(power_cut(disk.log[:shown_at], chance), tmp_path / f"cut {number}")
        assert await shown(cut) == found
        later = put(power_cut(disk.log[:appended_at], chance), tmp_path / f"later cut {number}")
        assert await shown(later) == {**found, "next": 2}


@pytest.mark.parametrize("damage", ["torn", "flipped"])
async def test_of_a_damaged_log_what_stands_before_the_damage_is_kept_and_nothing_half(
    tmp_path: Path, damage: str
) -> None:
    """What was durable is torn afterwards, which no software can prevent: the commits from there on are lost, whole."""
    states: list[tuple[int, dict[str, int]]] = []
    disk = FaultyDisk()
    async with opened(put({}, tmp_path / "first"), disk) as journal:
        for saga_id in ("a", "b"):
            for first in (1, 3):
                await journal.append(_two(saga_id, first))
                states.append((len(kill(disk.log)[f"{NAME}-wal"]), await _shown(journal)))
        files = kill(disk.log)
    log = files[f"{NAME}-wal"]
    [page] = struct.unpack(">I", log[8:12])
    for place in sorted({*range(0, len(log), page // 2 + 7), *range(_WAL_HEADER, len(log) + 1, _FRAME_HEADER + page)}):
        torn = (
            log[:place]
            if damage == "torn"
            else log[:place] + bytes(~byte & 0xFF for byte in log[place:][:1]) + log[place + 1 :]
        )
        found = await shown(put(files | {f"{NAME}-wal": torn}, tmp_path / f"{place}"))
        kept = [state for end, state in states if end <= place]
        assert found == (kept[-1] if kept else {}), place


_WAL_HEADER, _FRAME_HEADER = 32, 24


def _two(saga_id: str, first: int) -> Append:
    events = [event(saga_id, sequence, f"{first} 2") for sequence in (first, first + 1)]
    if first == 1:
        events[0].saga_created.version = 2
    return Append(saga_id, events, index(saga_id, first + 1))
