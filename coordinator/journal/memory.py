"""The in-memory twin of the SQLite journal, for tests and for simulators.

Same semantics, same bytes: events are encoded and decoded as they are on disk. An append becomes durable on a later
turn of the event loop, as a disk would have it, and whoever holds the journal can say when, and whether it fails. This
module must not be used where sagas are worth anything.
"""

import asyncio
import contextlib
import operator
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from coordinator.core.instants import from_timestamp
from coordinator.journal.codec import decode_event, descriptors_digest, encode_event
from coordinator.journal.errors import (
    Conflict,
    DefinitionExists,
    JournalError,
    JournalUnavailable,
    SagaExists,
    SagaNotFound,
    UnreadableSaga,
)
from coordinator.journal.health import Health
from coordinator.journal.port import (
    Append,
    DefinitionCursor,
    DefinitionVersion,
    EndedCursor,
    Page,
    RegisteredDefinition,
    SagaCursor,
    SagaIndex,
    Tombstone,
)
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, SAGA_STATE_FAILED, Failure

T = TypeVar("T")


@dataclass(slots=True)
class _Saga:
    key: int
    index: SagaIndex
    bodies: list[bytes]

    @property
    def cursor(self) -> SagaCursor:
        return SagaCursor(self.index.create_time_ns, self.key)


