"""Retires sagas that ended long ago: exports them first where that is asked for, deletes them, and leaves tombstones.

It works in small batches through the journal's one writer and pauses between them, so that live sagas go on. Never
touched are sagas that stand FAILED, that cannot be read, or whose parent is unfinished and may yet compensate them.
Nothing is deleted that was to be exported and is not on stable storage.

A stop between export and deletion leaves sagas in a file and in the journal; the next pass exports them once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coordinator.core import limits
from coordinator.engine.archive import ArchiveWriter
from coordinator.engine.clock import Clock
from coordinator.engine.transfer import Collector
from coordinator.engine.uid import uuid7
from coordinator.journal.errors import JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.port import EndedCursor, Journal, JournalReader, SagaIndex, Tombstone

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept, and for how long.

    `saga_ns` counts from a saga's end, `tombstone_ns` from when it was retired. Without an `export_directory`, which
    must exist, nothing is exported.
    """

    saga_ns: int
    tombstone_ns: int = limits.TOMBSTONE_RETENTION_DEFAULT_NS
    export_directory: Path | None = None


@dataclass(slots=True)
class Retired:
    """What a pass did."""

    sagas: int = 0
    tombstones_dropped: int = 0
    reclaimed_bytes: int = 0


class Retention:
    """Keeps a journal to a policy."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        policy: RetentionPolicy,
        bytes_kept: int = limits.JOURNAL_FREE_BYTES_KEPT,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._policy = policy
        self._bytes_kept = bytes_kept
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A pass now and then, for as long as the context is open. A batch that has begun is finished."""
        task = asyncio.create_task(self._run(), name="retention")
        try:
            yield
        finally:
            self._stopping.set()
            await task

    async def run_once(self) -> Retired:
        """One pass over all that is old enough now. Raises JournalUnavailable, and OSError of an export."""
        done = Retired()
        before_ns = self._clock.now_ns() - self._policy.saga_ns
        async for batch in _old_batches(self._journal, before_ns):
            done.sagas += await self._retire(batch)
            done.reclaimed_bytes += await self._reclaim()
            if await self._stopped_within(limits.RETENTION_PAUSE_NS):
                return done
        await self._drop_tombstones(done)
        await self._reclaim_the_rest(done)
        return done

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                _tell(await self.run_once())
            except (JournalUnavailable, OSError) as error:
                log.error("sagas could not be retired, nothing of them is lost: %s", error)
            except Exception:  # live sagas go on all the same
                log.exception("sagas could not be retired")
            await self._stopped_within(limits.RETENTION_INTERVAL_NS)

    async def _retire(self, batch: Sequence[SagaIndex]) -> int:
        now_ns = self._clock.now_ns()
        tombstones = [found for index in batch if (found := await self._tombstone(index, now_ns)) is not None]
        if not tombstones:
            return 0
        if self._policy.export_directory is not None:
            kept = {tombstone.saga_id for tombstone in tombstones}
            indexes = [index for index in batch if index.saga_id in kept]
            exported = await self._export(self._policy.export_directory / _file_name(now_ns), indexes)
            tombstones = [tombstone for tombstone in tombstones if tombstone.saga_id in exported]
        return await self._journal.retire(tombstones)

    async def _tombstone(self, index: SagaIndex, now_ns: int) -> Tombstone | None:
        """What the saga is to leave; None where it must stay, or has gone meanwhile."""
        assert index.end_time_ns is not None
        try:
            if index.quarantined:
                return None
            [first] = await self._journal.read(index.saga_id, limit=1)
        except (SagaNotFound, UnreadableSaga):
            return None
        digest = first.saga_created.request_digest
        return Tombstone(index.saga_id, index.uid, index.state, digest, index.end_time_ns, now_ns)

    async def _export(self, path: Path, indexes: Sequence[SagaIndex]) -> set[str]:
        """Export what can be read; returns which sagas are on stable storage."""
        exported: set[str] = set()
        collector = Collector(self._journal)
        with ArchiveWriter(path) as archive:
            for index in indexes:
                try:
                    records = await collector.collect(index)
                except (SagaNotFound, UnreadableSaga):
                    continue
                for record in records:
                    await asyncio.to_thread(archive.add, record)
                exported.add(index.saga_id)
            await asyncio.to_thread(archive.publish)
        return exported

    async def _drop_tombstones(self, done: Retired) -> None:
        before_ns = self._clock.now_ns() - self._policy.tombstone_ns
        while dropped := await self._journal.drop_tombstones(before_ns, limits.RETENTION_BATCH_SAGAS):
            done.tombstones_dropped += dropped
            if await self._stopped_within(limits.RETENTION_PAUSE_NS):
                return

    async def _reclaim_the_rest(self, done: Retired) -> None:
        while reclaimed := await self._reclaim():
            done.reclaimed_bytes += reclaimed
            if await self._stopped_within(limits.RETENTION_PAUSE_NS):
                return

    async def _reclaim(self) -> int:
        return await self._journal.reclaim(limits.RETENTION_RECLAIM_BYTES, self._bytes_kept)

    async def _stopped_within(self, length_ns: int) -> bool:
        """Let others go first; True where it is time to stop."""
        try:
            async with asyncio.timeout(length_ns / limits.SECOND_NS):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


async def count_retirable(journal: JournalReader, before_ns: int) -> int:
    """How many sagas a pass would take: those that ended before an instant and that nothing keeps."""
    count = 0
    async for batch in _old_batches(journal, before_ns):
        for index in batch:
            count += not index.quarantined
    return count


async def _old_batches(journal: JournalReader, before_ns: int) -> AsyncIterator[Sequence[SagaIndex]]:
    """Sagas that ended before an instant, the earliest first, in batches that one change can take."""
    after: EndedCursor | None = None
    while True:
        page = await journal.ended(before_ns, after, limits.RETENTION_BATCH_SAGAS)
        for batch in _bounded(page.items):
            yield batch
        after = page.next
        if after is None:
            return


def _bounded(indexes: Sequence[SagaIndex]) -> Iterator[list[SagaIndex]]:
    batch: list[SagaIndex] = []
    events = 0
    for index in indexes:
        if batch and events + index.last_sequence > limits.RETENTION_BATCH_EVENTS:
            yield batch
            batch, events = [], 0
        batch.append(index)
        events += index.last_sequence
    if batch:
        yield batch


def _file_name(now_ns: int) -> str:
    """Files sort by when they were written, and never have one name."""
    moment = datetime.fromtimestamp(now_ns // limits.SECOND_NS, UTC)
    return f"sagas-{moment:%Y%m%dT%H%M%SZ}-{uuid7(now_ns)}.jsonl.gz"


_COUNTS: Final = ("sagas", "tombstones_dropped", "reclaimed_bytes")


def _tell(done: Retired) -> None:
    counts = {name: getattr(done, name) for name in _COUNTS}
    if any(counts.values()):
        log.info("ended sagas were retired", extra=counts)
