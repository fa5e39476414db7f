"""Calls, polls and the timer, and that no Execute is at work when its Compensate goes out (G8)."""

import asyncio

import pytest

from coordinator.core.inputs import CancelRequested, Done, Reply, Unknown
from coordinator.participants.call import Call
from saga.v1.types_pb2 import FAILURE_KIND_UNAVAILABLE, Failure
from tests.coordinator.engine.bench import (
    ABORTED,
    COMPENSATE,
    CONFIRM,
    EXECUTE,
    INVALID,
    REFUSED,
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
    step,
)
from tests.support.virtual_time import EPOCH_NS, elapsed_s, settled

CANCEL = CancelRequested("changed my mind")


# --- Calls ------------------------------------------------------------------------------------------------------------


async def test_an_exception_of_the_caller_is_an_unknown_outcome_and_concerns_its_saga_only() -> None:
    async def explode(_call: Call) -> Reply:
        raise RuntimeError("a secret")

    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, explode, done())
        await b.start("s")
        await b.start("t")
        assert await b.ended("t") == "COMPLETED"
        assert await b.ended("s") == "COMPLETED"
        failed = [e.attempt_failed for e in await b.journal.read("s") if e.HasField("attempt_failed")]
        assert [(f.failure.kind, f.answered) for f in failed] == [(FAILURE_KIND_UNAVAILABLE, False)]
        assert "secret" not in str(failed)


async def test_a_call_gets_what_is_left_of_its_attempts_time() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=10)))
        b.journal.hold()
        starting = asyncio.create_task(b.start())
        await asyncio.sleep(4)
        b.journal.release()
        assert await starting
        await settled()
        assert b.participants.calls[0].timeout_ns == pytest.approx(ns(6), abs=ns(0.01))


async def test_a_call_whose_time_is_over_before_it_could_be_made_is_still_answered() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=1)))
        b.journal.hold()
        starting = asyncio.create_task(b.start())
        await asyncio.sleep(4)
        b.journal.release()
        await starting
        assert await b.ended() == "COMPLETED"
        assert b.participants.calls[0].timeout_ns == 0


async def test_another_attempt_is_made_when_its_backoff_is_over() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(backoff=8)))
        b.participants.script("a", EXECUTE, ABORTED, ABORTED, done())
        times = instants(b)
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [0, 4, 12]  # jitter is 0, so half of each backoff


async def test_steps_of_a_graph_are_called_side_by_side_and_each_once() -> None:
    async with bench() as b:
        names = [f"s{number}" for number in range(20)]
        await b.register(*(step(name) for name in names), graph=True)
        for name in names:
            b.participants.hold(name)
        await b.start()
        await settled()
        for name in names:
            b.participants.answer(name, done())
            await asyncio.sleep(0)
        assert await b.ended() == "COMPLETED"
        assert sorted(b.participants.made()) == sorted(f"{name} execute 1" for name in names)


# --- Wake-ups ---------------------------------------------------------------------------------------------------------


async def test_a_delayed_start_happens_at_its_instant() -> None:
    async with bench() as b:
        await b.register(step("a"))
        times = instants(b)
        asked = request()
        asked.start_time.FromNanoseconds(EPOCH_NS + ns(3600))
        await b.engine.start(asked)
        assert await b.state() == "PENDING"
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [3600]


async def test_a_deadline_turns_a_saga_back_without_any_other_event() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"))
        b.participants.script("b", EXECUTE, accepted(86_400))
        times = instants(b)
        asked = request()
        asked.timeout.FromSeconds(60)
        await b.engine.start(asked)
        assert await b.ended() == "COMPENSATED"
        assert times["a Compensate"] == times["b Compensate"] == [60]


async def test_a_clock_that_is_set_back_makes_nothing_wait_longer() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(backoff=8)))
        b.participants.script("a", EXECUTE, ABORTED, done())
        times = instants(b)
        await b.start()
        await settled()
        restarted = await b.crash()
        restarted.clock.ahead_ns = -ns(100 * 86_400)
        await restarted.engine.recover()
        assert await restarted.ended() == "COMPLETED"
        assert times["a Execute"] == [0]
        assert elapsed_s() < 5
        await restarted.engine.close()


# --- Polls ------------------------------------------------------------------------------------------------------------


async def test_a_pending_step_is_asked_again_after_its_latest_poll_after() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(10), accepted(60), accepted(5), done())
        times = instants(b)
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [0, 10, 70, 75]


async def test_polls_are_not_journaled_and_carry_the_attempt_and_key_of_the_first_call() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(10), accepted(10), done())
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert attempts_of(await b.journaled(), "a") == [
            "attempt_started a 1",
            "step_pending a 1",
            "step_completed a 1",
        ]
        assert b.participants.made() == ["a execute 1"] * 3
        assert len({call.context.idempotency_key for call in b.participants.calls}) == 1


async def test_a_poll_that_is_not_answered_is_made_again_after_the_latest_poll_after() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(10), accepted(60), UNAVAILABLE, done())
        times = instants(b)
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert times["a Execute"] == [0, 10, 70, 130]


async def test_compensate_and_confirm_are_polled_too() -> None:
    async with bench() as b:
        await b.register(step("a", "RESERVABLE"), step("b"))
        b.participants.script("a", CONFIRM, accepted(10), Done())
        b.participants.script("a", COMPENSATE, accepted(20), UNAVAILABLE, Done())
        times = instants(b)
        await b.start("forward")
        assert await b.ended("forward") == "COMPLETED"
        assert times["a Confirm"] == [0, 10]
        b.participants.script("b", EXECUTE, REFUSED)
        await b.start("back")
        assert await b.ended("back") == "COMPENSATED"
        assert times["a Compensate"] == [10, 30, 50]


