import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.meter import in_memory, journal_bytes, measured

BUSY = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"


async def test_cpu_time_and_memory_of_a_process_are_counted_under_its_name() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BUSY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with measured({"busy": process.pid}) as usage:
        await process.stdout.readline()
    await process.communicate(b"\n")
    assert usage.cpu_s.keys() == {"busy"}
    assert usage.cpu_s["busy"] > 0.05
    assert usage.peak_bytes > 1 << 20


def test_a_journal_is_its_file_and_its_log(tmp_path: Path) -> None:
    journal = tmp_path / "journal.db"
    journal.write_bytes(b"1234")
    assert journal_bytes(journal) == 4
    (tmp_path / "journal.db-wal").write_bytes(b"56")
    assert journal_bytes(journal) == 6


def test_a_folder_is_in_memory_where_the_mount_that_is_nearest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint="/memory", fstype="tmpfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    assert in_memory(Path("/memory/below"))
    assert not in_memory(Path("/memory-not"))
