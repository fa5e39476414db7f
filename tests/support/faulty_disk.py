"""A disk that fails as it is told, under the very SQLite that the journal uses.

Python's sqlite3 gives no way to stand between SQLite and the operating system, so this module registers a VFS of its
own with that library, through ctypes. It passes everything on to the VFS that was the default and does two things on
the way: it fails what a test wants to fail, and it writes down every write, sync and truncation, from which `power_cut`
tells what a machine could find on its disk had its power failed at any of these moments. What Python itself writes to
such a file, with `os.pwrite` and `os.fsync`, is treated alike. Syncs take no time: nothing is really handed to a disk.

It must not know what the files hold, nor imitate SQLite: locks, shared memory and the files themselves are the real
ones.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import gc
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest import mock

FULL: Final = sqlite3.SQLITE_FULL
READONLY: Final = sqlite3.SQLITE_READONLY
CANTOPEN: Final = sqlite3.SQLITE_CANTOPEN
IOERR_READ: Final = sqlite3.SQLITE_IOERR_READ
IOERR_WRITE: Final = sqlite3.SQLITE_IOERR_WRITE
IOERR_FSYNC: Final = sqlite3.SQLITE_IOERR_FSYNC
IOERR_TRUNCATE: Final = sqlite3.SQLITE_IOERR_TRUNCATE
NOMEM: Final = sqlite3.SQLITE_NOMEM

_OK: Final = sqlite3.SQLITE_OK
_pwrite: Final = os.pwrite


class Operation(Enum):
    """What SQLite asks of a file."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    TRUNCATE = "truncate"


@dataclass(slots=True)
class Fault:
    """How an operation fails: with `code`, from when it is set until it is healed, or as often as `times` says.

    `file` is how the name of the file ends: `-wal`, `.db`; empty for all. The first `after` operations pass. `done`:
    the operation takes place and fails all the same; a write that is not `done` leaves its first half behind where it
    is `short`. After a sync that failed nobody knows what was kept, and no later sync makes up for it, as on Linux.
    """

    operation: Operation
    code: int
    file: str = ""
    after: int = 0
    times: int | None = None
    done: bool = False
    short: bool = False
    struck: int = 0
    """How often it has failed something."""

    def strikes(self, operation: Operation, name: str) -> bool:
        """Whether this operation is to fail; counts."""
        if operation is not self.operation or not name.endswith(self.file):
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        self.struck += 1
        return True


def full_disk() -> list[Fault]:
    """No room is left."""
    return [Fault(Operation.WRITE, FULL, short=True)]


def broken_writes() -> list[Fault]:
    """Every write fails."""
    return [Fault(Operation.WRITE, IOERR_WRITE)]


def broken_syncs() -> list[Fault]:
    """Whatever was written, nobody can say that it stays."""
    return [Fault(Operation.SYNC, IOERR_FSYNC)]


def read_only() -> list[Fault]:
    """The file system was mounted anew, for reading only, as Linux does after an error."""
    changing = (Operation.WRITE, Operation.SYNC, Operation.TRUNCATE)
    return [Fault(operation, READONLY) for operation in changing]


def broken_reads() -> list[Fault]:
    """Every read fails."""
    return [Fault(Operation.READ, IOERR_READ)]


# --- What was written -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A file had this content when SQLite opened it first."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes went to a file."""

    name: str
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Write them there; what lies between the file's end and them is zero."""
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file was cut to a size."""

    name: str
    size: int

    def apply(self, content: bytearray) -> None:
        """Cut it, or fill it up."""
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass(frozen=True, slots=True)
class Synced:
    """What had gone to a file stays; not `whole`: any part of it does, and no later sync changes that."""

    name: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file was deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What a test wanted to remember at this moment."""

    what: Any


Entry = Found | Written | Truncated | Synced | Deleted | Noted
_Change = Written | Truncated


@dataclass(slots=True)
class _Stored:
    """A file: what is sure to be there, and what may be."""

    stable: bytearray = field(default_factory=bytearray)
    pending: list[_Change] = field(default_factory=list)

    def settle(self, survives: Callable[[_Change], _Change | None]) -> None:
        """Decide about everything that is pending."""
        for change in self.pending:
            surviving = survives(change)
            if surviving is not None:
                surviving.apply(self.stable)
        self.pending.clear()


