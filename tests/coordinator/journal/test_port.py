"""The contract: what every journal promises, checked on each of them."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.instants import to_timestamp
from coordinator.journal.errors import (
    Conflict,
    DefinitionExists,
    JournalUnavailable,
    SagaExists,
    SagaNotFound,
    UnreadableSaga,
)
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Append, DefinitionVersion, Journal, SagaIndex
from coordinator.journal.sqlite import SqliteJournal
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import (
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNREADABLE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    Failure,
)
from tests.coordinator.journal.builders import (
    EPOCH_NS,
    UNKNOWN_EVENT,
    ended,
    event,
    events,
    follow,
    index,
    sequences,
    show,
    start,
    tombstone,
    uid_of,
)

LATER_NS = EPOCH_NS + 3_000_000_000


class Bench(Protocol):
    """A journal, and what can be done to it from outside."""

    journal: Journal

    async def reopen(self) -> None: ...

    def damage(self, saga_id: str, sequence: int, body: bytes) -> None: ...


class SqliteBench:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.journal: Journal

    async def open(self) -> "SqliteBench":
        self.journal = await SqliteJournal.open(self._path)
        return self

    async def reopen(self) -> None:
        await self.journal.close()
        await self.open()

    def damage(self, saga_id: str, sequence: int, body: bytes) -> None:
        db = sqlite3.connect(self._path)
        with db:
            db.execute(
                "UPDATE events SET body = ? WHERE sequence = ? AND saga = (SELECT saga FROM sagas WHERE saga_id = ?)",
                (body, sequence, saga_id),
            )
        db.close()


class MemoryBench:
    def __init__(self) -> None:
        self._memory = MemoryJournal()
        self.journal: Journal = self._memory

    async def reopen(self) -> None:
        self._memory = self._memory.reopen()
        self.journal = self._memory

    def damage(self, saga_id: str, sequence: int, body: bytes) -> None:
        self._memory.damage(saga_id, sequence, body)


@pytest.fixture(params=["sqlite", "memory"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    made: Bench = await SqliteBench(tmp_path / "journal.db").open() if request.param == "sqlite" else MemoryBench()
    yield made
    await made.journal.close()


@pytest.fixture
def journal(bench: Bench) -> Journal:
    return bench.journal


async def listed(journal: Journal, saga_filter: SagaFilter | None = None, limit: int = 100) -> list[str]:
    page = await journal.list_sagas(saga_filter or SagaFilter(), None, limit)
    return [saga.saga_id for saga in page.items]


# Appends that do not fit together are the program's own mistakes.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Append("a", []), "needs events"),
        (lambda: Append("a", [event("a", 0)]), "count from 1"),
        (lambda: Append("a", [event("a", 2), event("a", 4)]), "where 3 belongs"),
        (lambda: Append("a", [event("b", 2)]), "is of saga 'b'"),
        (lambda: Append("a", [type(event("a", 2))(saga_id="a", sequence=2)]), "what happened"),
        (lambda: Append("a", events("a", 1)), "needs its index"),
        (lambda: Append("a", events("a", 1), index("b")), "is of saga 'b'"),
        (lambda: Append("a", events("a", 1, 2), index("a", 1)), "stands at 1"),
        (lambda: start("a", deadline_ns=1 << 63), "no instant"),
        (lambda: start("a", start_time_ns=-1), "no instant"),
    ],
)
def test_append_that_does_not_fit_itself_is_a_value_error(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


# Appending and reading.


async def test_g1_events_come_back_as_they_were_appended(journal: Journal) -> None:
    first, second = start("a", 3), follow("a", 4, 2, note="pack")
    await journal.append(first)
    await journal.append(second)
    assert list(await journal.read("a")) == [*first.events, *second.events]


async def test_append_keeps_the_events_as_they_were_when_it_was_made(journal: Journal) -> None:
    append = start("a")
    task = asyncio.create_task(journal.append(append))
    await asyncio.sleep(0)
    append.events[0].saga_created.definition = "changed"
    await task
    assert (await journal.read("a"))[0].saga_created.definition == "order"


async def test_g3_acknowledged_events_outlive_the_journal(bench: Bench) -> None:
    await bench.journal.append(start("a", 2, labels={"order": "17"}))
    await bench.reopen()
    assert sequences(await bench.journal.read("a")) == [1, 2]
    assert (await bench.journal.find("a")) == index("a", 2, labels={"order": "17"})


async def test_read_from_a_sequence_on_and_in_pages(journal: Journal) -> None:
    await journal.append(start("a", 5))
    assert sequences(await journal.read("a", after_sequence=2)) == [3, 4, 5]
    assert sequences(await journal.read("a", after_sequence=1, limit=2)) == [2, 3]
    assert sequences(await journal.read("a", after_sequence=5)) == []
    assert sequences(await journal.read("a", after_sequence=9)) == []


async def test_read_of_an_unknown_saga_is_not_found(journal: Journal) -> None:
    with pytest.raises(SagaNotFound):
        await journal.read("a")
    with pytest.raises(SagaNotFound):
        await journal.read("a", after_sequence=3)


async def test_many_sagas_are_read_together_and_those_that_are_not_there_are_left_out(journal: Journal) -> None:
    appends = [start("a", 3), start("b", 2), start("c")]
    for append in appends:
        await journal.append(append)
    found = await journal.read_many(["c", "nobody", "a"])
    assert found == {"a": list(appends[0].events), "c": list(appends[2].events)}
    assert await journal.read_many([]) == {}


async def test_sagas_do_not_mix(journal: Journal) -> None:
    await journal.append(start("a"))
    await journal.append(start("b"))
    await journal.append(follow("b", 2, note="b's"))
    assert sequences(await journal.read("a")) == [1]
    assert (await journal.read("b"))[1].step_skipped.step == "b's"


@pytest.mark.parametrize("sequence", [1, 3, 5])
async def test_g12_events_that_do_not_follow_the_last_are_a_conflict_and_write_nothing(
    journal: Journal, sequence: int
) -> None:
    await journal.append(start("a", 3))
    wrong = Append("a", events("a", sequence), index("a", sequence, paused=True))
    with pytest.raises(SagaExists if sequence == 1 else Conflict):
        await journal.append(wrong)
    assert sequences(await journal.read("a")) == [1, 2, 3]
    found = await journal.find("a")
    assert found == index("a", 3)


async def test_g12_conflict_says_where_the_saga_stands(journal: Journal) -> None:
    await journal.append(start("a", 3))
    with pytest.raises(Conflict) as caught:
        await journal.append(follow("a", 3, 2))
    assert (caught.value.saga_id, caught.value.sequence, caught.value.last_sequence) == ("a", 3, 3)


async def test_g12_of_two_drivers_one_wins(journal: Journal) -> None:
    await journal.append(start("a"))
    outcomes = await asyncio.gather(
        journal.append(follow("a", 2, note="one")), journal.append(follow("a", 2, note="two")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Conflict]
    assert [item.step_skipped.step for item in await journal.read("a", 1)] == ["one"]


async def test_a_conflict_does_not_fail_its_neighbours(journal: Journal) -> None:
    await journal.append(start("a"))
    outcomes = await asyncio.gather(
        journal.append(start("b")),
        journal.append(follow("a", 3)),
        journal.append(follow("b", 2)),
        journal.append(start("a")),
        journal.append(follow("c", 2)),
        journal.append(follow("a", 2)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        *(type(None), Conflict, type(None), SagaExists, SagaNotFound, type(None))
    ]
    assert sequences(await journal.read("a")) == [1, 2]
    assert sequences(await journal.read("b")) == [1, 2]


async def test_a_uid_is_never_used_twice(journal: Journal) -> None:
    await journal.append(start("a"))
    with pytest.raises(SagaExists):
        await journal.append(start("b", uid=index("a").uid))
    assert await journal.find("b") is None


async def test_append_to_an_unknown_saga_is_not_found(journal: Journal) -> None:
    with pytest.raises(SagaNotFound):
        await journal.append(follow("a", 2))


async def test_g1_a_cancelled_caller_does_not_stop_its_append(journal: Journal) -> None:
    await journal.append(start("a"))
    caller = asyncio.create_task(journal.append(follow("a", 2)))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await journal.append(follow("a", 3))  # queued behind it: would be a conflict if that had been lost
    assert sequences(await journal.read("a")) == [1, 2, 3]


async def test_close_carries_accepted_appends_through(bench: Bench) -> None:
    caller = asyncio.create_task(bench.journal.append(start("a")))
    await asyncio.sleep(0)
    await bench.journal.close()
    await caller
    await bench.reopen()
    assert sequences(await bench.journal.read("a")) == [1]


async def test_a_closed_journal_is_unavailable(journal: Journal) -> None:
    await journal.close()
    await journal.close()
    with pytest.raises(JournalUnavailable):
        await journal.append(start("a"))
    with pytest.raises(JournalUnavailable):
        await journal.read("a")
    with pytest.raises(JournalUnavailable):
        await journal.read_many(["a"])
    with pytest.raises(JournalUnavailable):
        await journal.deprecate_definition("order", 1)


# Sagas that cannot be read (rule 11).


@pytest.mark.parametrize("body", [b"\xff\xff\xff", UNKNOWN_EVENT, b""])
async def test_an_event_that_is_not_understood_makes_its_saga_unreadable_and_no_other(
    bench: Bench, body: bytes
) -> None:
    await bench.journal.append(start("a", 3))
    await bench.journal.append(start("b"))
    bench.damage("a", 2, body)
    with pytest.raises(UnreadableSaga) as caught:
        await bench.journal.read("a")
    assert caught.value.saga_id == "a"
    assert "event 2" in caught.value.reason
    assert sequences(await bench.journal.read("a", after_sequence=2)) == [3]
    assert sequences(await bench.journal.read("b")) == [1]
    assert list(await bench.journal.read_many(["a", "b"])) == ["b"]


async def test_quarantine_shows_the_saga_and_appends_nothing(journal: Journal) -> None:
    await journal.append(start("a", 2, paused=True))
    await journal.quarantine("a", "event 2 is odd")
    found = await journal.find("a")
    assert found is not None
    assert found.quarantined
    assert (found.state, found.needs_attention, found.paused) == (SAGA_STATE_FAILED, True, True)
    assert found.failure == Failure(kind=FAILURE_KIND_UNREADABLE, message="event 2 is odd")
    assert found.last_sequence == 2
    assert [saga.saga_id for saga in (await journal.unfinished(None, 10)).items] == ["a"]
    assert await listed(journal, SagaFilter(needs_attention=True)) == ["a"]


async def test_quarantine_leaves_an_ended_saga_ended(journal: Journal) -> None:
    await journal.append(start("a", state=SAGA_STATE_COMPLETED, end_time_ns=EPOCH_NS + 5))
    await journal.quarantine("a", "event 1 is odd")
    found = await journal.find("a")
    assert found is not None
    assert found.quarantined
    assert found.needs_attention
    assert (found.state, found.end_time_ns) == (SAGA_STATE_COMPLETED, EPOCH_NS + 5)
    assert (await journal.unfinished(None, 10)).items == []


async def test_the_next_index_takes_a_quarantine_away(journal: Journal) -> None:
    await journal.append(start("a"))
    await journal.quarantine("a", "read by an older program")
    await journal.append(show("a", 2))
    assert await journal.find("a") == index("a", 2)


async def test_quarantine_of_an_unknown_saga_is_not_found(journal: Journal) -> None:
    with pytest.raises(SagaNotFound):
        await journal.quarantine("a", "odd")


# The index.


async def test_find_shows_all_of_the_index(journal: Journal) -> None:
    full = index(
        "a",
        state=SAGA_STATE_COMPENSATING,
        start_time_ns=EPOCH_NS + 1,
        end_time_ns=EPOCH_NS + 2,
        deadline_ns=EPOCH_NS + 3,
        needs_attention=True,
        paused=True,
        overdue=True,
        failure=Failure(kind=FAILURE_KIND_REJECTED, step="charge", reason="NO_FUNDS", metadata={"card": "x"}),
        parent_saga_id="mother",
        labels={"order": "17", "größe": "XL"},
        participants=("inventory", "payment"),
        root_saga_id="grandmother",
        exclusive_keys=("account:7", "größe"),
    )
    await journal.append(Append("a", events("a", 1), full))
    assert await journal.find("a") == full


async def test_find_of_an_unknown_saga_is_none(journal: Journal) -> None:
    assert await journal.find("a") is None


async def test_an_index_changes_what_moves_and_not_what_was_fixed_at_the_start(journal: Journal) -> None:
    fixed: dict[str, Any] = {
        "parent_saga_id": "p",
        "root_saga_id": "r",
        "exclusive_keys": ("k",),
        "labels": {"k": "v"},
        "participants": ("x",),
    }
    moving: dict[str, Any] = {
        "state": SAGA_STATE_COMPENSATED,
        "start_time_ns": EPOCH_NS + 1,
        "end_time_ns": EPOCH_NS + 2,
        "deadline_ns": EPOCH_NS + 3,
        "needs_attention": True,
        "paused": True,
        "overdue": True,
        "failure": Failure(reason="R"),
    }
    await journal.append(start("a", **fixed))
    other: dict[str, Any] = {
        "uid": "other",
        "definition": "other",
        "version": 9,
        "create_time_ns": 9,
        "root_saga_id": "other",
        "exclusive_keys": ("other",),
        "labels": {"k": "w"},
    }  # fmt: skip - one line is read best
    await journal.append(show("a", 2, **moving, **other))
    assert await journal.find("a") == index("a", 2, **fixed, **moving)
    assert await listed(journal, SagaFilter(labels={"k": "v"})) == ["a"]
    assert await listed(journal, SagaFilter(labels={"k": "w"})) == []
    assert await listed(journal, SagaFilter(exclusive_key="k")) == ["a"]
    assert await listed(journal, SagaFilter(exclusive_key="other")) == []


async def test_without_an_index_only_the_last_sequence_moves(journal: Journal) -> None:
    await journal.append(start("a", overdue=True))
    await journal.append(follow("a", 2, 3))
    assert await journal.find("a") == index("a", 4, overdue=True)


# Unfinished sagas.


async def test_unfinished_sagas_come_in_pages_oldest_first(journal: Journal) -> None:
    states = [SAGA_STATE_PENDING, SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING, SAGA_STATE_COMPENSATING]
    states += [SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED]
    for number, state in enumerate(states):
        await journal.append(start(f"s{number}", state=state, create_time_ns=EPOCH_NS - number // 5))
    first = await journal.unfinished(None, 3)
    assert [saga.saga_id for saga in first.items] == ["s5", "s0", "s2"]
    second = await journal.unfinished(first.next, 3)
    assert [saga.saga_id for saga in second.items] == ["s3"]
    assert second.next is None


async def test_a_saga_that_ends_is_unfinished_no_more(journal: Journal) -> None:
    await journal.append(start("a"))
    await journal.append(show("a", 2, state=SAGA_STATE_COMPLETED, end_time_ns=EPOCH_NS + 1))
    assert (await journal.unfinished(None, 10)).items == []
    assert await journal.count_unfinished() == {}


async def test_unfinished_sagas_are_counted_by_definition_version(journal: Journal) -> None:
    await journal.append(start("a", participants=("x",)))
    await journal.append(start("b", participants=("x", "y")))
    await journal.append(start("c", version=2, state=SAGA_STATE_FAILED))
    await journal.append(start("d", definition="refund", state=SAGA_STATE_COMPENSATED))
    assert await journal.count_unfinished() == {("order", 1): 2, ("order", 2): 1}


async def test_a_child_that_completed_can_be_compensated_after_all(bench: Bench) -> None:
    """Rule 9: its parent goes back. The end is taken back everywhere, and then comes anew."""
    journal = bench.journal
    done = ended("child", parent_saga_id="mother", root_saga_id="mother")
    await journal.append(done)
    assert [saga.saga_id for saga in (await journal.ended(LATER_NS, None, 10)).items] == ["child"]
    cause = Failure(kind=FAILURE_KIND_REJECTED, step="ship", reason="LOST")
    await journal.append(show("child", 2, state=SAGA_STATE_COMPENSATING, failure=cause))
    await bench.reopen()
    journal = bench.journal
    found = await journal.find("child")
    assert found is not None
    assert (found.state, found.end_time_ns, found.failure) == (SAGA_STATE_COMPENSATING, None, cause)
    assert (await journal.ended(LATER_NS, None, 10)).items == []
    assert (await journal.unfinished(None, 10)).items == [found]
    assert await journal.count_unfinished() == {("order", 1): 1}
    assert await listed(journal, SagaFilter(states=[SAGA_STATE_COMPLETED])) == []
    assert await listed(journal, SagaFilter(states=[SAGA_STATE_COMPENSATING])) == ["child"]
    assert await listed(journal, SagaFilter(failure_text="LOST", parent_saga_id="mother")) == ["child"]
    assert await journal.retire([tombstone(done)]) == 0
    await journal.append(show("child", 3, state=SAGA_STATE_COMPENSATED, end_time_ns=EPOCH_NS + 9))
    assert await journal.count_unfinished() == {}
    assert [saga.saga_id for saga in (await journal.ended(LATER_NS, None, 10)).items] == ["child"]


# Exclusive keys.


async def test_keys_are_not_free_until_their_saga_and_its_root_have_ended(bench: Bench) -> None:
    """Rule 6: FAILED keeps them, and a child's are kept until its root has ended."""
    keys: dict[str, Any] = {"exclusive_keys": ("k", "l")}
    journal = bench.journal
    await journal.append(start("waiting", state=SAGA_STATE_PENDING, create_time_ns=EPOCH_NS + 6, **keys))
    await journal.append(start("root", create_time_ns=EPOCH_NS + 1))
    await journal.append(ended("child", create_time_ns=EPOCH_NS + 5, root_saga_id="root", **keys))
    await journal.append(start("failed", state=SAGA_STATE_FAILED, create_time_ns=EPOCH_NS + 2, **keys))
    await journal.append(start("running", create_time_ns=EPOCH_NS + 4, root_saga_id="root", **keys))
    await journal.append(ended("over", **keys))
    await journal.append(start("without"))
    await journal.append(ended("child of the past", root_saga_id="over", **keys))
    await journal.append(ended("child of nobody", root_saga_id="retired", **keys))
    await bench.reopen()
    journal = bench.journal
    assert await keyed(journal) == ["failed", "running", "child", "waiting"]
    await journal.append(show("root", 2, state=SAGA_STATE_COMPLETED, end_time_ns=EPOCH_NS + 9))
    assert await keyed(journal) == ["failed", "running", "waiting"]
    await journal.append(show("running", 2, state=SAGA_STATE_COMPLETED, end_time_ns=EPOCH_NS + 9))
    assert await keyed(journal) == ["failed", "waiting"]


