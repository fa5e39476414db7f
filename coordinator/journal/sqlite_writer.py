"""The one task that writes: it takes whatever is queued into one commit, and the next while that one syncs.

Groups form by themselves: while a commit is on its way to the disk, appends pile up and become the next group. No timer
holds one back. The task belongs to the journal and never to a caller: a caller that is cancelled stops waiting, and
its append goes on. This module must not know what is written.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from coordinator import failpoints
from coordinator.core import limits
from coordinator.failpoints import Failpoint
from coordinator.journal.errors import JournalError, JournalUnavailable
from coordinator.journal.health import Health
from coordinator.journal.sqlite_appends import EncodedAppend, probe, write_appends
from coordinator.journal.sqlite_database import Database, transaction

T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class WriterLimits:
    """What the queue and one group may hold; a single append that is larger than that passes alone."""

    queue_events_max: int = limits.JOURNAL_QUEUE_EVENTS_MAX
    queue_bytes_max: int = limits.JOURNAL_QUEUE_BYTES_MAX
    group_events_max: int = limits.JOURNAL_GROUP_EVENTS_MAX
    group_bytes_max: int = limits.JOURNAL_GROUP_BYTES_MAX
    probe_interval_ns: int = limits.JOURNAL_PROBE_INTERVAL_NS


@dataclass(slots=True)
class WriterStatistics:
    """Counted since the journal was opened, probes left out."""

    commits: int = 0
    failed_commits: int = 0


@dataclass(slots=True, eq=False)
class _Entry:
    """An append, or a change that gets a commit to itself, and the future that its caller alone waits for."""

    work: EncodedAppend | Callable[[sqlite3.Connection], object]
    events: int
    size_bytes: int
    done: asyncio.Future[Any]

    def settle(self, outcome: object) -> None:
        if self.done.cancelled():  # the caller has gone; what it asked for is done all the same
            return
        if isinstance(outcome, JournalError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class GroupWriter:
    """Writes through `database` from its construction to `close`, and reports each outcome to `health`."""

    def __init__(self, database: Database, health: Health, writer_limits: WriterLimits) -> None:
        self.statistics = WriterStatistics()
        self._database = database
        self._health = health
        self._limits = writer_limits
        self._queue: deque[_Entry] = deque()
        self._queued_events = 0
        self._queued_bytes = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="journal writer")

    async def append(self, append: EncodedAppend) -> None:
        """Return when the append is durable; raises its refusal, or JournalUnavailable."""
        await self._submit(append, len(append.events), append.size_bytes)

    async def change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run anything else that writes in a transaction of its own; its JournalError is the caller's."""
        return cast("T", await self._submit(change, 1, 0))

    async def close(self) -> None:
        """Write what was accepted, then stop. Later appends are JournalUnavailable."""
        self._closing = True
        self._work.set()
        self._room.set()
        await asyncio.wait([self._task])  # unlike awaiting the task, this never cancels it

    async def _submit(
        self, work: EncodedAppend | Callable[[sqlite3.Connection], object], events: int, size_bytes: int
    ) -> object:
        while self._is_full() and not self._closing:
            self._room.clear()
            await self._room.wait()
        if self._closing:
            raise JournalUnavailable("the journal is closed")
        entry = _Entry(work, events, size_bytes, asyncio.get_running_loop().create_future())
        self._queue.append(entry)
        self._queued_events += events
        self._queued_bytes += size_bytes
        self._work.set()
        return await entry.done

    def _is_full(self) -> bool:
        return (
            self._queued_events >= self._limits.queue_events_max or self._queued_bytes >= self._limits.queue_bytes_max
        )

    async def _run(self) -> None:
        try:
            while self._queue or not self._closing:
                if self._queue:
                    await self._write(self._take_group())
                elif await self._idle_for_too_long():
                    await self._probe()
        finally:
            self._abandon()

    async def _idle_for_too_long(self) -> bool:
        """Wait for work. True: none came, the journal is unhealthy, and it is time to see whether it still is."""
        self._work.clear()
        interval_ns = None if self._health.healthy else self._limits.probe_interval_ns
        try:
            async with asyncio.timeout(None if interval_ns is None else interval_ns / limits.SECOND_NS):
                await self._work.wait()
        except TimeoutError:
            return True
        return False

    def _take_group(self) -> list[_Entry]:
        group = [self._take()]
        events, size_bytes = group[0].events, group[0].size_bytes
        while self._queue and _can_share(group[0]) and _can_share(self._queue[0]):
            events += self._queue[0].events
            size_bytes += self._queue[0].size_bytes
            if events > self._limits.group_events_max or size_bytes > self._limits.group_bytes_max:
                break
            group.append(self._take())
        return group

    def _take(self) -> _Entry:
        entry = self._queue.popleft()
        self._queued_events -= entry.events
        self._queued_bytes -= entry.size_bytes
        self._room.set()
        return entry

    async def _write(self, group: Sequence[_Entry]) -> None:
        try:
            outcomes = await self._database.run(lambda db: _commit(db, group))
        except asyncio.CancelledError:
            _fail(group, "the journal was stopped while it wrote")
            raise
        except Exception as error:  # whatever it was, the writer lives on and nobody is told "durable"
            self.statistics.failed_commits += 1
            self._report_failure(error)
            _fail(group, f"the journal could not be written: {error}")
        else:
            self.statistics.commits += 1
            self._report_success()
            for entry, outcome in zip(group, outcomes, strict=True):
                entry.settle(outcome)

    async def _probe(self) -> None:
        try:
            await self._database.run(probe)
        except sqlite3.Error as error:
            self._report_failure(error)
        else:
            self._report_success()

    def _report_failure(self, error: Exception) -> None:
        if self._health.report(False) or not isinstance(error, sqlite3.Error):
            _LOG.error("the journal cannot be written: %s", error, exc_info=error)

    def _report_success(self) -> None:
        if self._health.report(True):
            _LOG.info("the journal can be written again")

    def _abandon(self) -> None:
        """Leave nobody waiting: the event loop is ending without a `close`, or close has emptied the queue."""
        self._closing = True
        self._room.set()
        _fail(self._queue, "the journal was stopped before it wrote")
        self._queue.clear()


def _can_share(entry: _Entry) -> bool:
    return isinstance(entry.work, EncodedAppend)


def _commit(db: sqlite3.Connection, group: Sequence[_Entry]) -> Sequence[object]:
    """The outcome of each entry: on the connection's thread."""
    first = group[0].work
    if isinstance(first, EncodedAppend):
        return write_appends(db, [cast("EncodedAppend", entry.work) for entry in group])
    try:
        with transaction(db):
            outcome = first(db)
            failpoints.hit(Failpoint.JOURNAL_BEFORE_CHANGE, error=sqlite3.OperationalError)
    except JournalError as refusal:
        return [refusal]
    failpoints.hit(Failpoint.JOURNAL_AFTER_CHANGE, error=sqlite3.OperationalError)
    return [outcome]


def _fail(entries: Iterable[_Entry], reason: str) -> None:
    for entry in entries:
        entry.settle(JournalUnavailable(reason))
