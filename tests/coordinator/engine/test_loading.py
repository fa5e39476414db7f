"""Sagas read back from the journal, one or many; what is wrong with one concerns no other (rule 11)."""

from __future__ import annotations

import logging

import pytest

from coordinator.engine.loading import Loading
from coordinator.journal.errors import UnreadableSaga
from tests.coordinator.engine.bench import bench, step
from tests.support.virtual_time import settled


async def test_what_is_read_back_is_what_was_driven() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.register(step("a"), step("b"), name="other")
        b.participants.hold("a")
        await b.start("s")
        await b.start("t", definition="other")
        await settled()
        loading = Loading(b.journal, b.definitions)
        many = await loading.many(["t", "nobody", "s"])
        assert sorted(many) == ["s", "t"]
        for saga_id, (saga, definition) in many.items():
            index = await b.journal.find(saga_id)
            assert index is not None
            alone, same = await loading.one(index)
            driven = await b.look(saga_id)
            assert saga.steps == alone.steps == driven.steps
            assert saga.last_sequence == alone.last_sequence == driven.last_sequence
            assert definition is same
            assert definition.definition.name == index.definition


async def test_rule_11_of_many_those_that_cannot_be_read_are_left_out_and_alone_they_say_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.register(step("a"), name="other")
        b.participants.hold("a")
        for saga_id, name in (("well", "order"), ("garbage", "order"), ("odd", "other")):
            await b.start(saga_id, definition=name)
        await settled()
        b.journal.damage("garbage", 2, b"\xff")
        vars(await b.definitions.get("other"))["plan"] = None  # a defect, or what a later program wrote
        loading = Loading(b.journal, b.definitions)
        assert list(await loading.many(["garbage", "odd", "well"])) == ["well"]
        assert not caplog.records
        for saga_id, why in (("garbage", "event 2 cannot be decoded"), ("odd", "its log has the details")):
            index = await b.journal.find(saga_id)
            assert index is not None
            with pytest.raises(UnreadableSaga, match=why):
                await loading.one(index)
        assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
            (logging.ERROR, "saga odd cannot be read")
        ]
