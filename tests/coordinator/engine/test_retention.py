# ruff: noqa: ASYNC240 - these files are small and local
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from coordinator.core import limits
from coordinator.core.definition import BUILT_IN
from coordinator.engine.archive import ArchivedSaga, read_archive
from coordinator.engine.errors import SagaRetired
from coordinator.engine.retention import Retention, RetentionPolicy, count_retirable
from coordinator.journal.errors import SagaNotFound
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Tombstone
from saga.v1.participant_pb2 import ExecuteRequest, StepContext
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED
from tests.coordinator.engine.bench import COMPENSATE, EXECUTE, REFUSED, Bench, accepted, bench, ns, step, text

AGE_S, TOMBSTONE_S = 100.0, 1000.0


def retention(b: Bench, directory: Path | None = None) -> Retention:
    return Retention(b.journal, b.clock, RetentionPolicy(ns(AGE_S), ns(TOMBSTONE_S), directory))


async def completed(b: Bench, *saga_ids: str) -> None:
    for saga_id in saga_ids:
        await b.start(saga_id)
        assert await b.ended(saga_id) == "COMPLETED"


def exported(directory: Path) -> list[str]:
    files = sorted(directory.iterdir())
    return [record.saga_id for file in files for record in read_archive(file) if isinstance(record, ArchivedSaga)]


async def test_a_saga_is_retired_once_it_is_old_enough_and_its_id_is_not_used_again() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await completed(b, "old")
        await asyncio.sleep(AGE_S + 1)
        await completed(b, "young")
        digest = (await b.look("old")).request_digest
        done = await retention(b).run_once()
        assert (done.sagas, done.tombstones_dropped) == (1, 0)
        assert await b.state("young") == "COMPLETED"
        with pytest.raises(SagaNotFound):
            await b.look("old")
        tombstone = await b.journal.find_tombstone("old")
        assert tombstone is not None
        assert (tombstone.state, tombstone.request_digest) == (SAGA_STATE_COMPLETED, digest)
        for value in ("in", "another"):  # the same request or not
            with pytest.raises(SagaRetired, match="COMPLETED and has been retired"):
                await b.start("old", value)
        await b.definitions.deprecate("order", 1)
        with pytest.raises(SagaRetired):
            await b.start("old")


async def test_a_tombstone_outlives_the_saga_and_then_frees_its_id() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await completed(b, "old")
        await asyncio.sleep(AGE_S + 1)
        await retention(b).run_once()
        await asyncio.sleep(TOMBSTONE_S - 1)
        assert (await retention(b).run_once()).tombstones_dropped == 0
        await asyncio.sleep(2)
        assert (await retention(b).run_once()).tombstones_dropped == 1
        assert await b.start("old")


async def test_g3_what_stands_failed_or_cannot_be_read_or_goes_on_stays() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        await completed(b, "damaged", "quarantined")
        b.participants.script("b", EXECUTE, REFUSED)
        b.participants.script("a", COMPENSATE, REFUSED)
        await b.start("failed")
        assert await b.ended("failed") == "FAILED"
        b.participants.hold("a")
        await b.start("running")
        b.journal.damage("damaged", 1, b"\xff")
        await b.journal.quarantine("quarantined", "for a test")
        await asyncio.sleep(AGE_S + 1)
        assert (await retention(b).run_once()).sagas == 0
        for saga_id in ("damaged", "quarantined", "failed", "running"):
            assert await b.journal.find(saga_id) is not None


async def test_a_saga_stays_while_the_root_above_it_is_unfinished() -> None:
    """Its parent may yet have it compensated; that of another coordinator is not known here."""
    async with bench() as b:
        await b.register(step("pick"), name="pack")
        await b.register(step("box", participant=BUILT_IN, action="pack"), name="ship")
        await b.register(step("parcel", participant=BUILT_IN, action="ship"), step("bill"))
        b.participants.script("bill", EXECUTE, accepted(86_400))
        await b.start("root")
        far = StepContext(saga_id="far", saga_uid="u", step="box", action="pack", idempotency_key="u/box/execute")
        await b.engine.children.execute(ExecuteRequest(context=far, input=text("in")))
        assert await b.ended("far/box") == "COMPLETED"
        await asyncio.sleep(AGE_S + 1)
        assert await count_retirable(b.journal, b.clock.now_ns() - ns(AGE_S)) == 1
        assert (await retention(b).run_once()).sagas == 1
        everybody = ("root", "root/parcel", "root/parcel/box", "far/box")
        left = [saga_id for saga_id in everybody if await b.journal.find(saga_id)]
        assert left == ["root", "root/parcel", "root/parcel/box"]


