"""Exclusive keys over sagas, drivers and the journal: one at a time, in order, over restarts (rule 6, G1, G3)."""

from __future__ import annotations

import pytest

from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, PauseRequested, ResumeRequested
from coordinator.core.instants import to_timestamp
from coordinator.core.keys import Blocked
from coordinator.engine.errors import InvalidRequest
from tests.coordinator.engine.bench import COMPENSATE, EXECUTE, REFUSED, Bench, bench, done, ns, step
from tests.support.virtual_time import settled

KEY = ["'account:' + input.text"]


async def _registered(b: Bench) -> None:
    await b.register(step("debit"), exclusive_keys=KEY)
    b.participants.hold("debit")


async def test_sagas_that_share_a_key_run_one_at_a_time_in_order_of_arrival() -> None:
    async with bench() as b:
        await _registered(b)
        for saga_id in ("first", "second", "third"):
            await b.start(saga_id, "ada")
        await b.start("elsewhere", "bob")
        await settled()
        assert [call.context.saga_id for call in b.participants.calls] == ["first", "elsewhere"]
        assert await b.state("second") == "PENDING"
        assert b.engine.blocked("second") == [Blocked("account:ada", "first")]
        assert b.engine.blocked("third") == [Blocked("account:ada", "first")]

        b.participants.answer("debit", done())
        assert await b.ended("first") == "COMPLETED"
        await settled()
        assert b.participants.calls[2].context.saga_id == "second"
        assert b.engine.blocked("third") == [Blocked("account:ada", "second")]


async def test_a_saga_that_goes_back_keeps_its_keys_until_it_is_compensated() -> None:
    async with bench() as b:
        await b.register(step("debit"), step("credit"), exclusive_keys=KEY)
        b.participants.script("credit", EXECUTE, REFUSED)
        b.participants.hold("debit", COMPENSATE)
        await b.start("first", "ada")
        await b.start("second", "ada")
        await settled()
        assert "debit compensate 1" in b.participants.made()
        assert await b.state("second") == "PENDING"


async def test_failed_keeps_its_keys_visibly_and_over_a_restart() -> None:
    async with bench() as b:
        await b.register(step("debit"), step("credit"), exclusive_keys=KEY)
        b.participants.script("credit", EXECUTE, REFUSED)
        b.participants.script("debit", COMPENSATE, REFUSED)
        await b.start("first", "ada")
        await b.start("second", "ada")
        assert await b.ended("first") == "FAILED"
        assert b.engine.blocked("second") == [Blocked("account:ada", "first")]
        again = await b.crash()
        await again.engine.recover()
        assert again.engine.blocked("second") == [Blocked("account:ada", "first")]
        assert await again.state("second") == "PENDING"
        await again.engine.close()


async def test_a_saga_that_fails_in_the_turn_in_which_it_starts_keeps_its_keys() -> None:
    async with bench() as b:
        failing = "shop.Text{text: string(int(input.text))}"
        await b.register(step("debit", "RETRIABLE", input=failing), exclusive_keys=KEY)
        await b.start("first", "ada")
        await b.start("second", "ada")
        assert await b.ended("first") == "FAILED"
        assert await b.state("second") == "PENDING"
        assert b.engine.blocked("second") == [Blocked("account:ada", "first")]


async def test_the_queue_survives_a_restart_in_its_order() -> None:
    async with bench() as b:
        await _registered(b)
        for saga_id in ("first", "second", "third"):
            await b.start(saga_id, "ada")
        again = await b.crash()
        again.participants.hold("debit")
        assert again.engine.blocked("second") == [Blocked("account:ada", "first")]
        await again.engine.recover()
        for saga_id, following in (("first", "second"), ("second", "third")):
            await settled()
            assert again.participants.calls[-1].context.saga_id == saga_id
            assert again.engine.blocked(following) == [Blocked("account:ada", saga_id)]
            again.participants.answer("debit", done())
            assert await again.ended(saga_id) == "COMPLETED"
        await again.engine.close()


async def test_a_saga_that_is_paused_or_cancelled_while_it_waits_makes_way() -> None:
    async with bench() as b:
        await _registered(b)
        for saga_id in ("first", "paused", "cancelled", "last"):
            await b.start(saga_id, "ada")
        await b.engine.steer("paused", PauseRequested("a look first"))
        await b.engine.cancel("cancelled", CancelRequested("too dear"))
        assert await b.state("cancelled") == "COMPENSATED"
        b.participants.answer("debit", done())
        await settled()
        assert b.participants.calls[-1].context.saga_id == "last"
        assert b.engine.blocked("paused") == []
        await b.engine.steer("paused", ResumeRequested("looked"))
        assert b.engine.blocked("paused") == [Blocked("account:ada", "last")]
        b.participants.answer("debit", done())
        await settled()
        assert b.participants.calls[-1].context.saga_id == "paused"


async def test_what_is_paused_before_anybody_drives_it_again_makes_way() -> None:
    """After a restart a saga has its place in the queue before it has a driver."""
    async with bench() as b:
        await _registered(b)
        for saga_id in ("first", "second", "third"):
            await b.start(saga_id, "ada")
        again = await b.crash()
        await again.engine.steer("second", PauseRequested("a look first"))
        assert again.engine.blocked("second") == []
        await again.engine.recover()
        assert await again.ended("third") == "COMPLETED"
        assert await again.state("second") == "PENDING"
        await again.engine.close()


async def test_a_delayed_saga_joins_the_queue_when_it_could_start() -> None:
    async with bench() as b:
        await _registered(b)
        b.participants.script("debit", EXECUTE, done())
        later = to_timestamp(b.clock.now_ns() + ns(60))
        await b.start("delayed", "ada", start_time=later)
        await b.start("now", "ada")
        assert await b.ended("now") == "COMPLETED"
        assert await b.state("delayed") == "PENDING"
        assert await b.ended("delayed") == "COMPLETED"
        assert b.clock.now_ns() >= later.seconds * 10**9


async def test_g13_keys_that_cannot_be_had_are_refused_before_anything_is_written() -> None:
    async with bench() as b:
        await b.register(step("debit"), exclusive_keys=["input.text + input.text + input.text"])
        for value, why in (("", "an empty key"), ("x" * 100, "300 bytes, at most 256")):
            with pytest.raises(InvalidRequest, match=why):
                await b.start("s", value)
        assert await b.journal.find("s") is None


async def test_the_same_key_from_two_expressions_is_one_key() -> None:
    async with bench() as b:
        await b.register(step("debit"), exclusive_keys=["input.text", "input.text"])
        await b.start("s", "ada")
        assert await b.ended() == "COMPLETED"


async def test_cancelling_what_waits_is_not_forbidden_and_what_has_ended_is() -> None:
    async with bench() as b:
        await _registered(b)
        await b.start("first", "ada")
        await b.start("second", "ada")
        await b.engine.cancel("second", CancelRequested("too dear"))
        with pytest.raises(Forbidden):
            await b.engine.cancel("second", CancelRequested("again"))
