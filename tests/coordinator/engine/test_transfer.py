from collections.abc import Sequence
from dataclasses import replace

import pytest

from coordinator.engine.archive import ArchivedDefinition, ArchivedSaga, Record
from coordinator.engine.transfer import Collector, ImportRefused, carry_out_import, check_import
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Tombstone
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED
from tests.coordinator.engine.bench import COMPENSATE, EXECUTE, REFUSED, Bench, bench, step
from tests.coordinator.journal.builders import uid_of


async def collected(b: Bench, *saga_ids: str) -> list[Record]:
    collector = Collector(b.journal)
    records: list[Record] = []
    for saga_id in saga_ids:
        index = await b.journal.find(saga_id)
        assert index is not None
        records += await collector.collect(index)
    return records


async def exported(*saga_ids: str) -> list[Record]:
    """Sagas that completed."""
    async with bench() as b:
        await b.register(step("a"))
        for saga_id in saga_ids:
            await b.start(saga_id, labels={"order": saga_id})
            await b.ended(saga_id)
        return await collected(b, *saga_ids)


async def refused(records: Sequence[Record], journal: MemoryJournal | None = None) -> list[str]:
    with pytest.raises(ImportRefused) as caught:
        await check_import(records, journal)
    return caught.value.problems


async def test_a_version_goes_once_before_its_first_saga() -> None:
    records = await exported("1", "2")
    assert [type(record) for record in records] == [ArchivedDefinition, ArchivedSaga, ArchivedSaga]


async def test_what_goes_in_can_be_looked_at_and_is_the_same() -> None:
    records = await exported("1", "2")
    b = Bench()
    done = await check_import(records, b.journal)
    assert (done.sagas, done.definitions, done.present) == (2, 1, 0)
    await carry_out_import(records, b.journal)
    for record in records:
        if isinstance(record, ArchivedSaga):
            assert await b.journal.read(record.saga_id) == record.events
    assert await b.state("1") == "COMPLETED"
    index = await b.journal.find("2")
    assert index is not None
    assert (index.labels, index.participants, index.uid) == ({"order": "2"}, ("shop",), (await b.look("2")).uid)
    assert await b.engine.recover() == 0
    assert not await b.start("1", labels={"order": "1"})  # G10: it is still the same request's
    await b.engine.close()


async def test_a_saga_that_stands_failed_goes_in_and_nobody_drives_it() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.script("b", EXECUTE, REFUSED)
        b.participants.script("a", COMPENSATE, REFUSED)
        await b.start()
        assert await b.ended() == "FAILED"
        records = await collected(b, "s")
    async with bench() as b:
        await carry_out_import(records, b.journal)
        await b.engine.recover()
        assert await b.state() == "FAILED"
        assert b.participants.made() == []


async def test_an_unfinished_saga_is_refused() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        records = await collected(b, "s")
    assert await refused(records) == ["saga 's' is RUNNING; only sagas that have ended or stand FAILED are put in"]


async def test_what_is_there_already_counts_as_done_so_that_an_import_can_go_on() -> None:
    records = await exported("1", "2")
    b = Bench()
    await carry_out_import(records[:2], b.journal)
    done = await check_import(records, b.journal)
    assert (done.sagas, done.definitions, done.present) == (1, 0, 1)
    await carry_out_import(records, b.journal)
    assert await b.state("2") == "COMPLETED"


async def test_ids_that_are_taken_or_were_retired_are_refused_all_at_once() -> None:
    records = await exported("1", "2", "3")
    b = Bench()
    await carry_out_import(await exported("1"), b.journal)
    other = await exported("2")
    await carry_out_import(other, b.journal)
    index = await b.journal.find("2")
    assert index is not None
    assert index.end_time_ns is not None
    await b.journal.retire([Tombstone("2", index.uid, index.state, b"", index.end_time_ns, 1)])
    assert await refused(records, b.journal) == [
        "saga '1' exists already and is another one",
        "saga '2' was there and has been retired",
    ]
    assert await b.journal.find("3") is None


async def test_a_version_that_says_something_else_there_is_refused() -> None:
    async with bench() as b:
        await b.register(step("other"))
        problems = await refused(await exported("1"), b.journal)
    assert problems == ["definition 'order' version 1 is there already and says something else"]


async def test_records_that_do_not_fit_themselves_are_refused() -> None:
    definition, saga = await exported("1")
    assert isinstance(definition, ArchivedDefinition)
    assert isinstance(saga, ArchivedSaga)
    tampered = ArchivedDefinition(replace(definition.stored, digest="0"), definition.descriptors)
    garbage = ArchivedDefinition(replace(definition.stored, content=b"\xff"), definition.descriptors)
    cases: list[tuple[Sequence[Record], str]] = [
        ([saga], "which the file does not have"),
        ([tampered], "is not what its digest says"),
        ([garbage], "cannot be read"),
        ([definition, replace(saga, events=saga.events[:1])], "is PENDING"),
        ([definition, replace(saga, events=saga.events[1:])], "cannot be read"),
        ([definition, replace(saga, events=[])], "cannot be read"),
        ([definition, replace(saga, uid=uid_of("x"))], "another saga's"),
        ([definition, replace(saga, saga_id="2")], "cannot be read"),
        ([definition, saga, saga], "is in the file twice"),
    ]
    for records, text in cases:
        assert text in (await refused(records))[0], text
    assert saga.state == SAGA_STATE_COMPLETED
