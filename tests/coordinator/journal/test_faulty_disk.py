"""The journal on a disk that fails: nothing half is written, who asked is told, health follows, and all is well again
as soon as the disk is.
"""

import asyncio
import itertools
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.core import limits
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_writer import WriterLimits
from tests.coordinator.journal.builders import follow, sequences, start
from tests.support import faulty_disk
from tests.support.faulty_disk import (
    CANTOPEN,
    FULL,
    IOERR_FSYNC,
    IOERR_READ,
    IOERR_WRITE,
    NOMEM,
    READONLY,
    Fault,
    FaultyDisk,
    Operation,
    installed,
    kill,
    put,
)
from tests.support.waiting import until

NEVER_NS, AT_ONCE_NS = 10**15, 1_000_000

FAULTS: dict[str, Callable[[], Sequence[Fault]]] = {
    "the disk is full": faulty_disk.full_disk,
    "it is full behind the first page": lambda: [Fault(Operation.WRITE, FULL, after=2, short=True)],
    "no write succeeds": faulty_disk.broken_writes,
    "the last write fails": lambda: [Fault(Operation.WRITE, IOERR_WRITE, after=3)],
    "no sync succeeds": faulty_disk.broken_syncs,
    "the sync fails when all is there": lambda: [Fault(Operation.SYNC, IOERR_FSYNC, done=True)],
    "the file system is read-only": faulty_disk.read_only,
    "nothing can be read": lambda: [*faulty_disk.broken_reads(), *faulty_disk.broken_writes()],
    "no memory is left": lambda: [Fault(Operation.WRITE, NOMEM)],
}


