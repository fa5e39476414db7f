"""What processes use: CPU time, memory and room on the disk.

A process is looked at with everything below it. Nothing here may use much itself: memory is looked at twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

_LOOK_S: Final = 0.5
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


@dataclass(slots=True)
class Usage:
    """What was used meanwhile: CPU seconds by process, and the most memory of all together, as bytes of PSS."""

    cpu_s: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int = 0


@asynccontextmanager
async def measured(processes: Mapping[str, int]) -> AsyncIterator[Usage]:
    """Measure processes, by name, as long as the context is open; what is yielded is filled in at its end."""
    usage = Usage()
    watched = {name: psutil.Process(pid) for name, pid in processes.items()}
    before = _cpu_s(watched)
    watching = asyncio.create_task(_watch(watched, usage))
    try:
        yield usage
    finally:
        usage.cpu_s = {name: used_s - before.get(name, 0.0) for name, used_s in _cpu_s(watched).items()}
        watching.cancel()
        await asyncio.wait([watching])
        usage.peak_bytes = max(usage.peak_bytes, _memory_bytes(watched))


def rss_bytes(pid: int) -> int:
    """A process's resident memory."""
    return int(psutil.Process(pid).memory_info().rss)


def journal_bytes(journal: Path) -> int:
    """What a SQLite file and its log take."""
    files = (journal, journal.with_name(f"{journal.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def in_memory(folder: Path) -> bool:
    """Whether a folder's file system is none on a disk, so that what is synced there costs nothing."""
    resolved = folder.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if resolved.is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype in _IN_MEMORY


def _tree(name: str, process: psutil.Process) -> Mapping[psutil.Process, str]:
    """A process, and those below it by the names of their programs."""
    found = {process: name}
    with contextlib.suppress(psutil.Error):
        found |= {child: child.name() for child in process.children(recursive=True)}
    return found


def _cpu_s(watched: Mapping[str, psutil.Process]) -> Counter[str]:
    used: Counter[str] = Counter()
    for name, process in watched.items():
        for member, label in _tree(name, process).items():
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                used[label] += times.user + times.system  # type: ignore[assignment]  # a Counter may hold floats
    return used


def _memory_bytes(watched: Mapping[str, psutil.Process]) -> int:
    total = 0
    for name, process in watched.items():
        for member in _tree(name, process):
            with contextlib.suppress(psutil.Error):
                total += member.memory_full_info().pss
    return total


async def _watch(watched: Mapping[str, psutil.Process], usage: Usage) -> None:
    while True:
        usage.peak_bytes = max(usage.peak_bytes, await asyncio.to_thread(_memory_bytes, watched))
        await asyncio.sleep(_LOOK_S)
