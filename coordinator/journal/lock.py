"""One coordinator at a time on one journal file.

The lock is the operating system's, on a file beside the journal, so that it goes with its holder however that dies. The
file holds the holder's process id for people to read and is never deleted: a lock on a deleted file guards nothing.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from coordinator.journal.errors import JournalLocked


class FileLock:
    """Holds `<path>.lock` from `__enter__` to `__exit__`; `path` must be resolved, so that a file has one name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock without waiting. Raises JournalLocked, and OSError where the lock file cannot be made."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the lock go."""
        os.close(self._descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalLocked(str(self._path), _read_pid(descriptor)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _read_pid(descriptor: int) -> int | None:
    """The holder's process id; None in the instant between its lock and its writing."""
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