def power_cut(log: Sequence[Entry], chance: random.Random) -> dict[str, bytes]:
    """The files as a machine may find them whose power failed when the last entry of `log` was made.

    What was synced is there. Of everything else any part is, in whatever order it was written, and a write may be torn.
    A file that was deleted may be back.
    """
    files: dict[str, _Stored] = {}
    for entry in log:
        match entry:
            case Found():
                files[entry.name] = _Stored(bytearray(entry.content))
            case Written() | Truncated():
                files.setdefault(entry.name, _Stored()).pending.append(entry)
            case Synced():
                survives = _whole if entry.whole else lambda change: _part(change, chance)
                files.setdefault(entry.name, _Stored()).settle(survives)
            case Deleted():
                if entry.name in files and chance.random() < 0.5:
                    del files[entry.name]
            case Noted():
                pass
    for stored in files.values():
        stored.settle(_fate(chance))
    return {name: bytes(stored.stable) for name, stored in files.items() if stored.stable}


def _fate(chance: random.Random) -> Callable[[_Change], _Change | None]:
    """All of it is lost, all is there, or each change fares by itself."""
    mood = chance.random()
    if mood < 0.25:
        return lambda _change: None
    return _whole if mood < 0.4 else lambda change: _part(change, chance)


def _whole(change: _Change) -> _Change:
    return change


def _part(change: _Change, chance: random.Random) -> _Change | None:
    """Lost, kept, or kept up to some byte."""
    mood = chance.random()
    if mood < 0.4:
        return None
    if isinstance(change, Written) and mood < 0.6:
        return Written(change.name, change.offset, change.data[: chance.randrange(len(change.data) + 1)])
    return change


def kill(log: Sequence[Entry]) -> dict[str, bytes]:
    """The files as the next process finds them where only this one was killed: all that was written, synced or not."""
    files: dict[str, bytearray] = {}
    for entry in log:
        match entry:
            case Found():
                files[entry.name] = bytearray(entry.content)
            case Written() | Truncated():
                entry.apply(files.setdefault(entry.name, bytearray()))
            case Deleted():
                files.pop(entry.name, None)
            case Synced() | Noted():
                pass
    return {name: bytes(content) for name, content in files.items()}


def put(files: Mapping[str, bytes], directory: Path) -> Path:
    """Make a directory with these files; returns it."""
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


# --- The disk ---------------------------------------------------------------------------------------------------------


class FaultyDisk:
    """What a test tells, and what the disk wrote down. Files are known by their last name: one directory, one disk.

    `log`: what was written there by a process that was killed since; its files, as `kill` has them, are there.
    """

    def __init__(self, log: Sequence[Entry] = ()) -> None:
        self.log: list[Entry] = [*log]
        self._faults: list[Fault] = []
        self._known: set[str] = set(kill(log))

    def fail(self, *faults: Fault) -> None:
        """Fail so from now on, besides what fails already."""
        self._faults = [*self._faults, *faults]

    def heal(self) -> None:
        """Fail no more."""
        self._faults = []

    def note(self, what: Any) -> None:
        """Write down that something has happened here and now, as seen by the test."""
        self.write_down(Noted(what))

    def write_down(self, entry: Entry) -> None:
        """Keep it in the log."""
        self.log.append(entry)

    def struck(self, operation: Operation, name: str) -> Fault | None:
        """The fault that this operation meets. A disk that takes its orders from elsewhere has its own."""
        return next((fault for fault in self._faults if fault.strikes(operation, name)), None)

    def found(self, path: Path) -> None:
        """SQLite opened a file."""
        if path.name not in self._known:
            self._known.add(path.name)
            self.write_down(Found(path.name, path.read_bytes()))

    def deleted(self, path: Path) -> None:
        """SQLite deleted a file."""
        self._known.discard(path.name)
        self.write_down(Deleted(path.name))


@contextmanager
def installed(disk: FaultyDisk) -> Iterator[FaultyDisk]:
    """Have all files that SQLite opens inside the block lie on this disk. They must be closed when it ends."""
    vfs = _vfs()
    if vfs.disk is not None:
        raise RuntimeError("there is one faulty disk at a time")
    vfs.disk = disk
    try:
        with mock.patch.object(os, "pwrite", vfs.pwrite), mock.patch.object(os, "fsync", vfs.fsync):
            yield disk
    finally:
        vfs.disk = None
    if _open_on(disk):
        gc.collect()  # SQLite closes a file behind its last cursor, and the traceback of an error may have kept one
    assert not _open_on(disk)


