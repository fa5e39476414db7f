"""Starting, finding who drives a saga, recovery, following, and stopping."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, Reply
from coordinator.core.state import Saga
from coordinator.engine.errors import (
    DefinitionDeprecated,
    DefinitionNotFound,
    InvalidRequest,
    OverLimit,
    Overloaded,
    ShuttingDown,
    StartedDifferently,
)
from coordinator.journal.errors import JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Page, SagaCursor, SagaIndex
from coordinator.participants.call import Call
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, SAGA_STATE_FAILED, SagaState
from tests.coordinator.engine.bench import (
    ABORTED,
    COMPENSATE,
    EXECUTE,
    REFUSED,
    TEXT,
    Bench,
    accepted,
    attempts_of,
    bench,
    brief,
    done,
    ns,
    policy,
    request,
    restarted,
    step,
    text,
)
from tests.support.virtual_time import EPOCH_NS, elapsed_s, settled

CANCEL = CancelRequested("changed my mind", "alice")


# --- G10 --------------------------------------------------------------------------------------------------------------


async def test_g10_the_same_request_is_the_same_saga() -> None:
    async with bench() as b:
        await b.register(step("a"))
        assert await b.start(labels={"a": "1", "b": "2"})
        assert not await b.start(labels={"b": "2", "a": "1"})
        await b.ended()
        assert not await b.start(labels={"a": "1", "b": "2"})
        assert b.participants.made() == ["a execute 1"]


async def test_g10_requests_are_compared_decoded() -> None:
    async with bench() as b:
        await b.register(step("a"))
        assert await b.start(input=text("in"))
        assert not await b.start(input=text("in", prefix="example.com/types/"))
        twice = text("other").value + text("in").value  # of a field that stands there twice the last counts
        assert not await b.start(input=Any(type_url=f"type.googleapis.com/{TEXT}", value=twice))


async def test_g10_another_request_of_the_same_id_is_refused() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.start()
        others = (
            {"input": text("other")},
            {"labels": {"a": "1"}},
            {"version": 1},  # 0 was sent: versions are compared as they were sent
            {"timeout": {"seconds": 5}},
            {"start_time": {"seconds": EPOCH_NS // limits.SECOND_NS}},
        )
        for fields in others:
            with pytest.raises(StartedDifferently):
                await b.start(**fields)
        assert len(b.participants.calls) == 1


async def test_g10_of_starts_at_the_same_time_one_creates_the_saga() -> None:
    async with bench() as b:
        await b.register(step("a"))
        created = await asyncio.gather(*(b.start() for _ in range(10)))
        assert sorted(created) == [False] * 9 + [True]
        assert await b.ended() == "COMPLETED"
        assert b.participants.made() == ["a execute 1"]


async def test_g10_of_different_starts_at_the_same_time_one_creates_the_saga_and_the_others_are_told() -> None:
    async with bench() as b:
        await b.register(step("a"))
        outcomes = await asyncio.gather(*(b.start(value=f"v{n}") for n in range(5)), return_exceptions=True)
        assert outcomes.count(True) == 1
        assert sum(isinstance(outcome, StartedDifferently) for outcome in outcomes) == 4


async def test_g10_a_saga_that_exists_is_found_whatever_forbids_new_ones() -> None:
    async with bench(unfinished_max=1) as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await b.definitions.deprecate("order", 1)
        assert not await b.start()
        await b.register(step("a"), step("b"))
        with pytest.raises(OverLimit):
            await b.start("another")
        assert not await b.start()
        b.participants.answer("a", done())
        await b.ended()
        await b.engine.drain(0)
        assert not await b.start()
        with pytest.raises(ShuttingDown):
            await b.start("another")


async def test_g10_a_saga_that_exists_is_found_though_its_input_would_be_refused_now() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.start()
        await b.register(step("a", input="shop.Text{text: input.text}"), input_type="shop.Other")
        assert not await b.start()
        with pytest.raises(InvalidRequest):
            await b.start("another")


async def test_a_start_without_an_id_makes_a_saga_of_its_own() -> None:
    async with bench() as b:
        await b.register(step("a"))
        ids = {(await b.engine.start(request(""))).saga_id for _ in range(3)}
        assert len(ids) == 3
        for saga_id in ids:
            assert await b.ended(saga_id) == "COMPLETED"
            assert (await b.look(saga_id)).uid == saga_id


# --- Admission --------------------------------------------------------------------------------------------------------


async def test_g14_there_is_a_most_of_unfinished_sagas() -> None:
    async with bench(unfinished_max=2) as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start("1")
        await b.start("2")
        with pytest.raises(OverLimit) as refused:
            await b.start("3")
        assert refused.value.retry_after_ns > 0
        b.participants.answer("a", done())
        await b.ended("1")
        assert await b.start("3")


async def test_g14_starts_that_are_not_durable_yet_count() -> None:
    async with bench(unfinished_max=2) as b:
        await b.register(step("a"))
        b.journal.hold()
        first = [asyncio.create_task(b.start(str(n))) for n in range(2)]
        await settled()
        with pytest.raises(OverLimit):
            await b.start("3")
        b.journal.release()
        assert await asyncio.gather(*first) == [True, True]


async def test_g13_what_cannot_be_started_leaves_nothing_behind() -> None:
    async with bench() as b:
        with pytest.raises(DefinitionNotFound):
            await b.start()
        await b.register(step("a"))
        with pytest.raises(DefinitionNotFound):
            await b.start(version=2)
        with pytest.raises(InvalidRequest):
            await b.start(input=Any(type_url="type.googleapis.com/shop.Other"))
        await b.definitions.deprecate("order", 1)
        for version in (0, 1):
            with pytest.raises(DefinitionDeprecated):
                await b.start(version=version)
        with pytest.raises(SagaNotFound):
            await b.look()
        assert b.engine.unfinished == 0


@pytest.mark.parametrize("durable", [False, True])
async def test_a_start_whose_append_fails_is_driven_if_it_is_durable(durable: bool) -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.journal.fail_next(durable=durable)
        with pytest.raises(JournalUnavailable):
            await b.start()
        await settled()
        if durable:
            assert await b.ended() == "COMPLETED"
            assert not await b.start()
        else:
            with pytest.raises(SagaNotFound):
                await b.look()
            assert b.engine.unfinished == 0
            assert await b.start()
            assert await b.ended() == "COMPLETED"
        assert len(b.participants.calls) == 1


async def test_g3_a_start_whose_caller_is_gone_is_driven() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.journal.hold()
        starting = asyncio.create_task(b.start())
        await settled()
        starting.cancel()
        await settled()
        assert starting.cancelled()
        b.journal.release()
        await settled()
        assert await b.ended() == "COMPLETED"


async def test_a_start_that_comes_while_the_same_one_fails_is_not_lost() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.journal.hold()
        first = asyncio.create_task(b.start())
        second = asyncio.create_task(b.start())
        await settled()
        b.journal.fail_next()
        b.journal.release()
        with pytest.raises(JournalUnavailable):
            await first
        assert await second
        assert await b.ended() == "COMPLETED"


# --- Recovery ---------------------------------------------------------------------------------------------------------


async def test_what_was_in_flight_is_lost_and_made_again() -> None:
    async with bench() as first:
        await first.register(step("a"), step("b"))
        first.participants.hold("b")
        await first.start()
        await settled()
        async with restarted(first) as b:
            assert await b.engine.recover() == 1
            assert await b.ended() == "COMPLETED"
            assert b.participants.made() == ["b execute 2"]
            assert attempts_of(await b.journaled(), "b")[:3] == [
                "attempt_started b 1",
                "attempt_lost b 1",
                "attempt_started b 2",
            ]


async def test_g8_a_lost_execute_is_compensated_only_when_its_deadline_has_passed() -> None:
    async with bench() as first:
        await first.register(step("a", execute=policy(most=1, timeout=30)))
        first.participants.hold("a")
        await first.start()
        await asyncio.sleep(10)
        async with restarted(first) as b:
            await b.engine.recover()
            await asyncio.sleep(19)
            assert b.participants.calls == []
            assert await b.ended() == "COMPENSATED"
            assert b.participants.made() == ["a compensate 1"]
            assert elapsed_s() == pytest.approx(30, abs=0.01)


async def test_ended_and_failed_sagas_are_not_taken_up() -> None:
    async with bench() as first:
        await first.register(step("a"), step("b"))
        await first.start("completed")
        await first.ended("completed")
        first.participants.script("b", EXECUTE, REFUSED)
        first.participants.script("a", COMPENSATE, REFUSED)
        await first.start("failed")
        assert await first.ended("failed") == "FAILED"
        async with restarted(first) as b:
            assert await b.engine.recover() == 0
            await asyncio.sleep(1)
            assert b.engine.unfinished == 0
            assert b.participants.calls == []
            assert await b.state("failed") == "FAILED"
            assert await b.engine.wait("failed", 0)


async def test_rule_11_what_cannot_be_read_is_set_aside_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        for saga_id in ("garbage", "impossible", "well"):
            await first.start(saga_id)
        await settled()
        first.journal.damage("garbage", 2, b"\xff")
        body = SagaEvent(saga_id="impossible", sequence=2).SerializeToString()
        first.journal.damage("impossible", 2, body)
        async with restarted(first) as b:
            assert await b.engine.recover() == 3
            assert await b.ended("well") == "COMPLETED"
            for saga_id in ("garbage", "impossible"):
                with pytest.raises(UnreadableSaga):
                    await b.look(saga_id)
                assert await b.engine.wait(saga_id, 0)  # it is shown as FAILED
                with pytest.raises(UnreadableSaga):
                    await b.engine.cancel(saga_id, CANCEL)
                assert len([line for line in caplog.messages if saga_id in line]) == 1
            async with restarted(b) as later:
                assert await later.engine.recover() == 0  # set aside once and for all


async def test_rule_11_who_waits_is_told_when_a_saga_is_set_aside() -> None:
    """It could still be read when the wait began."""
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        async with restarted(first) as b:
            waiting = asyncio.create_task(b.engine.wait("s", 1e6))
            await settled()
            b.journal.damage("s", 2, b"\xff")
            await b.engine.recover()
            assert await waiting
            assert elapsed_s() < 1


async def test_rule_11_a_definition_that_cannot_be_used_concerns_its_sagas_only() -> None:
    async with bench() as first:
        await first.register(step("a"))
        await first.register(step("b"), name="other")
        for name in ("a", "b"):
            first.participants.hold(name)
        await first.start("s")
        await first.start("t", definition="other")
        await settled()
        async with restarted(first) as b:
            broken = await b.definitions.get("other")
            vars(broken)["plan"] = None  # a defect, or what a later program wrote
            await b.engine.recover()
            assert await b.ended("s") == "COMPLETED"
            with pytest.raises(UnreadableSaga):
                await b.look("t")


async def test_recovery_waits_for_a_journal_that_cannot_be_used() -> None:
    class Reluctant(MemoryJournal):
        refusals = 3

        async def unfinished(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
            await self._refuse()
            return await super().unfinished(after, limit)

        async def find(self, saga_id: str) -> SagaIndex | None:
            await self._refuse()
            return await super().find(saga_id)

        async def _refuse(self) -> None:
            if self.refusals:
                self.refusals -= 1
                raise JournalUnavailable("not yet")

    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start("s")
        await first.start("t")
        await settled()
        journal = Reluctant()
        journal._content = first.journal.reopen()._content
        await first.engine.close()
        async with bench(journal=journal) as b:
            assert await b.engine.recover() == 2
            assert await b.ended("s") == await b.ended("t") == "COMPLETED"


async def test_g14_recovery_takes_up_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(MemoryJournal):
        reads: Final[list[int]] = []

        async def read_many(self, saga_ids: Sequence[str]) -> Mapping[str, Sequence[SagaEvent]]:
            self.reads.append(len(saga_ids))
            return await super().read_many(saga_ids)

    monkeypatch.setattr(limits, "TAKE_UP_BATCH", 5)
    monkeypatch.setattr(limits, "RECOVERY_PAGE", 8)
    async with bench() as first:
        await first.register(step("a"))
        first.participants.script("a", EXECUTE, accepted(3600))
        for number in range(30):
            await first.start(str(number))
        await settled()
        journal = Counting()
        journal._content = first.journal.reopen()._content
        await first.engine.close()
        async with bench(journal=journal) as b:
            assert await b.engine.recover() == 30
            assert sum(journal.reads) == 30
            assert max(journal.reads) == 5
            assert b.engine.unfinished == 30


async def test_a_saga_that_somebody_asks_for_is_taken_up_first_and_once() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        for saga_id in ("r", "s", "t"):
            await first.start(saga_id)
        await settled()
        async with restarted(first) as b:
            cancelling = [asyncio.create_task(b.engine.cancel("s", CANCEL)) for _ in range(3)]
            looking = asyncio.create_task(b.state("t"))
            assert await b.engine.recover() == 3
            await asyncio.gather(*cancelling)
            assert await looking == "RUNNING"
            assert await b.ended("s") == "COMPENSATED"
            assert await b.ended("t") == "COMPLETED"
            assert [line for line in await b.journaled("s") if "lost" in line] == ["attempt_lost a 1"]
            assert [line for line in await b.journaled("t") if "lost" in line] == ["attempt_lost a 1"]


async def test_a_saga_that_is_not_taken_up_yet_is_shown_as_the_journal_has_it() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        async with restarted(first) as b:
            assert (await b.look()).steps[0].progress[EXECUTE].open
            assert b.engine.unfinished == 0
            assert not await b.start()  # a repeated start takes it up
            assert await b.ended() == "COMPLETED"


async def test_a_delayed_start_is_kept_over_a_restart() -> None:
    async with bench() as first:
        await first.register(step("a"))
        asked = request()
        asked.start_time.FromNanoseconds(EPOCH_NS + ns(3600))
        await first.engine.start(asked)
        async with restarted(first) as b:
            assert await b.engine.recover() == 1
            assert await b.ended() == "COMPLETED"
            assert elapsed_s() == pytest.approx(3600, abs=0.01)


async def test_a_clock_set_back_over_a_restart_strands_no_saga() -> None:
    async with bench() as first:
        await first.register(step("a", execute=policy(backoff=8)))
        first.participants.script("a", EXECUTE, ABORTED)
        await first.start()
        await settled()
        async with restarted(first) as b:
            b.clock.ahead_ns = -ns(365 * 86_400)
            await b.engine.recover()
            assert await b.ended() == "COMPLETED"
            assert elapsed_s() == pytest.approx(4, abs=0.1)


# --- Overload ---------------------------------------------------------------------------------------------------------


async def test_g14_a_participant_that_is_behind_keeps_out_the_sagas_that_need_it_and_no_others() -> None:
    async with bench() as b:
        b.descriptions["other"] = b.descriptions["shop"]
        await b.register(step("a"), step("b", participant="other"))
        await b.register(step("a"), name="alone")
        await b.start("before")
        b.behind_s["other"] = limits.BEHIND_MAX_NS / limits.SECOND_NS
        assert await b.start("1")
        b.behind_s["other"] += 0.1
        with pytest.raises(Overloaded, match="calls to `other` have waited"):
            await b.start("2")
        with pytest.raises(Overloaded):  # nor is it looked up whether it was started: that would be more to do
            await b.start("before")
        assert await b.start("3", definition="alone")
        assert [await b.ended(saga_id) for saga_id in ("before", "1", "3")] == ["COMPLETED"] * 3


# --- Waiting ----------------------------------------------------------------------------------------------------------


async def test_a_wait_ends_with_the_saga_or_when_its_time_is_over() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        assert not await b.engine.wait("s", 5)
        assert elapsed_s() == pytest.approx(5, abs=0.01)
        assert not await b.engine.wait("s", 0)
        waiting = asyncio.create_task(b.engine.wait("s", 1e6))
        await settled()
        b.participants.answer("a", done())
        assert await waiting
        assert elapsed_s() < 6
        assert await b.engine.wait("s", 0)
        with pytest.raises(SagaNotFound):
            await b.engine.wait("nobody", 5)
        assert b.changes._waits == {}


async def test_g1_who_waits_sees_the_saga_as_it_stands_and_reads_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start()
        looks: list[tuple[SagaState.ValueType, bool]] = []

        def look(saga: Saga) -> int:
            looks.append((saga.state, len(b.journal._saga("s").bodies) == saga.last_sequence))
            return saga.last_sequence

        waiting = asyncio.create_task(b.engine.look_when_standing("s", look, 1e6))
        await settled()
        monkeypatch.setattr(b.engine, "read", None)
        b.participants.answer("a", done())
        seen = await waiting
        assert looks == [(SAGA_STATE_COMPLETED, True)]
        assert seen == len(await b.journaled())


async def test_a_wait_ends_when_the_saga_stands_failed() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.script("b", EXECUTE, REFUSED)
        b.participants.script("a", COMPENSATE, REFUSED)
        await b.start()
        assert await b.ended() == "FAILED"
        with pytest.raises(Forbidden):
            await b.engine.cancel("s", CANCEL)


# --- Watching ---------------------------------------------------------------------------------------------------------


async def _watched(b: Bench, saga_id: str = "s", after: int = 0) -> list[tuple[str, str]]:
    return [
        (brief(event), SagaState.Name(state).removeprefix("SAGA_STATE_"))
        async for event, state in b.engine.watch(saga_id, after)
    ]


async def test_a_watch_shows_every_event_with_the_state_after_it_and_ends_with_the_saga() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        live = asyncio.create_task(_watched(b))
        tail = asyncio.create_task(_watched(b, after=3))
        await settled()
        b.participants.answer("a", done())
        seen = await live
        assert seen == [
            ("saga_created", "PENDING"),
            ("saga_started", "RUNNING"),
            ("attempt_started a 1", "RUNNING"),
            ("step_completed a 1", "RUNNING"),
            ("point_of_no_return_passed", "RUNNING"),
            ("saga_completed", "COMPLETED"),
        ]
        assert await tail == seen[3:]
        assert await _watched(b, after=5) == seen[5:]
        assert await _watched(b, after=99) == []
        assert b.changes._followers == {}


async def test_g1_a_watch_shows_nothing_that_is_not_durable() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        seen: list[str] = []

        async def follow() -> None:
            async for event, _ in b.engine.watch("s", 0):
                seen.append(brief(event))

        watching = asyncio.create_task(follow())
        await settled()
        b.journal.hold()
        b.participants.answer("a", done())
        await settled()
        assert seen == ["saga_created", "saga_started", "attempt_started a 1"]
        b.journal.release()
        await watching
        assert seen == await b.journaled()


async def test_g14_a_slow_watcher_is_read_for_in_portions_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    class Listening(MemoryJournal):
        async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
            asked.append(limit)
            return await super().read(saga_id, after_sequence, limit)

    monkeypatch.setattr(limits, "WATCH_BUFFER_EVENTS", 4)
    async with bench(journal=Listening()) as b:
        await b.register(step("a"), step("b"))
        await b.start()
        await b.ended()
        journaled = await b.journaled()
        asked.clear()
        seen = []
        async for event, _ in b.engine.watch("s", 0):
            await asyncio.sleep(60)
            seen.append(brief(event))
        assert seen == journaled
        assert len(seen) > 4
        assert set(asked) == {4}


async def test_a_watch_stays_open_while_the_saga_stands_failed() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.script("b", EXECUTE, REFUSED)
        b.participants.script("a", COMPENSATE, REFUSED)
        await b.start()
        assert await b.ended() == "FAILED"
        states: list[SagaState.ValueType] = []

        async def follow() -> None:
            async for _, state in b.engine.watch("s", 0):
                states.append(state)

        watching = asyncio.create_task(follow())
        await asyncio.sleep(3600)
        assert not watching.done()
        assert states[-1] == SAGA_STATE_FAILED
        watching.cancel()
        await settled()
        assert b.changes._followers == {}


async def test_a_watch_that_is_closed_leaves_nothing_behind() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        watch = b.engine.watch("s", 0)
        assert (await anext(watch))[0].sequence == 1
        assert b.changes._followers != {}
        await watch.aclose()
        assert b.changes._followers == {}
        with pytest.raises(SagaNotFound):
            await _watched(b, "nobody")
        assert b.changes._followers == {}


# --- Steering ---------------------------------------------------------------------------------------------------------


async def test_a_saga_that_ended_cannot_be_cancelled_and_one_that_goes_back_is_left_as_it_is() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a", COMPENSATE)
        b.participants.script("a", EXECUTE, accepted(3600))
        with pytest.raises(SagaNotFound):
            await b.engine.cancel("s", CANCEL)
        await b.start()
        await settled()
        await b.engine.cancel("s", CANCEL)
        before = await b.journaled()
        await b.engine.cancel("s", CANCEL)
        assert await b.journaled() == before
        b.participants.answer("a", done(), COMPENSATE)
        assert await b.ended() == "COMPENSATED"
        with pytest.raises(Forbidden):
            await b.engine.cancel("s", CANCEL)


# --- G11 --------------------------------------------------------------------------------------------------------------


async def test_g11_a_saga_goes_on_with_the_version_it_was_started_with() -> None:
    async with bench() as first:
        await first.register(step("a"), step("b"))
        first.participants.hold("a")
        await first.start()
        await settled()
        assert await first.register(step("a"), step("c")) == 2
        await first.definitions.deprecate("order", 1)
        async with restarted(first) as b:
            await b.engine.recover()
            assert await b.ended() == "COMPLETED"
            assert b.participants.made() == ["a execute 2", "b execute 1"]
            await b.start("t")
            assert await b.ended("t") == "COMPLETED"
            assert b.participants.made()[2:] == ["a execute 1", "c execute 1"]


# --- Stopping ---------------------------------------------------------------------------------------------------------


async def test_a_drain_decides_on_nothing_more_and_records_what_is_in_flight() -> None:
    async with bench() as first:
        await first.register(step("a"), step("b"))
        first.participants.hold("a")
        await first.start()
        await settled()
        draining = asyncio.create_task(first.engine.drain(60))
        await asyncio.sleep(3)
        assert not draining.done()
        first.participants.answer("a", done())
        assert await draining
        assert elapsed_s() < 4
        assert (await first.journaled())[-1] == "step_completed a 1"
        async with restarted(first) as b:
            await b.engine.recover()
            assert await b.ended() == "COMPLETED"
            assert b.participants.made() == ["b execute 1"]
            assert not [line for line in await b.journaled() if "lost" in line]


async def test_a_drain_makes_the_calls_that_are_journaled_already_so_that_none_is_lost() -> None:
    async with bench() as first:
        await first.register(step("a"), step("b"))
        first.participants.hold("a")
        await first.start()
        await settled()
        first.journal.hold()
        first.participants.answer("a", done())
        await settled()  # the attempt of `b` is on its way to the journal
        draining = asyncio.create_task(first.engine.drain(60))
        await settled()
        first.journal.release()
        assert await draining
        assert (await first.journaled())[-1] == "step_completed b 1"
        async with restarted(first) as b:
            await b.engine.recover()
            assert await b.ended() == "COMPLETED"
            assert b.participants.calls == []


async def test_a_start_that_is_on_its_way_when_the_drain_begins_is_answered() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.journal.hold()
        starting = asyncio.create_task(b.start())
        await settled()
        draining = asyncio.create_task(b.engine.drain(60))
        await settled()
        b.journal.release()
        assert await starting
        assert await draining
        assert (await b.journaled())[-1] == "step_completed a 1"


async def test_a_drain_ends_polls_timers_waits_and_watches() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=5)))
        b.participants.script("a", EXECUTE, accepted(10))
        await b.start()
        waiting = asyncio.create_task(b.engine.wait("s", 1e6))
        watching = asyncio.create_task(_watched(b))
        await settled()
        assert await b.engine.drain(60)
        for following in (waiting, watching):
            with pytest.raises(ShuttingDown):
                await following
        assert elapsed_s() < 1
        with pytest.raises(ShuttingDown):
            await b.engine.wait("s", 1e6)
        with pytest.raises(ShuttingDown):
            await b.engine.cancel("s", CANCEL)
        await asyncio.sleep(100)
        assert len(b.participants.calls) == 1
        assert b.changes._followers == {}


async def test_a_drain_does_not_poll_again() -> None:
    async def slow(_call: Call) -> Reply:
        await asyncio.sleep(1)
        return accepted(0.01)

    async with bench() as b:
        await b.register(step("a"), step("b", execute=policy(timeout=50)), graph=True)
        b.participants.script("a", EXECUTE, accepted(1), slow)
        b.participants.hold("b")
        await b.start()
        await asyncio.sleep(1.5)  # the first poll is in flight
        draining = asyncio.create_task(b.engine.drain(60))
        await asyncio.sleep(30)
        b.participants.answer("b", done())
        assert await draining
        assert sorted(b.participants.made()) == ["a execute 1", "a execute 1", "b execute 1"]


async def test_a_drain_begins_no_other_attempt_however_long_it_takes() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(backoff=2)), step("b", execute=policy(timeout=50)), graph=True)
        b.participants.script("a", EXECUTE, ABORTED)
        b.participants.hold("b")
        await b.start()
        await settled()
        draining = asyncio.create_task(b.engine.drain(60))
        await asyncio.sleep(30)
        assert sorted(b.participants.made()) == ["a execute 1", "b execute 1"]
        b.participants.answer("b", done())
        assert await draining
        assert elapsed_s() < 31


async def test_a_cancel_that_finds_nobody_to_drive_because_of_the_drain_is_not_taken_for_done() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        async with restarted(first) as b:
            cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
            await asyncio.sleep(0)
            await b.engine.drain(0)
            with pytest.raises(ShuttingDown):
                await cancelling
            assert "compensation_started" not in await b.journaled()


async def test_a_drain_does_not_wait_longer_than_it_may() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=3600)))
        b.participants.hold("a")
        await b.start()
        await settled()
        assert not await b.engine.drain(10)
        assert elapsed_s() == pytest.approx(10, abs=0.01)


async def test_recovery_stops_when_the_coordinator_does() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        async with restarted(first) as b:
            await b.engine.drain(0)
            b.journal.reopen()  # what is asked of this one from now on fails
            assert await b.engine.recover() == 0
            assert b.engine.unfinished == 0
