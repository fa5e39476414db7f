from dataclasses import replace

from coordinator.engine.verify import verify
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import DefinitionVersion, Tombstone
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING
from tests.coordinator.engine.bench import Bench, bench, step


async def completed(b: Bench, *saga_ids: str) -> None:
    await b.register(step("a"))
    for saga_id in saga_ids:
        await b.start(saga_id)
        await b.ended(saga_id)


async def test_a_sound_journal_is_counted() -> None:
    async with bench() as b:
        await completed(b, "1", "2", "3")
        b.participants.hold("a")
        await b.start("4")
        index = await b.journal.find("1")
        assert index is not None
        assert index.end_time_ns is not None
        await b.journal.retire([Tombstone("1", index.uid, index.state, b"", index.end_time_ns, 1)])
        found = await verify(b.journal)
        events = sum([len(await b.journal.read(saga_id)) for saga_id in ("2", "3", "4")])
    assert found.problems == []
    assert found.sagas == {SAGA_STATE_COMPLETED: 2, SAGA_STATE_RUNNING: 1}
    assert (found.events, found.definitions, found.tombstones) == (events, 1, 1)


async def test_every_saga_that_cannot_be_read_is_named_and_the_others_are_counted() -> None:
    async with bench() as b:
        await completed(b, "1", "2", "3")
        second = (await b.journal.read("2"))[0]
        b.journal.damage("1", 2, b"\xff")
        b.journal.damage("2", 2, second.SerializeToString())  # it is created twice
        found = await verify(b.journal)
    assert found.sagas == {SAGA_STATE_COMPLETED: 1}
    assert sorted(problem.split(":")[0] for problem in found.problems) == ["saga '1'", "saga '2'"]


async def test_a_row_that_shows_something_else_is_named() -> None:
    async with bench() as b:
        await completed(b, "1")
        saga = b.journal._content.sagas["1"]
        saga.index = replace(saga.index, state=SAGA_STATE_RUNNING, end_time_ns=None)
        found = await verify(b.journal)
        await b.journal.quarantine("1", "for a test")
        assert [problem.split(": ")[1] for problem in found.problems] == [
            "its row and its events differ in state, end_time_ns"
        ]


async def test_definitions_that_are_not_themselves_are_named_with_their_sagas() -> None:
    async with bench() as b:
        await completed(b, "1")
        journal: MemoryJournal = b.journal
        stored = journal._content.definitions["order", 1]
        journal._content.definitions["order", 1] = replace(stored, digest="0")
        await journal.adopt_definition(DefinitionVersion("garbage", 1, b"\xff", "d", "", 1), b"")
        await journal.adopt_definition(DefinitionVersion("poor", 1, b"", "d", "", 1), b"x")
        poor = journal._content.definitions["poor", 1]
        journal._content.definitions["poor", 1] = replace(poor, descriptors_digest="missing")
        problems = (await verify(journal)).problems
    assert [problem.split(" version")[0] for problem in problems] == [
        "definition 'garbage'",
        "definition 'order'",
        "definition 'poor'",
        "saga '1':",
    ]
