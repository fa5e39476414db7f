"""The order of decide, append, publish, dispatch; and what happens when the journal fails (G1, G12, rule 3)."""

import asyncio
import gc
import weakref
from collections.abc import Sequence

import pytest

from coordinator.core import limits
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, PauseRequested, Reply, ResumeRequested
from coordinator.core.instants import to_timestamp
from coordinator.core.outstanding import Outstanding
from coordinator.engine.driver import Driver, _Item
from coordinator.engine.errors import SequenceMismatch
from coordinator.engine.index import index_of
from coordinator.journal.errors import Conflict, JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Append
from saga.v1.event_pb2 import CompensationStarted, SagaEvent
from tests.coordinator.engine.bench import (
    ABORTED,
    COMPENSATE,
    EXECUTE,
    REFUSED,
    Bench,
    accepted,
    attempts_of,
    bench,
    brief,
    done,
    ns,
    step,
)
from tests.support.virtual_time import elapsed_s, settled

CANCEL = CancelRequested("changed my mind", "alice")


class Outage(MemoryJournal):
    """A journal of which nothing can be read either while it is `down`."""

    down = False

    async def read(self, saga_id: str, after_sequence: int = 0, limit: int | None = None) -> Sequence[SagaEvent]:
        if self.down:
            raise JournalUnavailable("the disk is gone")
        return await super().read(saga_id, after_sequence, limit)


async def two_in_parallel(b: Bench, *further: str) -> None:
    """A saga with `a` and `b` in flight, both held, and RETRIABLE steps behind both."""
    retriable = [step(name, "RETRIABLE", "a", "b") for name in further]
    await b.register(step("a"), step("b"), *retriable, graph=True)
    b.participants.hold("a")
    b.participants.hold("b")
    await b.start()
    await settled()
    assert sorted(b.participants.made()) == ["a execute 1", "b execute 1"]


# --- G1 ---------------------------------------------------------------------------------------------------------------


async def test_g1_a_start_is_neither_answered_nor_shown_nor_dispatched_before_it_is_durable() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.journal.hold()
        starting = asyncio.create_task(b.start())
        await settled()
        assert not starting.done()
        assert b.participants.calls == []
        with pytest.raises(SagaNotFound):
            await b.look()
        b.journal.release()
        assert await starting
        assert await b.ended() == "COMPLETED"


async def test_g1_what_a_reply_leads_to_waits_for_its_append() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.hold()
        b.participants.answer("a", done())
        reading = asyncio.create_task(b.state())
        waiting = asyncio.create_task(b.ended())
        await settled()
        assert b.participants.made() == ["a execute 1"]
        assert not reading.done()
        assert not waiting.done()
        assert (await b.journaled())[-1] == "attempt_started a 1"
        b.journal.release()
        assert await waiting == "COMPLETED"
        assert await reading == "RUNNING"  # as it stood when that append was durable, not as it had become since


async def test_g1_a_cancel_is_answered_when_it_is_durable() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        b.journal.hold()
        cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
        await settled()
        assert not cancelling.done()
        b.journal.release()
        await cancelling
        assert "compensation_started" in await b.journaled()


async def test_g1_a_refusal_is_not_told_before_what_it_follows_from_is_durable() -> None:
    """The cancel is refused because of a reply in the same append; that append fails, so nobody may know of it."""
    async with bench() as b:
        await two_in_parallel(b, "r")
        b.journal.hold()
        b.participants.answer("a", done())
        await settled()
        b.participants.answer("b", done())  # with this one the saga passes its point of no return
        await settled()
        cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
        await settled()
        b.journal.release()
        await asyncio.sleep(0)  # `a` is durable now, and the next append fails
        b.journal.fail_next()
        with pytest.raises(JournalUnavailable):
            await cancelling
        assert await b.ended() == "COMPLETED"


async def test_a_refusal_is_told_once_what_it_follows_from_is_durable() -> None:
    async with bench() as b:
        await two_in_parallel(b, "r")
        b.journal.hold()
        b.participants.answer("a", done())
        await settled()
        b.participants.answer("b", done())
        await settled()
        cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
        await settled()
        assert not cancelling.done()
        b.journal.release()
        with pytest.raises(Forbidden):
            await cancelling


async def test_a_reply_that_waits_to_be_taken_in_is_not_asked_for_again() -> None:
    """G8: a second call of one attempt would be in flight without anybody knowing."""
    async with bench() as b:
        await two_in_parallel(b)
        b.journal.hold()
        b.participants.answer("a", done())
        await settled()
        b.participants.answer("b", done())
        await settled()
        b.journal.release()
        assert await b.ended() == "COMPLETED"
        assert sorted(b.participants.made()) == ["a execute 1", "b execute 1"]