def _open_on(disk: FaultyDisk) -> list[str]:
    return [file.path.name for file in _vfs().open_files.values() if file.disk is disk]


# --- SQLite's interface -----------------------------------------------------------------------------------------------


class _IoMethods(Structure):
    """sqlite3_io_methods, version 3; only what stands before the end of version 1 is ever looked at here."""

    _fields_ = (
        ("version", c_int),
        *(
            (name, c_void_p)
            for name in (
                *("close", "read", "write", "truncate", "sync", "file_size", "lock", "unlock", "check_reserved_lock"),
                *("file_control", "sector_size", "device_characteristics"),
                *("shm_map", "shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch"),
            )
        ),
    )


class _File(Structure):
    """sqlite3_file: what follows belongs to the VFS."""

    _fields_ = (("methods", POINTER(_IoMethods)),)


class _VfsStruct(Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("path_max", c_int),
        *((name, c_void_p) for name in ("next", "name", "app_data", "open", "delete")),
        *(
            (name, c_void_p)
            for name in (
                *("access", "full_path", "dl_open", "dl_error", "dl_symbol", "dl_close", "randomness", "sleep"),
                *("current_time", "last_error", "current_time_64", "set_call", "get_call", "next_call"),
            )
        ),
    )


_OPEN: Final = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE: Final = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_CLOSE: Final = CFUNCTYPE(c_int, c_void_p)
_TRANSFER: Final = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE: Final = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC: Final = CFUNCTYPE(c_int, c_void_p, c_int)


class UnknownSqlite(Exception):
    """The library that Python's sqlite3 module uses cannot be reached; the text says why."""


def _library() -> ctypes.CDLL:
    """The SQLite that Python's sqlite3 module uses, and no other one.

    Its symbols are found through that module, as a library that it depends on or as a part of it.
    """
    library = ctypes.CDLL(_sqlite3.__file__)
    try:
        library.sqlite3_sourceid.restype = c_char_p
        source = library.sqlite3_sourceid().decode()
    except AttributeError as error:
        raise UnknownSqlite(f"{_sqlite3.__file__} does not lead to SQLite's symbols") from error
    with sqlite3.connect(":memory:") as db:
        (used,) = db.execute("SELECT sqlite_source_id()").fetchone()
    db.close()
    if source != used:
        raise UnknownSqlite(f"Python uses the SQLite {used}, and only {source} was found")
    library.sqlite3_vfs_find.restype = POINTER(_VfsStruct)
    library.sqlite3_vfs_find.argtypes = (c_char_p,)
    library.sqlite3_vfs_register.argtypes = (POINTER(_VfsStruct), c_int)
    return library


@dataclass(slots=True)
class _OpenFile:
    """A file that SQLite has open."""

    disk: FaultyDisk
    path: Path
    real: _IoMethods