class Watched:
    """A journal, and what it says of its health."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.journal = journal
        self.heard: asyncio.Queue[bool] = asyncio.Queue()
        journal.on_health_change(self.heard.put_nowait)

    async def last(self, saga_id: str) -> int:
        return (await self.journal.read(saga_id))[-1].sequence

    async def attempt(self, *asked: Awaitable[object]) -> list[type]:
        return [type(outcome) for outcome in await asyncio.gather(*asked, return_exceptions=True)]


async def watched(path: Path, probe_interval_ns: int = AT_ONCE_NS) -> Watched:
    return Watched(await SqliteJournal.open(path / "journal.db", WriterLimits(probe_interval_ns=probe_interval_ns)))


@pytest.mark.parametrize("name", FAULTS)
async def test_an_append_that_fails_is_not_there_and_the_journal_recovers_by_itself(tmp_path: Path, name: str) -> None:
    with installed(FaultyDisk()) as disk:
        it = await watched(tmp_path)
        await it.journal.append(start("a"))
        disk.fail(*FAULTS[name]())
        assert await it.attempt(it.journal.append(follow("a", 2)), it.journal.append(start("b"))) == (
            [JournalUnavailable] * 2
        )
        assert await it.heard.get() is False
        assert not it.journal.healthy
        disk.heal()
        assert await it.heard.get() is True  # nobody has appended anything
        assert await it.last("a") == 1
        assert await it.journal.find("b") is None
        assert await it.attempt(it.journal.append(follow("a", 2)), it.journal.append(start("b"))) == [type(None)] * 2
        assert it.heard.empty()
        await it.journal.close()
    again = await watched(tmp_path)
    assert (await again.last("a"), await again.last("b")) == (2, 1)
    await again.journal.close()


@pytest.mark.parametrize("name", FAULTS)
async def test_a_journal_that_fails_tells_everybody_and_serves_what_it_has(tmp_path: Path, name: str) -> None:
    """G1: what was durable before is still read, unless it is reading that fails."""
    with installed(FaultyDisk()) as disk:
        it = await watched(tmp_path, NEVER_NS)
        await it.journal.append(start("a"))
        disk.fail(*FAULTS[name]())
        definition = {"name": "d", "content": b"", "digest": "d", "descriptors": b"", "create_time_ns": 1}
        asked = [it.journal.append(start(f"s{number}")) for number in range(20)]
        outcomes = await it.attempt(*asked, it.journal.put_definition(**definition), it.journal.quarantine("a", "why"))  # type: ignore[arg-type]  # a dict's values have one type
        assert outcomes == [JournalUnavailable] * 22
        if name != "nothing can be read":
            assert await it.last("a") == 1
            assert await it.journal.find("s0") is None
            assert await it.journal.definition("d") is None
        disk.heal()
        await it.journal.append(follow("a", 2))
        assert sequences(await it.journal.read("a")) == [1, 2]
        await it.journal.close()


@pytest.mark.parametrize("code", [IOERR_READ, NOMEM], ids=["error", "no memory"])
async def test_a_read_that_fails_is_unavailable_and_blames_no_saga(tmp_path: Path, code: int) -> None:
    with installed(FaultyDisk()) as disk:
        it = await watched(tmp_path)
        await it.journal.append(start("a"))
        await it.journal.close()
        it = await watched(tmp_path)  # nothing of it is cached
        disk.fail(Fault(Operation.READ, code))
        assert await it.attempt(it.journal.read("a"), it.journal.find("a"), it.journal.unfinished(None, 10)) == (
            [JournalUnavailable] * 3
        )
        disk.heal()
        assert await it.last("a") == 1
        await it.journal.close()


async def test_a_probe_that_finds_no_memory_does_not_end_the_writer(tmp_path: Path) -> None:
    with installed(FaultyDisk()) as disk:
        it = await watched(tmp_path)
        fault = Fault(Operation.WRITE, NOMEM)
        disk.fail(fault)
        assert await it.attempt(it.journal.append(start("a"))) == [JournalUnavailable]
        await until(lambda: fault.struck >= 3)  # the append's, and those of two probes
        disk.heal()
        await it.journal.append(start("a"))
        await it.journal.close()


async def test_a_file_that_cannot_take_the_log_in_holds_up_no_commit(tmp_path: Path) -> None:
    """What is in the log is durable; it stays there until the file can be written."""
    with installed(FaultyDisk()) as disk:
        it = await watched(tmp_path)
        fault = Fault(Operation.WRITE, IOERR_WRITE, file=".db")
        disk.fail(fault)
        await it.journal.append(start("a"))
        for sequence in range(2, 60):
            await it.journal.append(follow("a", sequence, note="x" * 100_000))
        assert fault.struck
        assert it.journal.healthy
        files = kill(disk.log)
        disk.heal()
        await it.journal.close()
    directory = put(files, tmp_path / "killed")
    again = await watched(directory)
    assert await again.last("a") == 59
    await again.journal.close()


async def test_a_file_system_that_is_really_full_is_named_and_is_well_again_when_there_is_room(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "1m") as small:
        it = await watched(small)
        await it.journal.append(start("a"))
        filler = small / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small).free))
        with pytest.raises(JournalUnavailable, match="full"):
            await it.journal.append(follow("a", 2, note="x" * 100_000))
        assert await it.heard.get() is False
        assert await it.last("a") == 1
        filler.unlink()
        assert await it.heard.get() is True
        await it.journal.append(follow("a", 2, note="x" * 100_000))
        await it.journal.close()


@contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    """A file system of its own; who may not mount one skips the test."""
    directory.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory), capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(("umount", "--lazy", directory), check=True)


# --- Opening ----------------------------------------------------------------------------------------------------------


async def _left_behind(directory: Path, *, killed: bool) -> dict[str, bytes]:
    """The files of a journal with two sagas: as a process left them that was killed, or that closed it."""
    with installed(FaultyDisk()) as disk:
        it = await watched(put({}, directory))
        await it.journal.append(start("a"))
        await it.journal.append(start("b"))
        files = kill(disk.log)
        await it.journal.close()
    return files if killed else kill(disk.log)


async def test_a_disk_that_fails_at_any_moment_of_opening_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    """Every operation of the opening fails in its turn: a new file, one that was closed, one whose owner was killed."""
    states: dict[str, dict[str, bytes]] = {
        "new": {},
        "closed": await _left_behind(tmp_path / "c", killed=False),
        "killed": await _left_behind(tmp_path / "k", killed=True),
    }
    codes = {
        Operation.OPEN: CANTOPEN,
        Operation.READ: IOERR_READ,
        Operation.WRITE: FULL,
        Operation.SYNC: IOERR_FSYNC,
        Operation.TRUNCATE: IOERR_WRITE,
    }
    refused = set()
    for name, operation in itertools.product(states, codes):
        for after in itertools.count():
            directory = put(states[name], tmp_path / f"{name} {operation.name} {after}")
            fault = Fault(operation, codes[operation], after=after, short=True)
            if not await _opens(directory, fault):
                refused.add((name, operation))
            with installed(FaultyDisk()):
                again = await watched(directory)
                if states[name]:
                    assert (await again.last("a"), await again.last("b")) == (1, 1)
                await again.journal.append(start("c"))
                await again.journal.close()
            if not fault.struck:  # opening takes no more operations than that
                break
    assert refused == set(itertools.product(states, codes.keys() - {Operation.TRUNCATE}))


async def _opens(directory: Path, fault: Fault) -> bool:
    """Whether the journal opens in spite of the fault; if not, it says so as it should."""
    with installed(FaultyDisk()) as disk:
        disk.fail(fault)
        opening = asyncio.ensure_future(watched(directory))
        await asyncio.wait([opening])
        disk.heal()
        if opening.exception() is None:
            await opening.result().journal.close()
            return True
        with pytest.raises(JournalUnavailable, match=r"journal\.db cannot be"):
            await opening
        return False


# --- Locks ------------------------------------------------------------------------------------------------------------

_HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"BEGIN {sys.argv[2]}")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
async def test_another_program_that_locks_the_file_makes_it_unavailable_until_it_lets_go(
    tmp_path: Path, lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_BUSY_TIMEOUT_NS", 10_000_000)
    it = await watched(tmp_path)
    await it.journal.append(start("a"))
    command = (sys.executable, "-c", _HOLD, str(tmp_path / "journal.db"), lock)
    holder = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert (await holder.stdout.readline()) == b"held\n"
        with pytest.raises(JournalUnavailable, match="locked"):
            await it.journal.append(start("b"))
        assert await it.heard.get() is False
        assert await it.last("a") == 1
    finally:
        await holder.communicate(b"")  # it ends with its input
    assert await it.heard.get() is True
    await it.journal.append(start("b"))
    await it.journal.close()


async def test_a_file_that_may_only_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    """SQLite opens such a file for reading and says nothing; its first append would fail."""
    it = await watched(tmp_path)
    await it.journal.close()
    with installed(FaultyDisk()) as disk:
        disk.fail(Fault(Operation.WRITE, READONLY))
        with pytest.raises(JournalUnavailable, match=r"journal\.db cannot be written: .*readonly"):
            await watched(tmp_path)
    again = await watched(tmp_path)
    await again.journal.append(start("a"))
    await again.journal.close()
