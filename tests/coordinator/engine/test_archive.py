import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.core import limits
from coordinator.engine.archive import (
    ArchivedDefinition,
    ArchivedSaga,
    ArchiveUnreadable,
    ArchiveWriter,
    Record,
    read_archive,
)
from coordinator.journal.port import DefinitionVersion
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED

DEFINITION = ArchivedDefinition(DefinitionVersion("order", 3, b"\x00\xff", "d", "dd", 12, deprecated=True), b"\xfe")


def saga(saga_id: str = "é\n", count: int = 3) -> ArchivedSaga:
    events = [SagaEvent(saga_id=saga_id, sequence=number) for number in range(1, count + 1)]
    events[0].saga_created.input.value = b"\xff\x00"
    return ArchivedSaga(saga_id, "uid", "order", 3, SAGA_STATE_COMPENSATED, events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sagas.jsonl.gz"


def write(path: Path, *records: Record) -> None:
    with ArchiveWriter(path) as archive:
        for record in records:
            archive.add(record)
        archive.publish()


def write_lines(path: Path, *documents: Any) -> None:
    with gzip.open(path, "wb") as packed:
        for document in documents:
            packed.write(document if isinstance(document, bytes) else json.dumps(document).encode() + b"\n")


HEADER = {"format": "saga-export", "version": 1}


def test_records_come_back_as_they_went(path: Path) -> None:
    records: list[Record] = [DEFINITION, saga(), saga("b", 1)]
    write(path, *records)
    assert list(read_archive(path)) == records
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_who_they_are_can_be_read_without_this_program(path: Path) -> None:
    write(path, DEFINITION, saga("order-42"))
    with gzip.open(path) as packed:
        header, definition, shown = map(json.loads, packed)
    assert header == HEADER
    assert (definition["definition"], definition["version"]) == ("order", 3)
    assert (shown["saga_id"], shown["definition"], shown["state"]) == ("order-42", "order", "COMPENSATED")


def test_only_its_owner_may_read_it(path: Path) -> None:
    write(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_block_that_raises_leaves_nothing(path: Path) -> None:
    def break_off() -> None:
        with ArchiveWriter(path) as archive:
            archive.add(saga())
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert list(path.parent.iterdir()) == []


def test_a_file_that_exists_or_is_being_written_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError), ArchiveWriter(path):
        pytest.fail("it began")
    assert path.read_text() == "precious"
    path.unlink()
    with ArchiveWriter(path) as first:
        with pytest.raises(FileExistsError), ArchiveWriter(path):
            pytest.fail("it began")
        first.add(saga())
        first.publish()
    assert len(list(read_archive(path))) == 1


@pytest.mark.parametrize(
    "documents",
    [
        (),
        (b"no json\n",),
        ({"format": "other"},),
        ([],),
        ({**HEADER, "version": 2},),
        (HEADER, {"saga_id": "a"}),
        (HEADER, {"saga_id": "a", "uid": "u", "definition": "d", "version": 1, "state": "NEW", "events": []}),
        (HEADER, {"saga_id": "a", "uid": "u", "definition": "d", "version": 1, "state": "FAILED", "events": ["/w=="]}),
        (HEADER, {"saga_id": "a", "uid": "u", "definition": "d", "version": 1, "state": "FAILED", "events": ["*"]}),
        (HEADER, {"definition": "d"}),
        (HEADER, 7),
    ],
    ids=str,
)
def test_what_is_no_export_is_told_with_its_line(path: Path, documents: tuple[Any, ...]) -> None:
    write_lines(path, *documents)
    with pytest.raises(ArchiveUnreadable, match=path.name):
        list(read_archive(path))


def test_a_file_that_is_cut_off_or_was_never_packed_is_told(path: Path) -> None:
    write(path, DEFINITION, *(saga(str(number)) for number in range(50)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArchiveUnreadable, match="damaged"):
        list(read_archive(path))
    path.write_text("plain")
    with pytest.raises(ArchiveUnreadable):
        list(read_archive(path))


def test_g14_a_line_has_a_longest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_LINE_BYTES_MAX", 1000)
    write_lines(path, HEADER, {"saga_id": "x" * 1000})
    with pytest.raises(ArchiveUnreadable, match="longer than 1000"):
        list(read_archive(path))