class _Vfs:
    """The VFS. It is made once and never taken away: SQLite keeps pointers to it."""

    def __init__(self) -> None:
        library = _library()
        self.disk: FaultyDisk | None = None
        self.open_files: dict[int, _OpenFile] = {}
        self._real = library.sqlite3_vfs_find(None)
        self._real_open = _OPEN(self._real.contents.open)
        self._real_delete = _DELETE(self._real.contents.delete)
        self._tables: dict[int, tuple[_IoMethods, _IoMethods]] = {}
        self._callbacks = {  # kept, since C code calls them
            "close": _CLOSE(self._close),
            "read": _TRANSFER(self._read),
            "write": _TRANSFER(self._write),
            "truncate": _TRUNCATE(self._truncate),
            "sync": _SYNC(self._sync),
        }
        self._open_callback, self._delete_callback = _OPEN(self._open), _DELETE(self._delete)
        self._name = ctypes.create_string_buffer(b"faulty-disk")
        own = self._own = _VfsStruct.from_buffer_copy(self._real.contents)
        own.next = None
        own.name = ctypes.addressof(self._name)
        own.open = ctypes.cast(self._open_callback, c_void_p)
        own.delete = ctypes.cast(self._delete_callback, c_void_p)
        if library.sqlite3_vfs_register(ctypes.byref(own), 1) != _OK:
            raise UnknownSqlite("SQLite does not take another VFS")

    def _open(self, _: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        disk = self.disk
        path = Path(ctypes.string_at(name).decode()) if name else None
        if disk is not None and path is not None:
            fault = disk.struck(Operation.OPEN, path.name)
            if fault is not None:
                _File.from_address(file).methods = None
                return fault.code
        code: int = self._real_open(ctypes.addressof(self._real.contents), name, file, flags, out_flags)
        if code == _OK and disk is not None and path is not None:
            disk.found(path)
            opened = _File.from_address(file)
            real, own = self._table(opened.methods)
            self.open_files[file] = _OpenFile(disk, path, real)
            opened.methods = ctypes.pointer(own)
        return code

    def _table(self, real: Any) -> tuple[_IoMethods, _IoMethods]:
        """The methods of a kind of file, and the same with ours among them."""
        address = ctypes.addressof(real.contents)
        if address not in self._tables:
            own = _IoMethods.from_buffer_copy(real.contents)
            for name, callback in self._callbacks.items():
                setattr(own, name, ctypes.cast(callback, c_void_p))
            self._tables[address] = (real.contents, own)
        return self._tables[address]

    def _delete(self, _: int, name: int, sync_directory: int) -> int:
        code: int = self._real_delete(ctypes.addressof(self._real.contents), name, sync_directory)
        if code == _OK and self.disk is not None:
            self.disk.deleted(Path(ctypes.string_at(name).decode()))
        return code

    def _close(self, file: int) -> int:
        opened = self.open_files.pop(file)
        return int(_CLOSE(opened.real.close)(file))

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """As os.pwrite, also to a file that lies on the disk."""
        opened = self._opened_as(descriptor)
        if opened is not None:
            _demand(opened.disk.struck(Operation.WRITE, opened.path.name))
            opened.disk.write_down(Written(opened.path.name, offset, data))
        return _pwrite(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        """As os.fsync, also of a file that lies on the disk."""
        opened = self._opened_as(descriptor)
        if opened is not None:
            fault = opened.disk.struck(Operation.SYNC, opened.path.name)
            opened.disk.write_down(Synced(opened.path.name, whole=fault is None))
            _demand(fault)

    def _opened_as(self, descriptor: int) -> _OpenFile | None:
        """The file, where SQLite has it open too."""
        status = os.fstat(descriptor)
        return next((file for file in self.open_files.values() if os.path.samestat(status, file.path.stat())), None)

    def _read(self, file: int, buffer: int, amount: int, offset: int) -> int:
        opened = self.open_files[file]
        fault = opened.disk.struck(Operation.READ, opened.path.name)
        return int(_TRANSFER(opened.real.read)(file, buffer, amount, offset)) if fault is None else fault.code

    def _write(self, file: int, data: int, amount: int, offset: int) -> int:
        opened = self.open_files[file]
        name = opened.path.name
        fault = opened.disk.struck(Operation.WRITE, name)
        if fault is not None and not fault.done:
            amount = amount // 2 if fault.short else 0
        if amount:
            opened.disk.write_down(Written(name, offset, ctypes.string_at(data, amount)))
            code = int(_TRANSFER(opened.real.write)(file, data, amount, offset))
            if code != _OK:
                return code
        return _OK if fault is None else fault.code

    def _truncate(self, file: int, size: int) -> int:
        opened = self.open_files[file]
        name = opened.path.name
        fault = opened.disk.struck(Operation.TRUNCATE, name)
        if fault is not None and not fault.done:
            return fault.code
        opened.disk.write_down(Truncated(name, size))
        code = int(_TRUNCATE(opened.real.truncate)(file, size))
        return code if fault is None else fault.code

    def _sync(self, file: int, _flags: int) -> int:
        opened = self.open_files[file]
        name = opened.path.name
        fault = opened.disk.struck(Operation.SYNC, name)
        if fault is not None and not fault.done:
            opened.disk.write_down(Synced(name, whole=False))
            return fault.code
        opened.disk.write_down(Synced(name, whole=True))
        return _OK if fault is None else fault.code


def _demand(fault: Fault | None) -> None:
    if fault is not None:
        raise OSError(errno.ENOSPC if fault.code == FULL else errno.EIO, f"a fault of the test's: {fault.code}")


@cache
def _vfs() -> _Vfs:
    return _Vfs()
