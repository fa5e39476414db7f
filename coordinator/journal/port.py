"""What a journal does, whoever keeps it: the Protocol that the engine and the API are written against.

The promises that every implementation keeps, and `tests/coordinator/journal/test_port.py` holds them to:

- An append is atomic, and `append` returns when it is on stable storage (G1). One append's refusal never fails another.
- Whatever happens to the caller, cancellation too, an append that was accepted is carried through.
- `(saga, sequence)` is unique and without gaps (G12).
- A reader sees what was acknowledged, and never what is not durable yet.

A journal must not fold events, read a clock, or decide anything: every instant is an argument.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, Failure, SagaState

ItemT = TypeVar("ItemT")
CursorT = TypeVar("CursorT")

INSTANT_NS_MAX: Final = (1 << 63) - 1  # what 64 bits hold: the year 2262


@dataclass(frozen=True, slots=True)
class SagaIndex:
    """What lists show of a saga, kept beside its events so that no list has to fold them.

    `saga_id`, `uid`, `definition`, `version`, `create_time_ns`, `labels`, `parent_saga_id`, `root_saga_id`,
    `exclusive_keys` and `participants` are fixed by a saga's first append; later ones change only the rest. Instants
    are nanoseconds since the epoch. `root_saga_id` is the outermost saga above it in this journal; empty: it is its
    own root.
    """

    saga_id: str
    uid: str
    definition: str
    version: int
    state: SagaState.ValueType
    create_time_ns: int
    last_sequence: int
    start_time_ns: int | None = None
    end_time_ns: int | None = None
    deadline_ns: int | None = None
    needs_attention: bool = False
    paused: bool = False
    overdue: bool = False
    failure: Failure | None = None
    parent_saga_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    participants: tuple[str, ...] = ()
    root_saga_id: str = ""
    exclusive_keys: tuple[str, ...] = ()

    @property
    def instants_ns(self) -> tuple[int, ...]:
        """All instants that are set."""
        instants = (self.create_time_ns, self.start_time_ns, self.end_time_ns, self.deadline_ns)
        return tuple(instant for instant in instants if instant is not None)

    @property
    def ended(self) -> bool:
        """It is COMPLETED or COMPENSATED; FAILED is no end."""
        return self.state in (SagaState.SAGA_STATE_COMPLETED, SagaState.SAGA_STATE_COMPENSATED)

    @property
    def quarantined(self) -> bool:
        """Its events could not be read when that was last tried."""
        return self.failure is not None and self.failure.kind == FAILURE_KIND_UNREADABLE


@dataclass(frozen=True, slots=True)
class Append:
    """Consecutive events of one saga that become durable together, or not at all.

    `index` is what lists show once they are; None: as before. A saga's first append needs it. Raises ValueError where
    the parts do not fit each other.
    """

    saga_id: str
    events: Sequence[SagaEvent]
    index: SagaIndex | None = None

    def __post_init__(self) -> None:
        if not self.events:
            raise ValueError("an append needs events")
        self._check_events()
        self._check_index()

    @property
    def first_sequence(self) -> int:
        """The sequence of the first event; 1 creates the saga."""
        return self.events[0].sequence

    @property
    def last_sequence(self) -> int:
        """The sequence of the last event."""
        return self.events[-1].sequence

    def _check_events(self) -> None:
        if self.first_sequence < 1:
            raise ValueError(f"sequences count from 1, not from {self.first_sequence}")
        for sequence, event in enumerate(self.events, self.first_sequence):
            if event.sequence != sequence:
                raise ValueError(f"event {event.sequence} stands where {sequence} belongs")
            if event.saga_id != self.saga_id:
                raise ValueError(f"event {sequence} is of saga {event.saga_id!r}, not {self.saga_id!r}")
            if event.WhichOneof("event") is None:
                raise ValueError(f"event {sequence} does not say what happened")

    def _check_index(self) -> None:
        if self.index is None:
            if self.first_sequence == 1:
                raise ValueError("a saga's first append needs its index")
            return
        if self.index.saga_id != self.saga_id:
            raise ValueError(f"the index is of saga {self.index.saga_id!r}, not {self.saga_id!r}")
        if self.index.last_sequence != self.last_sequence:
            raise ValueError(f"the index stands at {self.index.last_sequence}, the events at {self.last_sequence}")
        for instant_ns in self.index.instants_ns:
            if not 0 <= instant_ns <= INSTANT_NS_MAX:
                raise ValueError(f"{instant_ns} is no instant that can be stored")


@dataclass(frozen=True, slots=True, order=True)
class SagaCursor:
    """A place between two sagas of a list. `key` tells apart those created in the same nanosecond."""

    create_time_ns: int
    key: int


@dataclass(frozen=True, slots=True, order=True)
class EndedCursor:
    """A place between two sagas in the order of their ends. `key` tells apart those of the same nanosecond."""

    end_time_ns: int
    key: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a saga that was retired: enough to refuse its id and uid, and to say why.

    `request_digest` is that of the request which started it.
    """

    saga_id: str
    uid: str
    state: SagaState.ValueType
    request_digest: bytes
    end_time_ns: int
    retire_time_ns: int


