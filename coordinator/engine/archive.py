"""The file that sagas are exported to: compressed lines, which hold all that is needed to look at them elsewhere.

Each line is a JSON object. The first says what the file is; then come definition versions and sagas, each version
before the first saga that runs on it. Who they are can be read with `zcat`; protobuf messages stand as their own bytes,
in base64, because a saga that comes back must be exactly the one that went. A file appears under its name when it is
whole and on stable storage.

This module must not know a journal.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import DecodeError

from coordinator.core import limits
from coordinator.journal.port import DefinitionVersion
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SagaState

FORMAT: Final = "saga-export"
FORMAT_VERSION: Final = 1

_STATE_PREFIX: Final = "SAGA_STATE_"


class ArchiveUnreadable(Exception):
    """The file is no export, or is damaged; the text says where."""


@dataclass(frozen=True, slots=True)
class ArchivedDefinition:
    """A definition's version, with the descriptors that it was checked against (G11)."""

    stored: DefinitionVersion
    descriptors: bytes


@dataclass(frozen=True, slots=True)
class ArchivedSaga:
    """All events of a saga, and the definition's version that it runs on."""

    saga_id: str
    uid: str
    definition: str
    version: int
    state: SagaState.ValueType
    events: Sequence[SagaEvent]


Record = ArchivedDefinition | ArchivedSaga


class ArchiveWriter:
    """Writes a new file: `add` records inside a `with` block, then `publish`. Without that the block leaves no file.

    Raises FileExistsError, at the block's beginning, where there is a file of that name, and OSError.
    """

    def __init__(self, path: Path) -> None:
        self.sagas = 0
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")

    def __enter__(self) -> Self:
        if self._path.exists():
            raise FileExistsError(f"{self._path} exists already")
        # As private as its contents may be. An export to that name which is under way is not disturbed.
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._raw = os.fdopen(descriptor, "wb")
        self._packed = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw)
        self._write({"format": FORMAT, "version": FORMAT_VERSION})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._raw.close()
        self._partial.unlink(missing_ok=True)

    def add(self, record: Record) -> None:
        """Write a definition's version, or a saga of one that was written before."""
        if isinstance(record, ArchivedSaga):
            self._write(_from_saga(record))
            self.sagas += 1
        else:
            self._write(_from_definition(record))

    def publish(self) -> None:
        """Return when the file is there under its name, for good; nothing can be added any more."""
        self._packed.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._partial.rename(self._path)
        _sync_directory(self._path.parent)

    def _write(self, document: object) -> None:
        self._packed.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def read_archive(path: Path) -> Iterator[Record]:
    """The records of a file, one in memory at a time. Raises ArchiveUnreadable, and OSError."""
    number = 0
    try:
        with gzip.open(path, "rb") as packed:
            for number, line in enumerate(_lines(packed), 1):
                document = json.loads(line)
                if number == 1:
                    _check_header(document)
                else:
                    yield _record(document)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveUnreadable(f"{path} is no export, or is damaged behind line {number}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, DecodeError) as error:  # whatever a line may hold
        raise ArchiveUnreadable(f"{path}: line {number} is none of an export: {error!r}") from error
    if number == 0:
        raise ArchiveUnreadable(f"{path} is no export: it is empty")


def _lines(packed: gzip.GzipFile) -> Iterator[bytes]:
    while line := packed.readline(limits.ARCHIVE_LINE_BYTES_MAX + 1):
        if len(line) > limits.ARCHIVE_LINE_BYTES_MAX:
            raise ValueError(f"a line is longer than {limits.ARCHIVE_LINE_BYTES_MAX} bytes")
        yield line


def _check_header(document: Any) -> None:
    if document.get("format") != FORMAT:
        raise ValueError("it does not say that it begins one")
    if document["version"] > FORMAT_VERSION:
        raise ValueError(f"a newer program wrote it, in version {document['version']} of the format")


def _record(document: Any) -> Record:
    if "saga_id" in document:
        return _to_saga(document)
    return _to_definition(document)


def _from_saga(saga: ArchivedSaga) -> dict[str, object]:
    return {
        "saga_id": saga.saga_id,
        "uid": saga.uid,
        "definition": saga.definition,
        "version": saga.version,
        "state": SagaState.Name(saga.state).removeprefix(_STATE_PREFIX),
        "events": [_text(event.SerializeToString()) for event in saga.events],
    }


def _to_saga(document: Any) -> ArchivedSaga:
    return ArchivedSaga(
        saga_id=str(document["saga_id"]),
        uid=str(document["uid"]),
        definition=str(document["definition"]),
        version=int(document["version"]),
        state=SagaState.Value(_STATE_PREFIX + document["state"]),
        events=[SagaEvent.FromString(_bytes(event)) for event in document["events"]],
    )


def _from_definition(definition: ArchivedDefinition) -> dict[str, object]:
    stored = definition.stored
    return {
        "definition": stored.name,
        "version": stored.version,
        "digest": stored.digest,
        "create_time_ns": stored.create_time_ns,
        "deprecated": stored.deprecated,
        "content": _text(stored.content),
        "descriptors_digest": stored.descriptors_digest,
        "descriptors": _text(definition.descriptors),
    }


def _to_definition(document: Any) -> ArchivedDefinition:
    stored = DefinitionVersion(
        name=str(document["definition"]),
        version=int(document["version"]),
        content=_bytes(document["content"]),
        digest=str(document["digest"]),
        descriptors_digest=str(document["descriptors_digest"]),
        create_time_ns=int(document["create_time_ns"]),
        deprecated=bool(document["deprecated"]),
    )
    return ArchivedDefinition(stored, _bytes(document["descriptors"]))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error


def _sync_directory(directory: Path) -> None:
    """Have the file's name reach the disk as well."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