async def test_what_is_retired_is_on_stable_storage_first(tmp_path: Path) -> None:
    class Checking(MemoryJournal):
        async def retire(self, tombstones: Sequence[Tombstone]) -> int:
            assert {tombstone.saga_id for tombstone in tombstones} <= set(exported(tmp_path))
            return await super().retire(tombstones)

    async with bench(journal=Checking()) as b:
        await b.register(step("a"))
        await completed(b, "1", "2")
        events = await b.journal.read("1")
        await asyncio.sleep(AGE_S + 1)
        assert (await retention(b, tmp_path).run_once()).sagas == 2
        [file] = tmp_path.iterdir()
        [first] = [record for record in read_archive(file) if getattr(record, "saga_id", "") == "1"]
        assert isinstance(first, ArchivedSaga)
        assert first.events == events


async def test_nothing_is_deleted_that_could_not_be_exported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as b:
        await b.register(step("a"))
        await completed(b, "1")
        await asyncio.sleep(AGE_S + 1)
        nowhere = tmp_path / "nowhere"
        async with retention(b, nowhere).running():
            await asyncio.sleep(1)
            assert await b.state("1") == "COMPLETED"
            assert "nothing of them is lost" in caplog.text
            nowhere.mkdir()
            await asyncio.sleep(limits.RETENTION_INTERVAL_NS / limits.SECOND_NS)
        assert exported(nowhere) == ["1"]
        assert await b.journal.find("1") is None


async def test_batches_are_small_and_live_sagas_go_on_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(MemoryJournal):
        async def retire(self, tombstones: Sequence[Tombstone]) -> int:
            batches.append(len(tombstones))
            return await super().retire(tombstones)

    batches: list[int] = []
    async with bench(journal=Counting()) as b:
        await b.register(step("a"))
        await completed(b, *(str(number) for number in range(7)))
        events_each = (await b.look("0")).last_sequence
        await asyncio.sleep(AGE_S + 1)
        monkeypatch.setattr(limits, "RETENTION_BATCH_SAGAS", 5)
        monkeypatch.setattr(limits, "RETENTION_BATCH_EVENTS", 3 * events_each)
        passing = asyncio.create_task(retention(b).run_once())
        await completed(b, "live")
        assert not passing.done()
        await passing
        assert batches == [3, 2, 2]


async def test_it_runs_now_and_then_and_says_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coordinator.engine.retention")
    async with bench() as b:
        await b.register(step("a"))
        async with retention(b).running():
            await completed(b, "1")
            await asyncio.sleep(AGE_S + limits.RETENTION_INTERVAL_NS / limits.SECOND_NS)
            assert await b.journal.find("1") is None
    assert caplog.messages == ["ended sagas were retired"]


async def test_a_journal_that_fails_or_a_defect_does_not_end_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench() as b:
        await b.register(step("a"))
        await completed(b, "1")
        await asyncio.sleep(AGE_S + 1)
        b.journal.fail_next()
        async with retention(b).running():
            await asyncio.sleep(1)
            assert await b.journal.find("1") is not None
            with monkeypatch.context() as broken:
                broken.setattr(b.journal, "ended", None)
                await asyncio.sleep(limits.RETENTION_INTERVAL_NS / limits.SECOND_NS)
            await asyncio.sleep(limits.RETENTION_INTERVAL_NS / limits.SECOND_NS)
            assert await b.journal.find("1") is None
    assert "TypeError" in caplog.text


async def test_a_stop_ends_a_pass_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETENTION_BATCH_SAGAS", 1)
    async with bench() as b:
        await b.register(step("a"))
        await completed(b, "1", "2", "3")
        await asyncio.sleep(AGE_S + 1)
        async with retention(b).running():
            while await b.journal.find("1") is not None:  # noqa: ASYNC110  # see below
                await asyncio.sleep(0)  # no event tells of a deletion
        assert await b.journal.find("3") is not None
        assert await b.journal.count_tombstones() in (1, 2)