@dataclass(slots=True)
class _Content:
    """What is durable: it outlives the journal object, as a file does."""

    sagas: dict[str, _Saga] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)  # those of tombstones among them
    last_key: int = 0
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    definitions: dict[tuple[str, int], DefinitionVersion] = field(default_factory=dict)
    descriptors: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Write:
    """A change of the content, and the future that its caller alone waits for."""

    apply: Callable[[], object]
    done: asyncio.Future[Any]

    def settle(self, outcome: object) -> None:
        if self.done.cancelled():  # the caller has gone; what it asked for is done all the same
            return
        if isinstance(outcome, JournalError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class MemoryJournal:
    """A Journal in memory.

    `fail_next`, `hold`, `release`, `damage` and `reopen` are for whoever plays the disk.
    """

    def __init__(self) -> None:
        self._content = _Content()
        self._health = Health()
        self._writes: deque[_Write] = deque()
        self._failures: deque[bool] = deque()
        self._held = False
        self._closed = False

    # The disk's side.

    def fail_next(self, count: int = 1, *, durable: bool = False) -> None:
        """Have the next `count` writes raise JournalUnavailable; `durable`: what they wrote is there all the same."""
        self._failures.extend([durable] * count)

    def hold(self) -> None:
        """From now on, let nothing become durable."""
        self._held = True

    def release(self) -> None:
        """Let what was held, and all that follows, become durable."""
        self._held = False
        asyncio.get_running_loop().call_soon(self._sync)

    def damage(self, saga_id: str, sequence: int, body: bytes) -> None:
        """Put other bytes in the place of an event."""
        self._content.sagas[saga_id].bodies[sequence - 1] = body

    def reopen(self) -> "MemoryJournal":
        """Crash and start again: a new journal over what was durable. What was not is lost, and this object is dead."""
        self._closed = True
        while self._writes:
            self._writes.popleft().settle(JournalUnavailable("the journal crashed"))
        successor = MemoryJournal()
        successor._content = self._content
        self._content = _Content()
        return successor

    # The Journal's side.

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._health.healthy

    def on_health_change(self, listener: Callable[[bool], None]) -> None:
        """Have `listener` called with each new value of `healthy`."""
        self._health.listen(listener)

    async def append(self, append: Append) -> None:
        """Return when the events are durable."""
        bodies = [encode_event(event) for event in append.events]
        await self._write(lambda: self._apply(append, bodies))

    async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
        """Events behind `after_sequence`."""
        await self._turn()
        return self._events(saga_id, after_sequence, None if limit is None else after_sequence + limit)

    async def read_many(self, saga_ids: Sequence[str]) -> Mapping[str, Sequence[SagaEvent]]:
        """All events of several sagas."""
        await self._turn()
        found = {}
        for saga_id in saga_ids:
            with contextlib.suppress(SagaNotFound, UnreadableSaga):
                found[saga_id] = self._events(saga_id, 0, None)
        return found

    async def find(self, saga_id: str) -> SagaIndex | None:
        """What lists show of one saga."""
        await self._turn()
        saga = self._content.sagas.get(saga_id)
        return None if saga is None else saga.index

    async def unfinished(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas that have not ended, oldest first."""
        await self._turn()
        sagas = sorted((saga for saga in self._content.sagas.values() if not saga.index.ended), key=_cursor)
        return _saga_page([saga for saga in sagas if after is None or saga.cursor > after], limit)

    async def count_unfinished(self) -> Mapping[tuple[str, int], int]:
        """How many sagas have not ended, by definition and version."""
        await self._turn()
        indexes = (saga.index for saga in self._content.sagas.values())
        return Counter((index.definition, index.version) for index in indexes if not index.ended)

    async def keyed(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas whose exclusive keys are not free, oldest first."""
        await self._turn()
        keyed = (saga for saga in self._content.sagas.values() if saga.index.exclusive_keys)
        sagas = sorted((saga for saga in keyed if not saga.index.ended or self._is_needed(saga.index)), key=_cursor)
        return _saga_page([saga for saga in sagas if after is None or saga.cursor > after], limit)

    async def list_sagas(
        self, saga_filter: SagaFilter, after: SagaCursor | None, limit: int, *, oldest_first: bool = False
    ) -> Page[SagaIndex, SagaCursor]:
        """Sagas that the filter lets through, in the order asked for."""
        await self._turn()
        matching = (saga for saga in self._content.sagas.values() if _matches(saga_filter, saga.index))
        sagas = sorted(matching, key=_cursor, reverse=not oldest_first)
        behind = operator.gt if oldest_first else operator.lt
        return _saga_page([saga for saga in sagas if after is None or behind(saga.cursor, after)], limit)

    async def ended(self, before_ns: int, after: EndedCursor | None, limit: int) -> Page[SagaIndex, EndedCursor]:
        """Sagas that ended before an instant, the earliest end first."""
        await self._turn()
        found = {
            EndedCursor(saga.index.end_time_ns, saga.key): saga.index
            for saga in self._content.sagas.values()
            if saga.index.ended and saga.index.end_time_ns is not None and saga.index.end_time_ns < before_ns
            if not self._is_needed(saga.index)
        }
        rest = sorted(cursor for cursor in found if after is None or cursor > after)
        shown = rest[:limit]
        return Page([found[cursor] for cursor in shown], shown[-1] if len(rest) > limit else None)

    async def find_tombstone(self, saga_id: str) -> Tombstone | None:
        """What a retired saga left."""
        await self._turn()
        return self._content.tombstones.get(saga_id)

    async def count_tombstones(self) -> int:
        """How many retired sagas are remembered."""
        await self._turn()
        return len(self._content.tombstones)

    async def retire(self, tombstones: Sequence[Tombstone]) -> int:
        """Delete sagas and leave their tombstones."""
        return await self._write(lambda: sum(map(self._retire, tombstones)))

    async def drop_tombstones(self, before_ns: int, limit: int) -> int:
        """Forget sagas that were retired before an instant."""
        return await self._write(lambda: self._drop_tombstones(before_ns, limit))

    async def reclaim(self, bytes_max: int, bytes_kept: int) -> int:  # noqa: ARG002  # the port's signature
        """Give room back: there is never any to give."""
        self._check_open()
        return 0

    async def quarantine(self, saga_id: str, reason: str) -> None:
        """Show a saga as unreadable."""
        await self._write(lambda: self._quarantine(saga_id, reason))

    async def put_definition(
        self, *, name: str, content: bytes, digest: str, descriptors: bytes, create_time_ns: int
    ) -> RegisteredDefinition:
        """Store a content as the name's next version, or return its version that has that digest."""
        return await self._write(lambda: self._put(name, content, digest, descriptors, create_time_ns))

    async def adopt_definition(self, definition: DefinitionVersion, descriptors: bytes) -> None:
        """Store a version of another journal under the number that it had there."""
        await self._write(lambda: self._adopt(definition, descriptors))

    async def definition(self, name: str, version: int = 0) -> DefinitionVersion | None:
        """One version."""
        await self._turn()
        if version:
            return self._content.definitions.get((name, version))
        versions = self._versions(name)
        return min(versions, key=lambda item: (item.deprecated, -item.version), default=None)

    async def descriptors(self, digest: str) -> bytes | None:
        """A descriptor set."""
        await self._turn()
        return self._content.descriptors.get(digest)

    async def list_definitions(
        self, name: str, after: DefinitionCursor | None, limit: int
    ) -> Page[DefinitionVersion, DefinitionCursor]:
        """Versions by name, newest first."""
        await self._turn()
        versions = sorted(self._versions(name), key=lambda item: (item.name, -item.version))
        if after is not None:
            place = (after.name, -after.version)
            versions = [item for item in versions if (item.name, -item.version) > place]
        shown = versions[:limit]
        more = len(versions) > limit
        return Page(shown, DefinitionCursor(shown[-1].name, shown[-1].version) if more else None)

    async def deprecate_definition(self, name: str, version: int) -> DefinitionVersion | None:
        """Mark a version."""
        return await self._write(lambda: self._deprecate(name, version))

    async def close(self) -> None:
        """Carry accepted appends through; whatever is asked later is JournalUnavailable."""
        self._held = False
        self._sync()
        self._closed = True

    # What a write does once the disk lets it.

    def _apply(self, append: Append, bodies: list[bytes]) -> None:
        saga = self._content.sagas.get(append.saga_id)
        if append.first_sequence == 1:
            assert append.index is not None
            self._create(append.index, bodies)
        elif saga is None:
            raise SagaNotFound(append.saga_id)
        elif len(saga.bodies) != append.first_sequence - 1:
            raise Conflict(append.saga_id, append.first_sequence, len(saga.bodies))
        else:
            saga.bodies += bodies
            saga.index = _updated(saga.index, append.index, append.last_sequence)

    def _create(self, index: SagaIndex, bodies: list[bytes]) -> None:
        content = self._content
        if index.saga_id in content.sagas or index.saga_id in content.tombstones or index.uid in content.uids:
            raise SagaExists(index.saga_id)
        content.uids.add(index.uid)
        content.last_key += 1
        content.sagas[index.saga_id] = _Saga(content.last_key, replace(index, labels=dict(index.labels)), bodies)

    def _quarantine(self, saga_id: str, reason: str) -> None:
        saga = self._saga(saga_id)
        saga.index = replace(
            saga.index,
            state=saga.index.state if saga.index.ended else SAGA_STATE_FAILED,
            needs_attention=True,
            failure=Failure(kind=FAILURE_KIND_UNREADABLE, message=reason),
        )

    def _retire(self, tombstone: Tombstone) -> bool:
        saga = self._content.sagas.get(tombstone.saga_id)
        if saga is None or not saga.index.ended or not _fits(tombstone, saga.index) or self._is_needed(saga.index):
            return False
        del self._content.sagas[tombstone.saga_id]
        self._content.tombstones[tombstone.saga_id] = tombstone
        return True

    def _drop_tombstones(self, before_ns: int, limit: int) -> int:
        oldest = sorted(self._content.tombstones.values(), key=lambda tombstone: tombstone.retire_time_ns)
        dropped = [tombstone for tombstone in oldest if tombstone.retire_time_ns < before_ns][:limit]
        for tombstone in dropped:
            del self._content.tombstones[tombstone.saga_id]
            self._content.uids.remove(tombstone.uid)
        return len(dropped)

    def _adopt(self, definition: DefinitionVersion, descriptors: bytes) -> None:
        for known in self._versions(definition.name):
            if (known.version == definition.version) != (known.digest == definition.digest):
                raise DefinitionExists(definition.name, definition.version)
        key = descriptors_digest(descriptors)
        self._content.descriptors.setdefault(key, descriptors)
        stored = replace(definition, descriptors_digest=key)
        self._content.definitions.setdefault((definition.name, definition.version), stored)

    def _put(
        self, name: str, content: bytes, digest: str, descriptors: bytes, create_time_ns: int
    ) -> RegisteredDefinition:
        versions = self._versions(name)
        for known in versions:
            if known.digest == digest:
                return RegisteredDefinition(known, created=False)
        key = descriptors_digest(descriptors)
        self._content.descriptors.setdefault(key, descriptors)
        version = max((known.version for known in versions), default=0) + 1
        stored = DefinitionVersion(name, version, content, digest, key, create_time_ns)
        self._content.definitions[name, stored.version] = stored
        return RegisteredDefinition(stored, created=True)

    def _deprecate(self, name: str, version: int) -> DefinitionVersion | None:
        known = self._content.definitions.get((name, version))
        if known is None:
            return None
        self._content.definitions[name, version] = replace(known, deprecated=True)
        return self._content.definitions[name, version]

    # How writes reach the disk.

    async def _write(self, apply: Callable[[], T]) -> T:
        self._check_open()
        loop = asyncio.get_running_loop()
        write = _Write(apply, loop.create_future())
        self._writes.append(write)
        loop.call_soon(self._sync)
        return cast("T", await write.done)

    def _sync(self) -> None:
        while self._writes and not self._held:
            write = self._writes.popleft()
            if self._failures:
                self._fail(write, durable=self._failures.popleft())
            else:
                self._carry_out(write)

    def _carry_out(self, write: _Write) -> None:
        try:
            write.settle(write.apply())
        except JournalError as refusal:
            write.settle(refusal)
        self._health.report(True)

    def _fail(self, write: _Write, *, durable: bool) -> None:
        if durable:
            with contextlib.suppress(JournalError):  # a refusal has nothing to make durable
                write.apply()
        write.settle(JournalUnavailable("the journal could not be written: as was asked for"))
        self._health.report(False)
        asyncio.get_running_loop().call_soon(self._heal)

    def _heal(self) -> None:
        """Find out, as a probe does, that the disk is well again."""
        if not self._failures:
            self._health.report(True)

    async def _turn(self) -> None:
        """Let others run, as a real read would, and refuse to read once closed."""
        self._check_open()
        await asyncio.sleep(0)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise JournalUnavailable("the journal is closed")

    def _saga(self, saga_id: str) -> _Saga:
        try:
            return self._content.sagas[saga_id]
        except KeyError:
            raise SagaNotFound(saga_id) from None

    def _events(self, saga_id: str, after_sequence: int, end: int | None) -> list[SagaEvent]:
        numbered = enumerate(self._saga(saga_id).bodies[after_sequence:end], after_sequence + 1)
        return [decode_event(saga_id, sequence, body) for sequence, body in numbered]

    def _is_needed(self, index: SagaIndex) -> bool:
        """Whether its root has not ended, so that it may yet have to be compensated."""
        root = self._content.sagas.get(index.root_saga_id)
        return root is not None and not root.index.ended

    def _versions(self, name: str) -> list[DefinitionVersion]:
        return [item for item in self._content.definitions.values() if name in ("", item.name)]


def _cursor(saga: _Saga) -> SagaCursor:
    return saga.cursor


def _fits(tombstone: Tombstone, index: SagaIndex) -> bool:
    """Whether the saga is as its tombstone says."""
    known = (index.uid, index.state, index.end_time_ns)
    return known == (tombstone.uid, tombstone.state, tombstone.end_time_ns)


def _saga_page(sagas: Sequence[_Saga], limit: int) -> Page[SagaIndex, SagaCursor]:
    shown = sagas[:limit]
    return Page([saga.index for saga in shown], shown[-1].cursor if len(sagas) > limit else None)


def _updated(known: SagaIndex, given: SagaIndex | None, last_sequence: int) -> SagaIndex:
    """What lists show after an append: its index, except for what the first one fixed."""
    if given is None:
        return replace(known, last_sequence=last_sequence)
    return replace(
        given,
        uid=known.uid,
        definition=known.definition,
        version=known.version,
        create_time_ns=known.create_time_ns,
        parent_saga_id=known.parent_saga_id,
        root_saga_id=known.root_saga_id,
        exclusive_keys=known.exclusive_keys,
        labels=known.labels,
        participants=known.participants,
    )


def _matches(wanted: SagaFilter, index: SagaIndex) -> bool:
    text = wanted.failure_text
    failure = index.failure or Failure()
    return all(
        (
            not wanted.states or index.state in wanted.states,
            wanted.definition in ("", index.definition),
            wanted.version in (0, index.version),
            all(index.labels.get(name) == value for name, value in wanted.labels.items()),
            not wanted.HasField("create_time_from") or index.create_time_ns >= from_timestamp(wanted.create_time_from),
            not wanted.HasField("create_time_until") or index.create_time_ns < from_timestamp(wanted.create_time_until),
            not wanted.HasField("needs_attention") or index.needs_attention == wanted.needs_attention,
            not wanted.HasField("paused") or index.paused == wanted.paused,
            not wanted.HasField("overdue") or index.overdue == wanted.overdue,
            not wanted.participant or wanted.participant in index.participants,
            text in failure.reason or text in failure.message,
            not wanted.exclusive_key or wanted.exclusive_key in index.exclusive_keys,
            wanted.parent_saga_id in ("", index.parent_saga_id),
        )
    )
