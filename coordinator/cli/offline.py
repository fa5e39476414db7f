# ruff: noqa: ASYNC240  # a command has its process to itself: nobody waits while it asks for a file
"""What `saga journal` does to a journal's file, without a coordinator.

Looking, exporting and backing up take no lock and may go on beside a running coordinator; what writes needs the file
for itself. This module must not write to the terminal.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from coordinator.cli.errors import CommandError
from coordinator.cli.output import short_name
from coordinator.core import limits
from coordinator.engine.archive import ArchiveUnreadable, ArchiveWriter, read_archive
from coordinator.engine.clock import SystemClock
from coordinator.engine.retention import Retention, RetentionPolicy, count_retirable
from coordinator.engine.transfer import Collector, Imported, ImportRefused, carry_out_import, check_import
from coordinator.engine.verify import verify
from coordinator.journal.errors import JournalError, JournalUnavailable, SagaNotFound
from coordinator.journal.port import JournalReader, SagaCursor, SagaIndex
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_view import SqliteView
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SagaState

PROBLEMS_SHOWN_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Verified:
    """What a journal holds, and everything that is wrong with it."""

    sagas: dict[str, int] = field(default_factory=dict)  # by state
    events: int = 0
    definitions: int = 0
    tombstones: int = 0
    problems: list[str] = field(default_factory=list)


async def verify_file(file: Path) -> Verified:
    """Read all of the file: SQLite's own check first, then every definition and every saga."""
    async with _looking_at(file) as view:
        damages = await view.damages()
        try:
            findings = await verify(view)
        except JournalUnavailable as error:
            if not damages:
                raise
            return Verified(problems=[*damages, f"the rest cannot be read: {error}"])
    sagas = {short_name(SagaState.DESCRIPTOR, state): count for state, count in sorted(findings.sagas.items())}
    return Verified(sagas, findings.events, findings.definitions, findings.tombstones, [*damages, *findings.problems])


async def export_to(file: Path, target: Path, saga_ids: Sequence[str], criteria: SagaFilter) -> int:
    """Export the sagas of those ids, or without any those that the filter lets through; returns how many."""
    async with _looking_at(file) as view:
        with _file_errors(), ArchiveWriter(target) as archive:
            collector = Collector(view)
            async for index in _chosen(view, saga_ids, criteria):
                try:
                    records = await collector.collect(index)
                except SagaNotFound:
                    continue  # it was retired since it was listed
                for record in records:
                    archive.add(record)
            archive.publish()
    return archive.sagas


async def import_from(file: Path, source: Path, *, dry_run: bool) -> Imported:
    """Put the sagas of an export into a journal, which is made where there is none."""
    with _file_errors():
        if dry_run and not file.exists():
            return await check_import(read_archive(source), None)
        if dry_run:
            async with _looking_at(file) as view:
                return await check_import(read_archive(source), view)
        if not file.exists():  # what does not fit a new journal must not leave an empty one
            await check_import(read_archive(source), None)
        async with _writing(file) as journal:
            imported = await check_import(read_archive(source), journal)
            await carry_out_import(read_archive(source), journal)
            return imported


async def backup_to(file: Path, target: Path) -> int:
    """Copy the journal as it is at one moment; returns the copy's size in bytes."""
    async with _looking_at(file) as view:
        with _file_errors():
            await view.backup(target)
            return target.stat().st_size


async def retire_in(file: Path, policy: RetentionPolicy, *, dry_run: bool) -> dict[str, int]:
    """Do one pass of retention, or count the sagas that one would take."""
    if dry_run:
        async with _looking_at(file) as view:
            return {"sagas": await count_retirable(view, time.time_ns() - policy.saga_ns)}
    if not file.exists():
        raise CommandError(f"there is no file {file}")
    async with _writing(file) as journal:
        with _file_errors():
            return asdict(await Retention(journal, SystemClock(), policy, bytes_kept=0).run_once())


async def _chosen(view: JournalReader, saga_ids: Sequence[str], criteria: SagaFilter) -> AsyncIterator[SagaIndex]:
    for saga_id in dict.fromkeys(saga_ids):
        index = await view.find(saga_id)
        if index is None:
            raise SagaNotFound(saga_id)
        yield index
    if saga_ids:
        return
    after: SagaCursor | None = None
    while True:
        page = await view.list_sagas(criteria, after, limits.PAGE_SIZE_MAX)
        for index in page.items:
            yield index
        after = page.next
        if after is None:
            return


@asynccontextmanager
async def _looking_at(file: Path) -> AsyncIterator[SqliteView]:
    """The journal's file without a lock on it. CommandError where it, or part of it, cannot be read."""
    try:
        view = await SqliteView.open(file)
        try:
            yield view
        finally:
            await view.close()
    except JournalError as error:
        raise CommandError(str(error)) from None


@asynccontextmanager
async def _writing(file: Path) -> AsyncIterator[SqliteJournal]:
    """The journal, for this program alone. CommandError where a coordinator has it."""
    try:
        journal = await SqliteJournal.open(file)
        try:
            yield journal
        finally:
            await journal.close()
    except JournalError as error:
        raise CommandError(str(error)) from None


@contextmanager
def _file_errors() -> Iterator[None]:
    """CommandError where a file beside the journal cannot be read, made or used."""
    try:
        yield
    except (OSError, ArchiveUnreadable) as error:
        raise CommandError(str(error)) from None
    except ImportRefused as error:
        shown = error.problems[:PROBLEMS_SHOWN_MAX]
        more = [f"… and {len(error.problems) - len(shown)} more"] if len(shown) < len(error.problems) else []
        raise CommandError("nothing can be imported", details=[*shown, *more]) from None