async def test_what_becomes_due_while_an_append_is_under_way_is_not_passed_over() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.participants.script("a", EXECUTE, done())
        b.journal.hold()
        b.participants.answer("a", ABORTED)
        await asyncio.sleep(5)  # the backoff is half a second
        b.journal.release()
        assert await b.ended() == "COMPLETED"
        assert b.participants.made() == ["a execute 1", "a execute 2"]


# --- An append fails --------------------------------------------------------------------------------------------------


async def test_g3_what_is_due_when_a_request_is_refused_is_not_passed_over() -> None:
    """Found by the simulation (without the mend seed 8739 hangs): the timer was taken back, and nobody looked again."""
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, ABORTED, done())
        await b.start()
        await settled()
        b.clock.ahead_ns = ns(60)  # the next attempt is due, and its timer has not come yet
        with pytest.raises(Forbidden):
            await b.engine.steer("s", ResumeRequested("it is not paused"))
        assert await b.ended() == "COMPLETED"


async def test_a_reply_whose_append_fails_is_taken_in_again() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.fail_next()
        b.participants.answer("a", done())
        await settled()
        assert b.participants.made() == ["a execute 1"]  # nothing is dispatched on a failed append
        assert await b.ended() == "COMPLETED"
        assert b.participants.made() == ["a execute 1", "b execute 1"]


async def test_an_append_that_fails_and_is_durable_is_not_made_twice() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.fail_next(durable=True)
        b.participants.answer("a", done())
        assert await b.ended() == "COMPLETED"
        assert b.participants.made() == ["a execute 1", "b execute 1"]
        assert attempts_of(await b.journaled(), "a") == ["attempt_started a 1", "step_completed a 1"]


async def test_who_follows_a_saga_is_told_of_a_last_append_that_fails_and_is_durable() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        waiting = asyncio.create_task(b.engine.wait("s", 1e6))
        watching = asyncio.create_task(_watch(b))
        await settled()
        b.journal.fail_next(durable=True)
        b.participants.answer("a", done())
        assert await watching == await b.journaled()
        assert await waiting
        assert elapsed_s() < 1


async def _watch(b: Bench) -> list[str]:
    return [brief(event) async for event, _ in b.engine.watch("s", 0)]


async def test_a_recovery_whose_append_fails_and_is_durable_spends_no_further_attempt() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        b = await first.crash()
        b.journal.fail_next(durable=True)
        assert await b.engine.recover() == 1
        assert await b.ended() == "COMPLETED"
        assert attempts_of(await b.journaled(), "a") == [
            "attempt_started a 1",
            "attempt_lost a 1",
            "attempt_started a 2",
            "step_completed a 2",
        ]
        await b.engine.close()


async def test_a_recovery_whose_append_fails_is_made_again() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.hold("a")
        await first.start()
        await settled()
        b = await first.crash()
        b.journal.fail_next(3)
        await b.engine.recover()
        assert await b.ended() == "COMPLETED"
        assert b.participants.made() == ["a execute 2"]
        await b.engine.close()


async def test_what_is_in_flight_while_an_append_fails_stays_in_flight_and_is_not_called_twice() -> None:
    async with bench() as b:
        await two_in_parallel(b)
        b.journal.fail_next()
        b.participants.answer("a", done())
        await asyncio.sleep(1)
        assert sorted(b.participants.made()) == ["a execute 1", "b execute 1"]
        b.participants.answer("b", done())
        assert await b.ended() == "COMPLETED"
        assert sorted(b.participants.made()) == ["a execute 1", "b execute 1"]


async def test_replies_that_come_while_the_journal_is_down_are_all_recorded() -> None:
    journal = Outage()
    async with bench(journal=journal) as b:
        await two_in_parallel(b)
        journal.fail_next(3)
        journal.down = True
        b.participants.answer("a", done())
        await settled()
        b.participants.answer("b", done())
        await asyncio.sleep(3)
        journal.down = False
        assert await b.ended() == "COMPLETED"
        assert sorted(b.participants.made()) == ["a execute 1", "b execute 1"]


async def test_a_journal_that_fails_again_and_again_is_tried_less_and_less_often() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.fail_next(9)
        b.participants.answer("a", done())
        assert await b.ended() == "COMPLETED"
        waits_s = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5]  # jitter is 0, so it is the lower half of each
        assert sum(waits_s) < elapsed_s() < sum(waits_s) + 0.1


@pytest.mark.parametrize("durable", [False, True])
async def test_a_cancel_whose_append_fails_is_answered_unavailable(durable: bool) -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.fail_next(durable=durable)
        with pytest.raises(JournalUnavailable):
            await b.engine.cancel("s", CANCEL)
        await asyncio.sleep(1)
        assert await b.state() == ("COMPENSATING" if durable else "RUNNING")
        b.participants.answer("a", done())
        assert await b.ended() == ("COMPENSATED" if durable else "COMPLETED")