async def test_a_pending_step_survives_a_restart_and_is_polled_again() -> None:
    async with bench() as first:
        await first.register(step("a"))
        first.participants.script("a", EXECUTE, accepted(10))
        await first.start()
        await asyncio.sleep(15)
        b = await first.crash()
        await b.engine.recover()
        assert await b.ended() == "COMPLETED"
        assert b.participants.made() == ["a execute 1"]
        assert elapsed_s() == pytest.approx(25, abs=0.01)
        await b.engine.close()


async def test_g8_a_step_is_not_compensated_while_a_poll_of_it_is_in_flight() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=30)))
        in_flight: asyncio.Event = asyncio.Event()

        async def never(_call: Call) -> Reply:
            in_flight.set()
            await asyncio.sleep(30)
            return UNAVAILABLE

        b.participants.script("a", EXECUTE, accepted(10), never)
        times = instants(b)
        await b.start()
        await in_flight.wait()
        await b.engine.cancel("s", CANCEL)
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Execute": [0, 10], "a Compensate": [40]}


async def test_g8_a_step_is_compensated_as_soon_as_the_poll_of_it_is_answered() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=30)))

        async def slow(_call: Call) -> Reply:
            await asyncio.sleep(7)
            return accepted(10)

        b.participants.script("a", EXECUTE, accepted(10), slow)
        times = instants(b)
        await b.start()
        await asyncio.sleep(12)
        await b.engine.cancel("s", CANCEL)
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Execute": [0, 10], "a Compensate": [17]}


async def test_g8_an_earlier_poll_that_nobody_answered_counts_though_a_later_one_was_answered() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(timeout=30)))
        b.participants.script("a", EXECUTE, accepted(10), UNAVAILABLE, accepted(10))
        times = instants(b)
        await b.start()
        await asyncio.sleep(21)
        await b.engine.cancel("s", CANCEL)
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Execute": [0, 10, 20], "a Compensate": [40]}


async def test_g8_no_poll_goes_out_while_the_append_that_turns_the_saga_back_is_under_way() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(10))
        times = instants(b)
        await b.start()
        await asyncio.sleep(9)
        b.journal.hold()
        cancelling = asyncio.create_task(b.engine.cancel("s", CANCEL))
        await asyncio.sleep(9)
        b.journal.release()
        await cancelling
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Execute": [0], "a Compensate": [18]}


async def test_g8_a_poll_that_ends_a_step_unknown_delays_its_compensate_over_a_crash_too() -> None:
    """The poll's time-out is not over: whoever drives the saga next must know of it."""
    gone = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=False, answered=False)
    async with bench() as first:
        await first.register(step("a", execute=policy(timeout=30)))
        first.participants.script("a", EXECUTE, accepted(10), gone)
        await first.start()
        await asyncio.sleep(11)
        assert await first.state() == "COMPENSATING"
        b = await first.crash()
        times = instants(b)
        await b.engine.recover()
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Compensate": [40]}
        await b.engine.close()


async def test_a_poll_that_is_refused_for_good_turns_the_saga_back() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, accepted(10), INVALID)
        times = instants(b)
        await b.start()
        assert await b.ended() == "COMPENSATED"
        assert times == {"a Execute": [0, 10], "a Compensate": [10]}


async def test_two_pending_steps_keep_their_own_time() -> None:
    async with bench() as b:
        await b.register(step("a"), step("b"), graph=True)
        b.participants.script("a", EXECUTE, accepted(10), accepted(10), done())
        b.participants.script("b", EXECUTE, accepted(7), accepted(7), accepted(7), done())
        times = instants(b)
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert times == {"a Execute": [0, 10, 20], "b Execute": [0, 7, 14, 21]}


# --- News of a step that is polled ------------------------------------------------------------------------------------


async def polled_and_held(b: Bench) -> None:
    """`a` is pending, and its first poll is in flight; `c` is in flight beside it."""
    await b.register(step("a", execute=policy(timeout=100)), step("c", execute=policy(timeout=100)), graph=True)
    b.participants.script("a", EXECUTE, accepted(60))
    b.participants.hold("c")
    await b.start()
    await settled()
    b.participants.hold("a")
    await asyncio.sleep(60)
    assert made_of_a(b) == 2


def made_of_a(b: Bench) -> int:
    return b.participants.made().count("a execute 1")


async def test_news_that_comes_while_a_poll_is_in_flight_leads_to_another_at_once() -> None:
    """The poll may have been answered by what was so before the news."""
    async with bench() as b:
        await polled_and_held(b)
        b.news("s", "a")
        await settled()
        assert made_of_a(b) == 2
        b.participants.answer("a", accepted(60))
        await settled()
        assert made_of_a(b) == 3
        assert elapsed_s() == pytest.approx(60, abs=0.01)
        b.participants.answer("a", accepted(60))
        await settled()
        assert made_of_a(b) == 3  # the news has been heard


async def test_g8_no_poll_goes_out_while_the_answer_to_the_one_before_waits_to_be_taken_in() -> None:
    """It would be a poll that nobody hears, and a Compensate of the step would have to wait for it."""
    async with bench() as b:
        await polled_and_held(b)
        b.journal.hold()
        b.participants.answer("c", done())
        await settled()
        b.news("s", "a")
        b.participants.answer("a", done())
        await settled()
        b.journal.release()
        assert await b.ended() == "COMPLETED"
        assert made_of_a(b) == 2