@dataclass(frozen=True, slots=True)
class DefinitionCursor:
    """A place between two definition versions of a list."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT, CursorT]):
    """Part of a list; `next` is where the rest begins, None where there is none."""

    items: Sequence[ItemT]
    next: CursorT | None


@dataclass(frozen=True, slots=True)
class DefinitionVersion:
    """A version of a definition as it is stored.

    `content` is what `put_definition` was given. Many versions share a descriptor set, so it is fetched by its digest,
    and what is built from it can be shared too.
    """

    name: str
    version: int
    content: bytes
    digest: str
    descriptors_digest: str
    create_time_ns: int
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class RegisteredDefinition:
    """The version that holds a content; `created` says whether it is new."""

    definition: DefinitionVersion
    created: bool


class JournalReader(Protocol):
    """What can be asked of a journal without the right to write it. Every method can raise JournalUnavailable."""

    async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
        """Events behind `after_sequence`, in order; empty where there are none behind it.

        Raises SagaNotFound, and UnreadableSaga where an event is missing or cannot be understood.
        """
        ...

    async def read_many(self, saga_ids: Sequence[str]) -> Mapping[str, Sequence[SagaEvent]]:
        """All events of several sagas, at the cost of about one read.

        A saga that is not there or cannot be read is left out: `read` says why.
        """
        ...

    async def find(self, saga_id: str) -> SagaIndex | None:
        """What lists show of one saga; None where there is none of that id."""
        ...

    async def unfinished(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas that have not ended, oldest first, quarantined ones among them."""
        ...

    async def count_unfinished(self) -> Mapping[tuple[str, int], int]:
        """How many sagas have not ended, by definition and version; those without any are left out."""
        ...

    async def keyed(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
        """Sagas whose exclusive keys are not free: oldest first, quarantined ones among them.

        They have keys and have not ended, or have ended while their root has not: a child's keys are kept until then.
        """
        ...

    async def list_sagas(
        self, saga_filter: SagaFilter, after: SagaCursor | None, limit: int, *, oldest_first: bool = False
    ) -> Page[SagaIndex, SagaCursor]:
        """Sagas for which all that the filter sets holds, newest first unless the oldest are asked for first.

        Texts are compared as they are, upper and lower case being different. Pages fit each other while sagas come and
        go: one that is there throughout is listed once.
        """
        ...

    async def ended(self, before_ns: int, after: EndedCursor | None, limit: int) -> Page[SagaIndex, EndedCursor]:
        """Sagas that ended, COMPLETED or COMPENSATED, before an instant; the earliest end first. FAILED is no end.

        Those whose root is there and has not ended are left out: they may yet have to be compensated.
        """
        ...

    async def find_tombstone(self, saga_id: str) -> Tombstone | None:
        """What a retired saga left; None where there is none of that id."""
        ...

    async def count_tombstones(self) -> int:
        """How many retired sagas are remembered."""
        ...

    async def definition(self, name: str, version: int = 0) -> DefinitionVersion | None:
        """One version; 0: the newest that is not deprecated, else the newest. None where there is none."""
        ...

    async def descriptors(self, digest: str) -> bytes | None:
        """The descriptor set that a DefinitionVersion names by `descriptors_digest`."""
        ...

    async def list_definitions(
        self, name: str, after: DefinitionCursor | None, limit: int
    ) -> Page[DefinitionVersion, DefinitionCursor]:
        """Versions by name, newest first; of one definition only where `name` is not empty."""
        ...


class Journal(JournalReader, Protocol):
    """The durable record. Every method can raise JournalUnavailable."""

    async def append(self, append: Append) -> None:
        """Return when the events are durable.

        An index may take back an end: a child that COMPLETED is compensated when its parent goes back.

        Waits while the journal's queue is full. Raises Conflict, SagaExists or SagaNotFound, and then nothing was
        written; on JournalUnavailable it may or may not have been: read the saga again before going on (rule 3).
        """
        ...

    async def quarantine(self, saga_id: str, reason: str) -> None:
        """Show a saga as unreadable: FAILED, needing attention, with a failure of kind UNREADABLE (rule 11).

        No event is appended. A saga that has ended keeps its state. The next append with an index takes the mark away.
        Raises SagaNotFound.
        """
        ...

    async def put_definition(
        self, *, name: str, content: bytes, digest: str, descriptors: bytes, create_time_ns: int
    ) -> RegisteredDefinition:
        """Store a content as the name's next version, counted from 1, or return its version that has that digest.

        `digest` stands for content and descriptors together. A version that exists is returned as it is, deprecated
        or not.
        """
        ...

    async def adopt_definition(self, definition: DefinitionVersion, descriptors: bytes) -> None:
        """Store a version of another journal under the number that it had there; again changes nothing.

        The name's later versions count on from there. Raises DefinitionExists where that version, or that digest under
        another version, is there already.
        """
        ...

    async def deprecate_definition(self, name: str, version: int) -> DefinitionVersion | None:
        """Mark a version; doing so again changes nothing. None where there is no such version."""
        ...

    async def retire(self, tombstones: Sequence[Tombstone]) -> int:
        """Delete sagas and leave their tombstones, all in one change that holds up other writes as long as it takes.

        A saga that has not ended, FAILED ones among them, or whose root has not, is gone, or is not exactly as its
        tombstone says, stays as it is. Returns how many were retired.
        """
        ...

    async def drop_tombstones(self, before_ns: int, limit: int) -> int:
        """Forget sagas that were retired before an instant, the earliest first; returns how many."""
        ...

    async def reclaim(self, bytes_max: int, bytes_kept: int) -> int:
        """Give at most so much of the room that deleted sagas left back to the file system; returns how much.

        So much free room is kept for what comes next. Asked again until it returns 0, nothing more is left to give.
        """
        ...

    @property
    def healthy(self) -> bool:
        """Whether the last write reached the disk. The journal finds out by itself when it can write again."""
        ...

    def on_health_change(self, listener: Callable[[bool], None]) -> None:
        """Have `listener` called on the event loop with the new value each time `healthy` changes."""
        ...

    async def close(self) -> None:
        """Carry accepted appends through, then let go of everything. Whatever is asked later is JournalUnavailable."""
        ...