async def test_readers_and_askers_are_sent_away_while_the_journal_is_down() -> None:
    journal = Outage()
    async with bench(journal=journal) as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        b.participants.script("b", EXECUTE, accepted(1e6))
        await b.start()
        await settled()
        journal.fail_next()
        journal.down = True
        b.participants.answer("a", done())
        await settled()
        for ask in (b.look(), b.engine.wait("s", 1e6), b.engine.cancel("s", CANCEL)):
            began_s = elapsed_s()
            with pytest.raises(JournalUnavailable):
                await ask
            assert elapsed_s() - began_s <= 5
        journal.down = False
        await asyncio.sleep(10)
        assert await b.state() == "RUNNING"  # who was sent away is not served later
        assert b.participants.made() == ["a execute 1", "b execute 1"]


async def test_lists_do_not_keep_what_an_append_that_failed_and_is_durable_said() -> None:
    """The row goes to `needs attention` and back, and nobody knew of the first."""

    class FailsAtTheTenth(MemoryJournal):
        async def append(self, append: Append) -> None:
            if any(event.attempt_failed.attempt == limits.ATTENTION_AFTER_ATTEMPTS for event in append.events):
                self.fail_next(durable=True)
            await super().append(append)

    async with bench(journal=FailsAtTheTenth()) as b:
        await b.register(step("a", "RETRIABLE"), step("b", "RETRIABLE"))
        b.participants.script("a", EXECUTE, *[ABORTED] * limits.ATTENTION_AFTER_ATTEMPTS, done())
        b.participants.script("b", EXECUTE, accepted(1e6))
        await b.start()
        await asyncio.sleep(3600)
        saga = await b.look()
        assert saga.steps[0].progress[EXECUTE].attempts == limits.ATTENTION_AFTER_ATTEMPTS + 1
        assert not saga.needs_attention
        assert await b.journal.find("s") == index_of(saga)


async def test_a_saga_that_cannot_be_read_back_is_set_aside() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.fail_next()
        b.journal.damage("s", 2, b"\xff")
        b.participants.answer("a", done())
        waiting = asyncio.create_task(b.engine.wait("s", 1e6))
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), JournalUnavailable)
        await asyncio.sleep(1)
        with pytest.raises(UnreadableSaga):
            await b.look()
        assert b.engine.unfinished == 0
        index = await b.journal.find("s")
        assert index is not None
        assert index.quarantined


# --- G12 --------------------------------------------------------------------------------------------------------------


async def _somebody_else_turns_it_back(b: Bench) -> None:
    saga = await b.look()
    event = SagaEvent(
        saga_id="s",
        sequence=saga.last_sequence + 1,
        time=to_timestamp(b.clock.now_ns()),
        compensation_started=CompensationStarted(),
    )
    await b.journal.append(Append("s", [event]))


async def test_g12_who_loses_a_conflict_stops_driving() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start()
        await settled()
        await _somebody_else_turns_it_back(b)
        b.participants.answer("a", done())
        await settled()
        assert b.engine.unfinished == 0
        assert b.participants.made() == ["a execute 1"]
        assert (await b.journaled())[-1] == "compensation_started"
        assert await b.state() == "COMPENSATING"  # what the journal says


async def test_g12_who_asks_the_loser_is_told_and_finds_another_driver_the_next_time() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        await _somebody_else_turns_it_back(b)
        with pytest.raises(Conflict):
            await b.engine.cancel("s", CANCEL)
        await b.engine.cancel("s", CANCEL)
        assert await b.ended() == "COMPENSATED"


async def test_an_expected_sequence_is_compared_when_the_request_is_taken_in() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        sequence = (await b.look()).last_sequence
        with pytest.raises(SequenceMismatch):
            await b.engine.cancel("s", CANCEL, sequence + 1)
        await b.engine.cancel("s", CANCEL, sequence)
        assert await b.state() == "COMPENSATING"


# --- Defects (rule 11) ------------------------------------------------------------------------------------------------


async def test_a_defect_concerns_its_saga_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("a")
        await b.start("broken")
        await b.start("well")
        await settled()
        program = (await b.definitions.get("order")).program
        with monkeypatch.context() as broken:
            broken.setattr(program, "step_input", lambda *_: 1 / 0)
            waiting = asyncio.create_task(b.engine.wait("broken", 1e6))
            await settled()
            b.participants.answer("a", done())
            await settled()
        assert waiting.done()
        assert await waiting  # it is shown as FAILED
        with pytest.raises(UnreadableSaga):
            await b.look("broken")
        assert "ZeroDivisionError" in caplog.text
        b.participants.answer("a", done())
        assert await b.ended("well") == "COMPLETED"
        index = await b.journal.find("broken")
        assert index is not None
        assert index.needs_attention


