"""Whether the process that began an external handler still lives, told by a lock that dies with it.

Each owner holds an exclusive lock on a small file of its own beside the database, `<database>-owner-<id>`. However a
process ends, the operating system drops the lock; so a handler that was cut off by a crash can be told from one that
is still at work, at once and without a clock. SQLite does the locking, as it does for the database itself.

Everything here is called while the database's write lock is held, so that no process takes a file away while another
is about to lock it.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

_INFIX = "-owner-"


class Owner:
    """The lock of this process's own, once it is claimed."""

    def __init__(self, database: Path, name: str) -> None:
        self.name = name
        self._database = database
        self._lock: sqlite3.Connection | None = None

    def claim(self) -> None:
        """Take the lock, unless it is held already."""
        if self._lock is None:
            connection = sqlite3.connect(self._path(self.name), isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever written: no second file
            connection.execute("BEGIN EXCLUSIVE")
            self._lock = connection

    def release(self) -> None:
        """Let the lock go and take the file away."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            self._path(self.name).unlink(missing_ok=True)

    def lives(self, name: str) -> bool:
        """Whether another owner holds its lock."""
        return _is_locked(self._path(name))

    def sweep(self) -> None:
        """Take away the files that dead owners left."""
        for path in self._database.parent.glob(f"{self._database.name}{_INFIX}*"):
            if not _is_locked(path):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._database.with_name(f"{self._database.name}{_INFIX}{name}")


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as probe:
        try:
            probe.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                return True
            raise
    return False