async def test_a_quarantined_saga_keeps_its_keys(journal: Journal) -> None:
    """Rule 11: nobody knows what it has under way."""
    await journal.append(start("a", exclusive_keys=("k",)))
    await journal.quarantine("a", "event 1 is odd")
    assert await keyed(journal) == ["a"]
    [found] = (await journal.keyed(None, 10)).items
    assert (found.quarantined, found.exclusive_keys) == (True, ("k",))


async def test_sagas_with_keys_come_in_pages_even_within_one_nanosecond(journal: Journal) -> None:
    await journal.append(start("root"))
    for number in range(7):
        make = ended if number % 2 else start
        place = EPOCH_NS + number // 3
        await journal.append(make(f"s{number}", create_time_ns=place, root_saga_id="root", exclusive_keys=("k",)))
    assert await keyed(journal, 2) == [f"s{number}" for number in range(7)]


async def keyed(journal: Journal, limit: int = 100) -> list[str]:
    page = await journal.keyed(None, limit)
    found = [saga.saga_id for saga in page.items]
    while page.next is not None:
        page = await journal.keyed(page.next, limit)
        found += [saga.saga_id for saga in page.items]
    return found


# Lists.


async def test_a_list_is_newest_first(journal: Journal) -> None:
    for number, saga_id in enumerate(["c", "a", "b"]):
        await journal.append(start(saga_id, create_time_ns=EPOCH_NS + number))
    await journal.append(start("older", create_time_ns=EPOCH_NS - 1))
    assert await listed(journal) == ["b", "a", "c", "older"]