async def test_a_defect_while_the_calls_are_made_does_not_leave_the_saga_hanging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as b:
        await b.register(step("a"))
        monkeypatch.setattr("coordinator.engine.dispatch.request_of", lambda *_: 1 / 0)
        await b.start()
        assert await b.engine.wait("s", 1)
        with pytest.raises(UnreadableSaga):
            await b.look()


async def test_a_saga_with_a_defect_is_set_aside_as_soon_as_the_journal_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as b:
        await b.register(step("a"))
        monkeypatch.setattr("coordinator.engine.dispatch.request_of", lambda *_: 1 / 0)
        b.journal.hold()
        starting = asyncio.create_task(b.start())
        await settled()
        b.journal.release()
        await asyncio.sleep(0)
        b.journal.fail_next(4)
        assert await starting
        await asyncio.sleep(10)
        with pytest.raises(UnreadableSaga):
            await b.look()
        assert b.engine.unfinished == 0


async def test_what_goes_wrong_while_somebody_looks_is_that_readers_alone() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.hold()
        b.participants.answer("a", done())
        await asyncio.sleep(0)
        looking = asyncio.create_task(b.engine.read("s", lambda _: 1 // 0))
        await settled()
        b.journal.release()
        with pytest.raises(ZeroDivisionError):
            await looking
        assert await b.ended() == "COMPLETED"


# --- Its end ----------------------------------------------------------------------------------------------------------


async def test_a_driver_goes_when_its_saga_ends_or_stands_failed() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.script("b", EXECUTE, REFUSED)
        b.participants.script("a", COMPENSATE, REFUSED)
        await b.start()
        assert await b.ended() == "FAILED"
        assert b.engine.unfinished == 0


async def test_a_saga_that_ends_in_its_first_append_keeps_no_driver() -> None:
    """Its only step is skipped, so nothing is ever called."""
    async with bench() as b:
        await b.register(step("a", when="input.text == 'never'"))
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert b.engine.unfinished == 0
        assert b.participants.calls == []


async def test_who_asks_while_the_last_append_is_under_way_is_answered_from_the_journal() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        b.journal.hold()
        b.participants.answer("a", done())
        await settled()
        cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
        await settled()
        b.journal.release()
        with pytest.raises(Forbidden, match="COMPLETED"):
            await cancelling


async def test_a_caller_that_is_gone_disturbs_nobody() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(3600))
        await b.start()
        await settled()
        b.journal.hold()
        cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
        await settled()
        reading = asyncio.create_task(b.look())
        await settled()
        for gone in (cancelling, reading):
            gone.cancel()
        await settled()
        b.journal.release()
        assert await b.ended() == "COMPENSATED"  # the cancel was on its way all the same


async def test_the_lists_row_is_that_of_the_last_append() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.hold("b")
        await b.start(labels={"city": "Delft"})
        await settled()
        index = await b.journal.find("s")
        assert index == index_of(await b.look())


async def test_g3_a_request_that_fails_beside_a_sagas_beginning_does_not_take_away_what_that_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is brought under way follows from what is durable, and not from a turn that was taken back."""
    begin = Driver.begin

    def begin_and_pause(driver: Driver, wanted: Outstanding) -> None:
        begin(driver, wanted)
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked.add_done_callback(lambda future: future.exception())  # that it failed is its asker's to know
        driver._put(_Item(PauseRequested("wait"), asked))
        b.journal.fail_next()

    async with bench() as b:
        await b.register(step("a"), exclusive_keys=["input.text"])
        monkeypatch.setattr(Driver, "begin", begin_and_pause)
        await b.start()
        soon_s = limits.REST_AFTER_NS / limits.SECOND_NS / 2  # a look before its rest would mend it
        assert await b.ended(timeout_s=soon_s) == "COMPLETED"
        assert "saga_paused" not in " ".join(await b.journaled())


@pytest.mark.parametrize("answer", [done(), accepted(3600)])
async def test_g14_nothing_of_a_saga_waits_for_the_garbage_collector(answer: Reply) -> None:
    """It is let go of at once when it has ended, and when it rests: its payloads can be large."""
    async with bench() as b:
        await b.register(step("a"))
        b.participants.hold("a")
        await b.start()
        await settled()
        saga = weakref.ref(await b.look())
        gc.disable()
        try:
            b.participants.answer("a", answer)
            await asyncio.sleep(2)
            assert saga() is None
        finally:
            gc.enable()
