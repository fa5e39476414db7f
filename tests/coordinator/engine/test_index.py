from coordinator.engine.index import index_of
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Append
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_PENDING, SAGA_STATE_RUNNING
from tests.coordinator.engine.bench import EXECUTE, REFUSED, bench, done, ns, request, step
from tests.support.virtual_time import EPOCH_NS, settled


async def test_a_row_says_what_the_saga_does() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"), timeout={"seconds": 60})
        b.participants.hold("b")
        await b.start(labels={"city": "Delft"})
        await settled()
        saga = await b.look()
        row = index_of(saga)
        assert (row.saga_id, row.uid, row.definition, row.version) == ("s", saga.uid, "order", 1)
        assert row.state == SAGA_STATE_RUNNING
        assert row.create_time_ns == row.start_time_ns == EPOCH_NS
        assert row.deadline_ns == EPOCH_NS + ns(60)
        assert row.end_time_ns is None
        assert row.last_sequence == 5
        assert row.labels == {"city": "Delft"}
        assert row.participants == ("shop",)


async def test_a_row_of_an_ended_saga_has_its_end_and_its_failure() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, REFUSED)
        await b.start()
        await b.ended()
        row = index_of(await b.look())
        assert row.state == SAGA_STATE_COMPENSATED
        assert row.end_time_ns is not None
        assert row.failure is not None
        assert row.failure.reason == "NO"


async def test_before_the_start_a_row_says_when_it_will_be() -> None:
    async with bench() as b:
        await b.register(step("a"))
        asked = request()
        asked.start_time.FromNanoseconds(EPOCH_NS + ns(60))
        await b.engine.start(asked)
        row = index_of(await b.look())
        assert (row.state, row.start_time_ns) == (SAGA_STATE_PENDING, EPOCH_NS + ns(60))


async def test_a_row_is_written_only_when_what_it_shows_changes_and_stays_true() -> None:
    written: list[bool] = []

    class Listening(MemoryJournal):
        async def append(self, append: Append) -> None:
            written.append(append.index is not None)
            await super().append(append)

    async with bench(journal=Listening()) as b:
        await b.register(step("a"), step("b"), step("c"))
        for name in ("a", "b", "c"):
            b.participants.hold(name)
        await b.start()
        for name in ("a", "b", "c"):
            await settled()
            assert await b.journal.find("s") == index_of(await b.look())
            b.participants.answer(name, done())
        await b.ended()
        assert await b.journal.find("s") == index_of(await b.look())
    assert written == [True, False, False, True]