async def collect(journal: Journal, saga_filter: SagaFilter, limit: int, oldest_first: bool = False) -> list[list[str]]:
    pages, page = [], await journal.list_sagas(saga_filter, None, limit, oldest_first=oldest_first)
    pages.append(page)
    while page.next is not None:
        page = await journal.list_sagas(saga_filter, page.next, limit, oldest_first=oldest_first)
        pages.append(page)
    return [[saga.saga_id for saga in page.items] for page in pages]


@pytest.mark.parametrize(
    "saga_filter",
    [
        SagaFilter(),
        SagaFilter(labels={"k": "v"}),
        SagaFilter(labels={"k": "v", "l": "w"}),
        SagaFilter(states=[SAGA_STATE_RUNNING]),
        SagaFilter(states=[SAGA_STATE_RUNNING, SAGA_STATE_COMPENSATED]),
        SagaFilter(states=[SAGA_STATE_RUNNING, SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED]),
        SagaFilter(definition="order"),
        SagaFilter(definition="order", labels={"k": "v"}, states=[SAGA_STATE_RUNNING, SAGA_STATE_COMPENSATED]),
        SagaFilter(participant="inventory"),
        SagaFilter(exclusive_key="key"),
        SagaFilter(parent_saga_id="mother"),
        SagaFilter(failure_text="odd"),
        SagaFilter(needs_attention=True, paused=True, overdue=True),
    ],
    ids=str,
)
async def test_pages_join_without_a_gap_even_within_one_nanosecond(journal: Journal, saga_filter: SagaFilter) -> None:
    """In both orders, and where several parts of the journal are read side by side."""
    same: dict[str, Any] = {
        "labels": {"k": "v", "l": "w"},
        "exclusive_keys": ("key",),
        "parent_saga_id": "mother",
        "failure": Failure(message="odd"),
        "needs_attention": True,
        "paused": True,
        "overdue": True,
    }
    for number in range(7):
        state = (SAGA_STATE_RUNNING, SAGA_STATE_COMPENSATED)[
            number % 2 if SAGA_STATE_COMPENSATED in saga_filter.states else 0
        ]
        participants = (("inventory",), ("payment", "inventory"), ("inventory", "shipping"))[number % 3]
        made = {"create_time_ns": EPOCH_NS + number // 3, "state": state, "version": 1 + number % 2}
        await journal.append(start(f"s{number}", participants=participants, **made, **same))
    assert await collect(journal, saga_filter, 2) == [["s6", "s5"], ["s4", "s3"], ["s2", "s1"], ["s0"]]
    assert await collect(journal, saga_filter, 7) == [["s6", "s5", "s4", "s3", "s2", "s1", "s0"]]
    assert await collect(journal, saga_filter, 2, True) == [["s0", "s1"], ["s2", "s3"], ["s4", "s5"], ["s6"]]
    assert await collect(journal, saga_filter, 7, True) == [["s0", "s1", "s2", "s3", "s4", "s5", "s6"]]


async def test_a_saga_that_comes_between_pages_does_not_shift_them(journal: Journal) -> None:
    for number in range(4):
        await journal.append(start(f"s{number}", create_time_ns=EPOCH_NS + number))
    first = await journal.list_sagas(SagaFilter(), None, 2)
    await journal.append(start("new", create_time_ns=EPOCH_NS + 9))
    second = await journal.list_sagas(SagaFilter(), first.next, 2)
    assert [saga.saga_id for saga in second.items] == ["s1", "s0"]


REJECTED = Failure(kind=FAILURE_KIND_REJECTED, step="charge", reason="NO_FUNDS", message="card 12% over_limit")
SHOWN: list[dict[str, Any]] = [
    {"state": SAGA_STATE_RUNNING, "labels": {"region": "eu", "order": "1"}, "participants": ("inventory",)},
    {"version": 2, "paused": True, "participants": ("inventory", "payment"), "exclusive_keys": ("a", "b")},
    {
        "state": SAGA_STATE_COMPLETED,
        "overdue": True,
        "labels": {"region": "eu", "order": "2"},
        "exclusive_keys": ("b",),
        "parent_saga_id": "0",
        "root_saga_id": "0",
    },
    {"state": SAGA_STATE_COMPENSATED, "definition": "refund", "failure": REJECTED},
    {"state": SAGA_STATE_FAILED, "needs_attention": True, "labels": {"region": "us"}, "failure": Failure(step="ship")},
]
T2, T4 = to_timestamp(EPOCH_NS + 2), to_timestamp(EPOCH_NS + 4)


@pytest.mark.parametrize(
    ("saga_filter", "expected"),
    [
        (SagaFilter(), [4, 3, 2, 1, 0]),
        (SagaFilter(states=[SAGA_STATE_RUNNING]), [1, 0]),
        (SagaFilter(states=[SAGA_STATE_RUNNING, SAGA_STATE_FAILED]), [4, 1, 0]),
        (SagaFilter(states=[SAGA_STATE_COMPENSATED]), [3]),
        (SagaFilter(states=[SAGA_STATE_COMPENSATED, SAGA_STATE_RUNNING]), [3, 1, 0]),
        (SagaFilter(states=[SAGA_STATE_COMPLETED]), [2]),
        (SagaFilter(states=[SAGA_STATE_PENDING]), []),
        (SagaFilter(definition="order"), [4, 2, 1, 0]),
        (SagaFilter(definition="order", version=1), [4, 2, 0]),
        (SagaFilter(version=2), [1]),
        (SagaFilter(definition="ord"), []),
        (SagaFilter(labels={"region": "eu"}), [2, 0]),
        (SagaFilter(labels={"region": "eu", "order": "2"}), [2]),
        (SagaFilter(labels={"order": "2", "region": "us"}), []),
        (SagaFilter(labels={"region": "eu"}, states=[SAGA_STATE_RUNNING]), [0]),
        (SagaFilter(labels={"region": ""}), []),
        (SagaFilter(create_time_from=T2), [4, 3, 2]),
        (SagaFilter(create_time_until=T2), [1, 0]),
        (SagaFilter(create_time_from=T2, create_time_until=T4), [3, 2]),
        (SagaFilter(create_time_from=T2, labels={"region": "eu"}), [2]),
        (SagaFilter(create_time_until=Timestamp(seconds=253_402_300_799)), [4, 3, 2, 1, 0]),
        (SagaFilter(create_time_from=Timestamp(seconds=-62_135_596_800)), [4, 3, 2, 1, 0]),
        (SagaFilter(needs_attention=True), [4]),
        (SagaFilter(needs_attention=False), [3, 2, 1, 0]),
        (SagaFilter(needs_attention=True, states=[SAGA_STATE_RUNNING]), []),
        (SagaFilter(paused=True), [1]),
        (SagaFilter(paused=False, definition="order"), [4, 2, 0]),
        (SagaFilter(overdue=True), [2]),
        (SagaFilter(overdue=False), [4, 3, 1, 0]),
        (SagaFilter(participant="inventory"), [1, 0]),
        (SagaFilter(participant="payment"), [1]),
        (SagaFilter(participant="pay"), []),
        (SagaFilter(exclusive_key="b"), [2, 1]),
        (SagaFilter(exclusive_key="b", states=[SAGA_STATE_RUNNING]), [1]),
        (SagaFilter(exclusive_key="a", labels={"region": "eu"}), []),
        (SagaFilter(exclusive_key="b", create_time_from=T2), [2]),
        (SagaFilter(exclusive_key="B"), []),
        (SagaFilter(parent_saga_id="0"), [2]),
        (SagaFilter(parent_saga_id="0", overdue=False), []),
        (SagaFilter(parent_saga_id="2"), []),
        (SagaFilter(participant="payment", definition="refund"), []),
        (SagaFilter(participant="inventory", version=2, paused=True), [1]),
        (SagaFilter(failure_text="NO_FUNDS", definition="refund", states=[SAGA_STATE_COMPENSATED]), [3]),
        (SagaFilter(failure_text="NO_FUNDS", definition="order"), []),
        (SagaFilter(failure_text="NO_FUNDS"), [3]),
        (SagaFilter(failure_text="12% over_limit"), [3]),
        (SagaFilter(failure_text="no_funds"), []),
        (SagaFilter(failure_text="charge"), []),
        (SagaFilter(failure_text="ship"), []),
    ],
    ids=str,
)
async def test_a_list_holds_what_the_filter_lets_through(
    journal: Journal, saga_filter: SagaFilter, expected: list[int]
) -> None:
    for number, fields in enumerate(SHOWN):
        await journal.append(start(str(number), create_time_ns=EPOCH_NS + number, **fields))
    assert await listed(journal, saga_filter) == [str(number) for number in expected]
    oldest_first = await journal.list_sagas(saga_filter, None, 100, oldest_first=True)
    assert [saga.saga_id for saga in oldest_first.items] == [str(number) for number in reversed(expected)]


# Definitions.


async def put(
    journal: Journal, name: str, content: bytes, descriptors: bytes = b"types"
) -> tuple[DefinitionVersion, bool]:
    registered = await journal.put_definition(
        name=name, content=content, digest=content.hex(), descriptors=descriptors, create_time_ns=EPOCH_NS
    )
    return registered.definition, registered.created


async def test_definitions_are_numbered_by_name_and_come_back(bench: Bench) -> None:
    first, created = await put(bench.journal, "order", b"one")
    assert created
    assert (first.name, first.version, first.content, first.digest) == ("order", 1, b"one", b"one".hex())
    assert (first.create_time_ns, first.deprecated) == (EPOCH_NS, False)
    second, _ = await put(bench.journal, "order", b"two")
    other, _ = await put(bench.journal, "refund", b"one")
    assert (second.version, other.version) == (2, 1)
    await bench.reopen()
    assert await bench.journal.definition("order", 1) == first
    assert await bench.journal.definition("refund", 1) == other
    assert await bench.journal.descriptors(first.descriptors_digest) == b"types"


async def test_the_same_content_is_the_same_version_even_behind_a_newer_one(journal: Journal) -> None:
    first, _ = await put(journal, "order", b"one")
    await put(journal, "order", b"two")
    again, created = await put(journal, "order", b"one")
    assert (again, created) == (first, False)
    assert len((await journal.list_definitions("order", None, 10)).items) == 2


async def test_the_same_content_at_the_same_time_is_one_version(journal: Journal) -> None:
    outcomes = await asyncio.gather(*(put(journal, "order", b"one") for _ in range(5)))
    assert {definition.version for definition, _ in outcomes} == {1}
    assert [created for _, created in outcomes].count(True) == 1


async def test_versions_share_a_descriptor_set(journal: Journal) -> None:
    first, _ = await put(journal, "order", b"one", b"shared")
    second, _ = await put(journal, "order", b"two", b"shared")
    third, _ = await put(journal, "order", b"three", b"other")
    assert first.descriptors_digest == second.descriptors_digest != third.descriptors_digest
    assert await journal.descriptors(third.descriptors_digest) == b"other"
    assert await journal.descriptors("no such digest") is None


async def test_version_0_is_the_newest_that_is_not_deprecated_else_the_newest(journal: Journal) -> None:
    assert await journal.definition("order") is None
    for content in (b"one", b"two", b"three"):
        await put(journal, "order", content)
    await journal.deprecate_definition("order", 3)
    newest = await journal.definition("order")
    assert newest is not None
    assert (newest.version, newest.deprecated) == (2, False)
    await journal.deprecate_definition("order", 2)
    await journal.deprecate_definition("order", 1)
    newest = await journal.definition("order")
    assert newest is not None
    assert (newest.version, newest.deprecated) == (3, True)


async def test_deprecating_is_durable_and_can_be_repeated(bench: Bench) -> None:
    stored, _ = await put(bench.journal, "order", b"one")
    for _ in range(2):
        deprecated = await bench.journal.deprecate_definition("order", 1)
        assert deprecated is not None
        assert deprecated.deprecated
    assert await bench.journal.deprecate_definition("order", 2) is None
    await bench.reopen()
    assert (await put(bench.journal, "order", b"one")) == (deprecated, False)
    assert stored.deprecated is False


async def test_definitions_are_listed_by_name_newest_version_first_in_pages(journal: Journal) -> None:
    for name, content in [("b", b"1"), ("a", b"1"), ("b", b"2"), ("c", b"1"), ("b", b"3")]:
        await put(journal, name, content)

    async def collect_definitions(name: str) -> list[list[tuple[str, int]]]:
        pages, after = [], None
        while True:
            page = await journal.list_definitions(name, after, 2)
            pages.append([(item.name, item.version) for item in page.items])
            if page.next is None:
                return pages
            after = page.next

    assert await collect_definitions("") == [[("a", 1), ("b", 3)], [("b", 2), ("b", 1)], [("c", 1)]]
    assert await collect_definitions("b") == [[("b", 3), ("b", 2)], [("b", 1)]]
    assert await collect_definitions("nobody") == [[]]


async def test_definition_that_does_not_exist_is_none(journal: Journal) -> None:
    await put(journal, "order", b"one")
    assert await journal.definition("order", 2) is None
    assert await journal.definition("nobody", 1) is None


# Health.


async def test_a_journal_is_healthy_at_first(journal: Journal) -> None:
    assert journal.healthy


def test_both_journals_are_journals() -> None:
    kinds: list[type[Journal]] = [SqliteJournal, MemoryJournal]
    assert len(kinds) == 2


def test_index_knows_what_is_an_end() -> None:
    def of(state: int) -> SagaIndex:
        return index("a", state=state)

    assert [state for state in range(1, 7) if of(state).ended] == [SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED]


# Retiring what ended.


async def test_what_ended_before_an_instant_is_paged_by_its_end(journal: Journal) -> None:
    for number, end in enumerate((30, 10, 20, 20, 40)):
        await journal.append(ended(f"s{number}", end_time_ns=EPOCH_NS + end))
    await journal.append(ended("compensated", state=SAGA_STATE_COMPENSATED, end_time_ns=EPOCH_NS + 5))
    await journal.append(start("running", end_time_ns=EPOCH_NS))
    await journal.append(start("failed", state=SAGA_STATE_FAILED, end_time_ns=EPOCH_NS))
    seen, after = [], None
    while True:
        page = await journal.ended(EPOCH_NS + 40, after, 2)
        seen.append([saga.saga_id for saga in page.items])
        after = page.next
        if after is None:
            break
    assert seen == [["compensated", "s1"], ["s2", "s3"], ["s0"]]


async def test_a_retired_saga_is_gone_but_for_its_tombstone(journal: Journal) -> None:
    old, other = ended("old", 3, labels={"order": "1"}), ended("other", 2, labels={"order": "1"})
    for append in (old, other):
        await journal.append(append)
    assert await journal.retire([tombstone(old)]) == 1
    assert await journal.find("old") is None
    with pytest.raises(SagaNotFound):
        await journal.read("old")
    assert await listed(journal) == ["other"]
    assert await listed(journal, SagaFilter(labels={"order": "1"})) == ["other"]
    assert sequences(await journal.read("other")) == [1, 2]
    assert await journal.find_tombstone("old") == tombstone(old)
    assert await journal.find_tombstone("other") is None
    assert await journal.count_tombstones() == 1


async def test_g3_a_saga_that_failed_or_has_not_ended_is_never_retired(journal: Journal) -> None:
    failed = start("failed", state=SAGA_STATE_FAILED, end_time_ns=EPOCH_NS)
    running = start("running", end_time_ns=EPOCH_NS)
    for append in (failed, running):
        await journal.append(append)
    assert await journal.retire([tombstone(failed), tombstone(running), tombstone(ended("never there"))]) == 0
    assert set(await listed(journal)) == {"failed", "running"}
    assert await journal.count_tombstones() == 0


async def test_what_may_yet_be_compensated_is_not_retired(journal: Journal) -> None:
    """G4: not before its root has ended, FAILED being no end; then root and children go together."""
    children = [ended(f"child{number}", root_saga_id="root", exclusive_keys=("k",)) for number in range(2)]
    orphan = ended("orphan", root_saga_id="retired")
    for append in (start("root", state=SAGA_STATE_FAILED), *children, orphan):
        await journal.append(append)
    assert [saga.saga_id for saga in (await journal.ended(LATER_NS, None, 10)).items] == ["orphan"]
    assert await journal.retire([tombstone(append) for append in (*children, orphan)]) == 1
    over = show("root", 2, state=SAGA_STATE_COMPLETED, end_time_ns=EPOCH_NS + 5)
    await journal.append(over)
    ends = [saga.saga_id for saga in (await journal.ended(LATER_NS, None, 10)).items]
    assert ends == ["root", "child0", "child1"]
    assert await journal.retire([tombstone(append) for append in (over, *children)]) == 3
    assert await listed(journal) == await listed(journal, SagaFilter(exclusive_key="k")) == []


async def test_a_saga_that_moved_on_since_it_was_looked_at_is_not_retired(journal: Journal) -> None:
    looked_at = ended("a")
    await journal.append(looked_at)
    await journal.append(show("a", 2, state=SAGA_STATE_COMPENSATED, end_time_ns=EPOCH_NS + 5_000_000_000))
    await journal.append(ended("b", uid="another"))
    assert await journal.retire([tombstone(looked_at), tombstone(ended("b"))]) == 0
    assert set(await listed(journal)) == {"a", "b"}


@pytest.mark.parametrize("again", [start("old", uid="a new one"), start("new", uid=uid_of("old"))], ids=["id", "uid"])
async def test_g10_neither_id_nor_uid_of_a_retired_saga_is_used_again(journal: Journal, again: Append) -> None:
    old = ended("old", 2)
    await journal.append(old)
    await journal.retire([tombstone(old)])
    neighbour = asyncio.create_task(journal.append(start("neighbour", 2, labels={"order": "1"})))
    with pytest.raises(SagaExists):
        await journal.append(again)
    await neighbour
    assert await listed(journal) == ["neighbour"]
    with pytest.raises(SagaNotFound):
        await journal.append(follow("old", 3))


async def test_tombstones_survive_a_restart(bench: Bench) -> None:
    old = ended("old")
    await bench.journal.append(old)
    await bench.journal.retire([tombstone(old)])
    await bench.reopen()
    assert await bench.journal.find_tombstone("old") == tombstone(old)
    with pytest.raises(SagaExists):
        await bench.journal.append(start("old"))


async def test_tombstones_are_dropped_the_earliest_first_and_free_the_id(journal: Journal) -> None:
    for number in range(4):
        append = ended(f"s{number}")
        await journal.append(append)
        await journal.retire([tombstone(append, EPOCH_NS + number)])
    assert await journal.drop_tombstones(EPOCH_NS + 3, 2) == 2
    assert await journal.find_tombstone("s1") is None
    assert await journal.find_tombstone("s2") is not None
    assert await journal.drop_tombstones(EPOCH_NS + 3, 2) == 1
    assert await journal.drop_tombstones(EPOCH_NS + 3, 2) == 0
    assert await journal.count_tombstones() == 1
    await journal.append(start("s0"))
    with pytest.raises(SagaExists):
        await journal.append(start("s3"))


async def test_pages_fit_each_other_over_a_retirement(journal: Journal) -> None:
    appends = [ended(f"s{number}", create_time_ns=EPOCH_NS + number) for number in range(6)]
    for append in appends:
        await journal.append(append)
    first = await journal.list_sagas(SagaFilter(), None, 2)
    await journal.retire([tombstone(appends[5]), tombstone(appends[1])])
    await journal.append(start("new", create_time_ns=EPOCH_NS + 9))
    rest = await journal.list_sagas(SagaFilter(), first.next, 10)
    assert [saga.saga_id for saga in rest.items] == ["s3", "s2", "s0"]


async def test_nothing_is_given_back_where_nothing_is_free(journal: Journal) -> None:
    tried_out_bytes = 2 * 4096  # a new file was tried out, and may have two free pages from that
    assert await journal.reclaim(1 << 20, tried_out_bytes) == 0


# Definitions of another journal.


async def test_an_adopted_version_keeps_its_number_and_later_ones_count_on(journal: Journal) -> None:
    adopted = DefinitionVersion("order", 3, b"three", "d3", "elsewhere", EPOCH_NS, deprecated=True)
    for _ in range(2):
        await journal.adopt_definition(adopted, b"types")
    found = await journal.definition("order", 3)
    assert found is not None
    assert (found.content, found.digest, found.deprecated) == (b"three", "d3", True)
    assert await journal.descriptors(found.descriptors_digest) == b"types"
    put = await journal.put_definition(name="order", content=b"4", digest="d4", descriptors=b"", create_time_ns=1)
    assert put.definition.version == 4


async def test_a_version_that_says_something_else_is_refused_and_stays(journal: Journal) -> None:
    await journal.put_definition(name="order", content=b"1", digest="d1", descriptors=b"", create_time_ns=1)
    for version, digest in ((1, "another"), (2, "d1")):
        with pytest.raises(DefinitionExists):
            await journal.adopt_definition(DefinitionVersion("order", version, b"x", digest, "", 1), b"")
    found = await journal.definition("order", 1)
    assert found is not None
    assert found.digest == "d1"
    assert await journal.definition("order", 2) is None
