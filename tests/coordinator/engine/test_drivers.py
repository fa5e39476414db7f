"""Sagas that wait cost nothing, wake in time, and behave as if they had been driven all along (G3, G8, G14)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from coordinator.core import limits
from coordinator.core.inputs import CancelRequested, Done, PauseRequested, ResumeRequested
from coordinator.engine import drivers
from coordinator.engine.errors import OverLimit
from coordinator.journal.errors import JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Page, SagaCursor, SagaIndex
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import SagaEvent
from tests.coordinator.engine.bench import (
    ABORTED,
    EXECUTE,
    UNAVAILABLE,
    Bench,
    accepted,
    attempts_of,
    bench,
    done,
    instants,
    ns,
    policy,
    request,
    restarted,
    step,
    text,
)
from tests.support.virtual_time import EPOCH_NS, elapsed_s, settled

CANCEL: Final = CancelRequested("changed my mind")
KEY: Final = ["'account:' + input.text"]


def delayed(saga_id: str, start_s: float) -> StartSagaRequest:
    asked = request(saga_id)
    asked.start_time.FromNanoseconds(EPOCH_NS + ns(start_s))
    return asked


async def pending(b: Bench, *steps: str, poll_after: float = 3600) -> None:
    """Start `s`, whose first step is accepted, and wait until it rests."""
    await b.register(step("a"), *map(step, steps))
    b.participants.script("a", EXECUTE, accepted(poll_after))
    await b.start()
    await asyncio.sleep(2)
    assert b.rests()


# --- When a saga rests ------------------------------------------------------------------------------------------------


async def test_before_its_start_a_saga_rests_at_once_and_starts_in_time() -> None:
    async with bench() as b:
        await b.register(step("a"))
        times = instants(b)
        await b.engine.start(delayed("s", 3600))
        await settled()
        assert b.rests()
        assert (b.engine.unfinished, b.engine.resting) == (1, 1)
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [3600]
        assert (b.engine.unfinished, b.engine.resting) == (0, 0)


async def test_a_saga_rests_when_it_has_been_quiet_for_a_while_and_not_before() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(3600))
        await b.start()
        await asyncio.sleep(0.9)
        assert not b.rests()
        await asyncio.sleep(0.2)
        assert b.rests()


async def test_a_saga_with_something_in_flight_or_due_soon_does_not_rest() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=100)))
        b.participants.hold("a")
        await b.start("in flight")
        await asyncio.sleep(50)
        assert not b.rests("in flight")
        b.participants.script("a", EXECUTE, accepted(0.9))
        await b.start("due soon")
        for _ in range(50):
            await asyncio.sleep(0.11)
            assert not b.rests("due soon")


async def test_a_long_saga_rests_later_because_reading_it_back_takes_longer() -> None:
    async with bench() as b:
        names = [f"s{number}" for number in range(100)]
        await b.register(*map(step, names), step("a"))
        b.participants.script("a", EXECUTE, accepted(3600))
        await b.start()
        await settled()
        events = (await b.look()).last_sequence
        assert events > 4 * limits.REST_EVENTS
        await asyncio.sleep(4)
        assert not b.rests()
        await asyncio.sleep(events / limits.REST_EVENTS)
        assert b.rests()


# --- What is kept -----------------------------------------------------------------------------------------------------


async def test_another_attempt_is_made_when_its_backoff_is_over() -> None:
    async with bench(rest_after_ns=0) as b:
        await b.register(step("a", execute=policy(backoff=8)))
        b.participants.script("a", EXECUTE, ABORTED, ABORTED, done())
        times = instants(b)
        await b.start()
        await settled()
        assert b.rests()
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [0, 4, 12]


@pytest.mark.parametrize("rest_after_ns", [0, limits.REST_AFTER_NS])
async def test_the_schedule_of_polls_is_kept(rest_after_ns: int) -> None:
    """The journal knows the first `poll_after` only."""
    async with bench(rest_after_ns=rest_after_ns) as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(10), accepted(60), UNAVAILABLE, done())
        times = instants(b)
        await b.start()
        await asyncio.sleep(20)
        assert b.rests()
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [0, 10, 70, 130]


async def test_g8_a_poll_that_nobody_answered_holds_compensate_up_though_the_saga_rested() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=10)))
        b.participants.script("a", EXECUTE, accepted(30), UNAVAILABLE)
        times = instants(b)
        await b.start()
        await asyncio.sleep(32)
        assert b.rests()
        await b.engine.cancel("s", CANCEL)
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Execute": [0, 30], "a Compensate": [40]}


async def test_rest_is_no_restart_nothing_is_taken_for_lost() -> None:
    async with bench(rest_after_ns=0) as b:
        await b.register(step("a"), step("b"))
        b.participants.script("a", EXECUTE, accepted(10), accepted(10), done())
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert not any("lost" in line for line in await b.journaled())


async def test_rule_4_a_clock_that_was_set_back_over_a_restart_makes_no_rest_longer() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(backoff=60)))
        b.participants.script("a", EXECUTE, ABORTED, done())
        await b.start()
        await settled()
        async with restarted(b) as again:
            again.participants.script("a", EXECUTE, ABORTED, done())
            again.clock.ahead_ns = -ns(100 * 86_400)
            await again.engine.recover()
            await asyncio.sleep(2)
            assert again.rests()
            assert await again.ended() == "COMPLETED"
            assert elapsed_s() == pytest.approx(30 + 30, abs=2)  # jitter is 0, so half of each backoff


async def test_rule_4_a_clock_that_was_set_back_strands_no_saga_that_waits_for_its_turn() -> None:
    async with bench() as b:
        await b.register(step("debit"), exclusive_keys=KEY)
        b.participants.hold("debit")
        await b.start("first", "ada")
        await b.start("second", "ada")
        await settled()
        async with restarted(b) as again:
            again.clock.ahead_ns = -ns(100 * 86_400)
            await again.engine.recover()
            assert await again.ended("second", 60) == "COMPLETED"


async def test_a_clock_that_is_set_forward_starts_what_is_due_by_it() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.engine.start(delayed("s", 3600))
        await asyncio.sleep(10)
        b.clock.ahead_ns = ns(3600)
        assert await b.ended() == "COMPLETED"
        assert elapsed_s() <= 10 + limits.CLOCK_LOOK_NS / limits.SECOND_NS


# --- Who asks for a saga that rests -----------------------------------------------------------------------------------


async def test_reading_following_and_repeating_its_start_leave_a_saga_at_rest() -> None:
    async with bench() as b:
        await pending(b)
        assert await b.state() == "RUNNING"
        assert not await b.engine.wait("s", 5)
        assert not await b.start()  # G10
        assert b.rests()
        watch = b.engine.watch("s", 0)
        shown = [(await anext(watch))[0].sequence for _ in range(4)]
        assert shown == [1, 2, 3, 4]
        await watch.aclose()
        assert b.rests()


async def test_who_waits_for_a_saga_that_rests_is_told_of_its_end() -> None:
    async with bench() as b:
        await pending(b)
        waiting = asyncio.create_task(b.engine.wait("s", 1e6))
        await settled()
        key = (await b.look()).uid + "/a/execute"
        await b.engine.report("s", "a", key, Done(output=text("out")))
        assert await waiting
        assert await b.state() == "COMPLETED"
        assert elapsed_s() == pytest.approx(2, abs=0.01)


async def test_a_saga_that_rests_is_cancelled() -> None:
    async with bench() as b:
        await pending(b)
        await b.engine.cancel("s", CANCEL)
        assert await b.ended() == "COMPENSATED"


async def test_a_paused_saga_rests_and_its_polls_go_on_when_it_is_resumed() -> None:
    async with bench() as b:
        await pending(b, poll_after=60)
        times = instants(b)
        await b.engine.steer("s", PauseRequested("wait"))
        await asyncio.sleep(100)
        assert b.rests()
        assert times == {}
        b.participants.script("a", EXECUTE, done())
        await b.engine.steer("s", ResumeRequested("go on"))
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [162]


async def test_a_parent_that_rests_hears_of_its_childs_end_at_once() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship")
        await b.register(step("parcel", participant="coordinator", action="ship"))
        b.participants.script("send", EXECUTE, accepted(3600))
        await b.start("o-1")
        await asyncio.sleep(1000)
        assert b.rests("o-1")
        assert b.rests("o-1/parcel")
        key = (await b.look("o-1/parcel")).uid + "/send/execute"
        before_s = elapsed_s()
        await b.engine.report("o-1/parcel", "send", key, Done(output=text("out")))
        assert await b.ended("o-1") == "COMPLETED"
        assert elapsed_s() == pytest.approx(before_s, abs=0.01)


async def test_a_parent_asks_a_child_of_its_own_coordinator_hardly_ever() -> None:
    class Counting(MemoryJournal):
        reads = 0

        async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
            self.reads += saga_id == "o-1/parcel"
            return await super().read(saga_id, after_sequence, limit)

    journal = Counting()
    async with bench(journal=journal) as b:
        await b.register(step("send"), name="ship")
        await b.register(step("parcel", participant="coordinator", action="ship"))
        b.participants.script("send", EXECUTE, accepted(86_400))
        await b.start("o-1")
        await asyncio.sleep(7200)
        before = journal.reads
        await asyncio.sleep(3600)
        polls = limits.HOUR_NS // limits.OWN_CHILD_POLL_MAX_NS
        assert 0 < journal.reads - before <= 2 * (polls + 1)


async def test_rule_11_a_parent_hears_at_once_that_its_child_was_set_aside() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship")
        await b.register(step("parcel", participant="coordinator", action="ship"))
        b.participants.script("send", EXECUTE, accepted(7200))
        await b.start("o-1")
        await asyncio.sleep(7199)
        b.journal.damage("o-1/parcel", 2, b"\xff")
        await asyncio.sleep(2)
        assert (await b.look("o-1")).needs_attention
        with pytest.raises(UnreadableSaga):
            await b.look("o-1/parcel")


async def test_rule_11_a_parent_hears_at_once_that_its_child_was_set_aside_while_it_was_driven() -> None:
    async with bench() as b:
        await b.register(step("send", execute=policy(timeout=3600)), name="ship")
        await b.register(step("parcel", participant="coordinator", action="ship"))
        b.participants.hold("send")
        await b.start("o-1")
        await asyncio.sleep(3000)
        b.journal.damage("o-1/parcel", 2, b"\xff")
        b.journal.fail_next()
        b.participants.answer("send", done())
        await asyncio.sleep(1)
        assert (await b.look("o-1")).needs_attention


async def test_news_of_a_child_that_comes_while_its_parent_is_paused_is_kept() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship")
        await b.register(step("parcel", participant="coordinator", action="ship"))
        b.participants.script("send", EXECUTE, accepted(500), done())
        await b.start("o-1")
        await asyncio.sleep(400)
        await b.engine.steer("o-1", PauseRequested("wait"))
        await asyncio.sleep(110)
        assert await b.state("o-1/parcel") == "COMPLETED"
        assert b.rests("o-1")
        await b.engine.steer("o-1", ResumeRequested("go on"))
        assert await b.ended("o-1") == "COMPLETED"
        assert elapsed_s() == pytest.approx(510, abs=0.01)


async def test_a_saga_that_rests_starts_when_it_is_granted_its_keys() -> None:
    async with bench() as b:
        await b.register(step("debit", execute=policy(timeout=1000)), exclusive_keys=KEY)
        b.participants.hold("debit")
        for saga_id in ("first", "second", "third"):
            await b.start(saga_id, "ada")
        await asyncio.sleep(100)
        assert b.rests("second")
        assert b.rests("third")
        b.participants.answer("debit", done())
        await settled()
        assert [call.context.saga_id for call in b.participants.calls] == ["first", "second"]
        assert b.rests("third")
        b.participants.script("debit", EXECUTE, done())
        await b.engine.cancel("second", CANCEL)
        assert await b.ended("third") == "COMPLETED"


async def test_g3_keys_that_are_granted_while_a_start_is_repeated_are_not_missed() -> None:
    async with bench() as b:
        await b.register(step("debit"), exclusive_keys=KEY)
        b.participants.hold("debit")
        await b.start("first", "ada")
        await b.start("second", "ada")
        await asyncio.sleep(2)
        assert b.rests("second")
        b.journal.hold()
        b.participants.answer("debit", done())
        await settled()
        again = asyncio.create_task(b.start("second", "ada"))
        await settled()
        b.participants.script("debit", EXECUTE, done())
        b.journal.release()
        assert not await again
        assert await b.ended("second", 10) == "COMPLETED"


async def test_g12_a_start_that_is_repeated_and_fails_leads_to_no_second_driver() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        b.journal.fail_next()
        with pytest.raises(JournalUnavailable):
            await b.start()
        await asyncio.sleep(0.5)
        b.participants.answer("a", done())
        assert await b.ended() == "COMPLETED"
        assert attempts_of(await b.journaled(), "a") == ["attempt_started a 1", "step_completed a 1"]


async def test_g14_sagas_that_rest_count() -> None:
    async with bench(unfinished_max=2) as b:
        await b.register(step("a"))
        await b.engine.start(delayed("s", 3600))
        await b.engine.start(delayed("t", 3600))
        await settled()
        assert b.engine.resting == 2
        with pytest.raises(OverLimit):
            await b.start("u")


# --- When the journal fails, or a saga cannot be read -----------------------------------------------------------------


class Troubled(MemoryJournal):
    """Does not let itself be read while `down`, and never lets the saga `bad` be read."""

    down = False
    refusals = 0

    async def read_many(self, saga_ids: Sequence[str]) -> Mapping[str, Sequence[SagaEvent]]:
        self._trouble(*saga_ids)
        return await super().read_many(saga_ids)

    async def find(self, saga_id: str) -> SagaIndex | None:
        self._trouble(saga_id)
        return await super().find(saga_id)

    def _trouble(self, *saga_ids: str) -> None:
        if self.down or "bad" in saga_ids:
            self.refusals += 1
            raise JournalUnavailable("not now")


async def test_g3_a_journal_that_cannot_be_read_loses_no_saga_that_is_due() -> None:
    journal = Troubled()
    async with bench(journal=journal) as b:
        await b.register(step("a"))
        times = instants(b)
        for number in range(5):
            await b.engine.start(delayed(f"s{number}", 10 + number))
        journal.down = True
        await asyncio.sleep(100)
        assert b.engine.resting == 5
        with pytest.raises(JournalUnavailable):
            await b.engine.cancel("s0", CANCEL)
        journal.down = False
        for number in range(5):
            assert await b.ended(f"s{number}") == "COMPLETED"
        assert max(times["a Execute"]) < 102


async def test_one_saga_that_cannot_be_read_now_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAKE_UP_BATCH", 3)
    journal = Troubled()
    async with bench(journal=journal) as b:
        await b.register(step("a"))
        times = instants(b)
        for saga_id in ("s0", "bad", "s1", "s2", "s3", "s4", "s5"):
            await b.engine.start(delayed(saga_id, 10))
        await asyncio.sleep(10.5)
        assert times["a Execute"] == [10] * 6
        assert b.rests("bad")
        assert journal.refusals == 2  # with others, and alone: it is not in the way of the next
        await asyncio.sleep(1)
        assert journal.refusals == 4


async def test_g12_a_start_that_fails_and_is_repeated_before_it_was_looked_at_leads_to_one_driver() -> None:
    journal = Troubled()
    async with bench(journal=journal) as b:
        await b.register(step("a"))
        b.participants.hold("a")
        journal.down = True
        journal.fail_next()
        with pytest.raises(JournalUnavailable):
            await b.start()
        await asyncio.sleep(0.5)
        assert b.rests()  # it may be durable: nobody could look yet
        assert await b.start()
        journal.down = False
        await asyncio.sleep(2)
        b.participants.answer("a", done())
        assert await b.ended() == "COMPLETED"
        assert attempts_of(await b.journaled(), "a") == ["attempt_started a 1", "step_completed a 1"]


async def test_g3_a_saga_whose_asker_failed_to_take_it_up_is_not_passed_over_by_the_recovery() -> None:
    class Slow(MemoryJournal):
        fails = True

        async def find(self, saga_id: str) -> SagaIndex | None:
            await asyncio.sleep(1)
            if self.fails:
                raise JournalUnavailable("not now")
            return await super().find(saga_id)

    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        journal = Slow()
        journal._content = first.journal.reopen()._content
        await first.engine.close()
        async with bench(journal=journal) as b:
            cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
            await settled()
            assert await b.engine.recover() == 1
            with pytest.raises(JournalUnavailable):
                await cancelling
            journal.fails = False
            assert await b.ended() == "COMPLETED"


async def test_a_saga_that_ends_while_the_recovery_reads_its_row_is_not_driven_again() -> None:
    class Late(MemoryJournal):
        async def unfinished(self, after: SagaCursor | None, limit: int) -> Page[SagaIndex, SagaCursor]:
            page = await super().unfinished(after, limit)
            await asyncio.sleep(60)
            return page

    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        journal = Late()
        journal._content = first.journal.reopen()._content
        await first.engine.close()
        async with bench(journal=journal) as b:
            recovering = asyncio.create_task(b.engine.recover())
            await settled()
            await b.engine.cancel("s", CANCEL)
            assert await b.ended() == "COMPENSATED"
            assert not recovering.done()
            await recovering
            assert b.engine.unfinished == 0


async def test_rule_11_a_saga_that_cannot_be_read_when_it_is_due_is_set_aside_and_the_others_go_on() -> None:
    async with bench() as b:
        await b.register(step("a"))
        for saga_id in ("broken", "well"):
            await b.engine.start(delayed(saga_id, 10))
        await settled()
        waiting = asyncio.create_task(b.engine.wait("broken", 1e6))
        await settled()
        b.journal.damage("broken", 1, b"\xff")
        assert await waiting
        assert await b.ended("well") == "COMPLETED"
        with pytest.raises(UnreadableSaga):
            await b.look("broken")
        assert b.engine.unfinished == 0
        assert elapsed_s() == pytest.approx(10, abs=0.1)


async def test_a_defect_while_a_saga_is_taken_up_concerns_it_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    defective = True
    take_up = drivers.Drivers._take_up

    async def failing(self: drivers.Drivers, saga_id: str, also: drivers.States) -> object:
        if saga_id == "s" and defective:
            raise RuntimeError("a defect")
        return await take_up(self, saga_id, also)

    async def apart(_self: drivers.Drivers, rests: Mapping[str, object]) -> Sequence[str]:
        for saga_id, rest in rests.items():
            _self._resting.put(saga_id, rest)  # type: ignore[arg-type]  # they are what the queue held
        return list(rests)

    monkeypatch.setattr(drivers.Drivers, "_take_up", failing)
    monkeypatch.setattr(drivers.Drivers, "_take_up_together", apart)
    async with bench() as b:
        await b.register(step("a"))
        for saga_id in ("s", "t"):
            await b.engine.start(delayed(saga_id, 10))
        assert await b.ended("t") == "COMPLETED"
        assert elapsed_s() < 11
        assert "saga s could not be taken up" in caplog.messages
        defective = False
        assert await b.ended("s") == "COMPLETED"


async def test_a_saga_that_is_gone_from_the_journal_is_forgotten() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.engine.start(delayed("s", 10))
        await settled()
        del b.journal._content.sagas["s"]
        await asyncio.sleep(11)
        assert b.engine.unfinished == 0
        with pytest.raises(SagaNotFound):
            await b.engine.cancel("s", CANCEL)


# --- Many at once, restarts and the end -------------------------------------------------------------------------------


async def test_g14_of_many_that_are_due_at_once_few_are_driven_while_the_first_get_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TAKE_UP_BATCH", 10)
    monkeypatch.setattr(limits, "DRIVEN_SAGAS", 20)

    driven = []

    async def slowly(_call: object) -> Done:
        driven.append(b.engine.unfinished - b.engine.resting)
        await asyncio.sleep(0.01)
        return done()

    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, slowly)
        for number in range(200):
            await b.engine.start(delayed(f"s{number}", 10))
        for number in range(200):
            assert await b.ended(f"s{number}") == "COMPLETED"
        assert 20 <= max(driven) <= 30
        assert elapsed_s() < 10.5
        assert len(b.participants.calls) == 200


async def test_sagas_that_are_not_answered_do_not_keep_others_from_being_taken_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TAKE_UP_BATCH", 10)
    monkeypatch.setattr(limits, "DRIVEN_SAGAS", 20)
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=3600)))
        await b.register(step("b"), name="other")
        b.participants.hold("a")
        for number in range(50):
            await b.engine.start(delayed(f"s{number}", 10))
        other = delayed("t", 10.001)
        other.definition = "other"
        await b.engine.start(other)
        assert await b.ended("t") == "COMPLETED"
        assert elapsed_s() < 11


async def test_sagas_are_started_and_read_while_many_are_taken_up() -> None:
    async with bench(unfinished_max=10_000) as first:
        await first.register(step("a"))
        first.participants.hold("a")
        for number in range(300):
            await first.start(f"s{number}")
        await settled()
        async with restarted(first) as b:
            called = asyncio.Event()

            async def answer(_call: object) -> Done:
                called.set()
                return done()

            b.participants.script("a", EXECUTE, answer)
            recovering = asyncio.create_task(b.engine.recover())
            await called.wait()
            assert b.engine.resting > 100  # not even read
            assert await b.start("new")
            assert await b.ended("new") == "COMPLETED"
            assert not recovering.done()
            assert await recovering == 300
            for number in range(300):
                assert await b.ended(f"s{number}") == "COMPLETED"


async def test_what_has_not_started_is_not_even_read_at_a_restart() -> None:
    class Counting(MemoryJournal):
        reads = 0

        async def read_many(self, saga_ids: Sequence[str]) -> Mapping[str, Sequence[SagaEvent]]:
            self.reads += len(saga_ids)
            return await super().read_many(saga_ids)

    async with bench() as first:
        await first.register(step("a"))
        for number in range(30):
            await first.engine.start(delayed(f"s{number}", 3600 + number))
        await settled()
        journal = Counting()
        journal._content = first.journal.reopen()._content
        await first.engine.close()
        async with bench(journal=journal) as b:
            times = instants(b)
            assert await b.engine.recover() == 30
            assert (b.engine.resting, journal.reads) == (30, 0)
            for number in range(30):
                assert await b.ended(f"s{number}") == "COMPLETED"
            assert times["a Execute"] == [3600 + number for number in range(30)]


async def test_a_drain_does_not_wait_for_sagas_that_rest_nor_wake_them() -> None:
    async with bench() as b:
        await pending(b, poll_after=60)
        await b.engine.start(delayed("t", 30))
        assert await b.engine.drain(5)
        assert elapsed_s() == pytest.approx(2, abs=0.01)
        made = len(b.participants.calls)
        await asyncio.sleep(100)
        assert len(b.participants.calls) == made


async def test_sagas_that_rest_are_taken_up_by_the_next_coordinator() -> None:
    async with bench() as b:
        await pending(b, poll_after=60)
        async with restarted(b) as again:
            times = instants(again)
            again.participants.script("a", EXECUTE, done())
            assert await again.engine.recover() == 1
            assert await again.ended() == "COMPLETED"
            assert times["a Execute"] == [62]
