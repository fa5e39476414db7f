"""Registering, finding and loading definitions (G11)."""

import asyncio
from typing import Any

import pytest

from coordinator.core import limits
from coordinator.core.inputs import Begun, InputFailed, OutputKnown, Skipped
from coordinator.engine.errors import DefinitionNotFound, InvalidDefinition
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import DefinitionVersion, RegisteredDefinition
from tests.coordinator.engine.bench import EXECUTE, bench, definition, descriptions, done, step, text
from tests.support.virtual_time import settled


async def test_the_same_content_is_the_same_version() -> None:
    async with bench() as b:
        first = await b.definitions.register(definition(step("a")))
        again = await b.definitions.register(definition(step("a"), version=7))
        assert (first.created, again.created) == (True, False)
        assert first.loaded is again.loaded
        assert first.loaded.definition.version == 1


async def test_another_content_is_another_version() -> None:
    async with bench() as b:
        assert await b.register(step("a")) == 1
        assert await b.register(step("a"), description="with a description") == 2
        assert await b.register(step("a"), name="other") == 1
        assert (await b.definitions.get("order")).definition.version == 2
        assert (await b.definitions.get("order", 1)).definition.description == ""


async def test_g11_other_descriptors_are_another_version() -> None:
    async with bench() as b:
        await b.register(step("a"))
        described = descriptions()["shop"]
        assert described is not None
        described.descriptors.file[0].message_type[0].field.add(name="more", number=9, type=9, label=1)
        b.descriptions = {"shop": described}
        assert await b.register(step("a")) == 2


async def test_g13_a_definition_with_problems_is_not_stored_and_all_are_named() -> None:
    async with bench() as b:
        wrong = definition(step("a", input="nothing"), step("b", participant="nobody"), exclusive_keys=["1"])
        problems = await b.definitions.validate(wrong)
        assert {problem.path.partition(".")[0] for problem in problems} == {"steps[0]", "steps[1]", "exclusive_keys[0]"}
        with pytest.raises(InvalidDefinition) as refused:
            await b.definitions.register(wrong)
        assert refused.value.problems == problems
        with pytest.raises(DefinitionNotFound):
            await b.definitions.get("order")


async def test_validating_stores_nothing() -> None:
    async with bench() as b:
        assert await b.definitions.validate(definition(step("a"))) == ()
        with pytest.raises(DefinitionNotFound):
            await b.definitions.get("order")


async def test_the_newest_that_is_not_deprecated_is_for_starts() -> None:
    async with bench() as b:
        await b.register(step("a"))
        assert (await b.definitions.newest("order", 0)).definition.version == 1
        await b.register(step("b"))
        assert (await b.definitions.newest("order", 0)).definition.version == 2
        assert (await b.definitions.deprecate("order", 2)).stored.deprecated
        assert (await b.definitions.newest("order", 0)).definition.version == 1
        assert (await b.definitions.newest("order", 2)).stored.deprecated
        await b.definitions.deprecate("order", 1)
        newest = await b.definitions.newest("order", 0)
        assert (newest.definition.version, newest.stored.deprecated) == (2, True)
        with pytest.raises(DefinitionNotFound):
            await b.definitions.deprecate("order", 3)


async def test_registering_a_deprecated_version_again_leaves_it_deprecated() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.definitions.deprecate("order", 1)
        registered = await b.definitions.register(definition(step("a")))
        assert not registered.created
        assert registered.loaded.stored.deprecated


async def test_an_older_answer_of_the_journal_does_not_make_a_version_usable_again() -> None:
    async with bench() as b:
        await b.register(step("a"))
        older = await b.journal.definition("order", 1)
        assert older is not None
        await b.definitions.deprecate("order", 1)
        assert (await b.definitions.newest("order", 1)).stored.deprecated
        await b.definitions.load(older)
        assert (await b.definitions.newest("order", 1)).stored.deprecated


class Slow(MemoryJournal):
    """Answers what is newest only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def descriptors(self, digest: str) -> bytes | None:
        await self.gate.wait()
        return await super().descriptors(digest)


async def test_a_start_that_looks_while_a_version_is_deprecated_does_not_make_the_old_answer_stay() -> None:
    journal = Slow()
    async with bench(journal=journal) as first:
        await first.register(step("a"))
        successor = Slow()
        successor._content = journal.reopen()._content
        async with bench(journal=successor) as b:
            successor.gate.clear()
            looking = asyncio.create_task(b.definitions.newest("order", 0))
            await settled()
            deprecating = asyncio.create_task(b.definitions.deprecate("order", 1))
            await settled()
            successor.gate.set()
            await asyncio.gather(looking, deprecating)
            assert (await b.definitions.newest("order", 0)).stored.deprecated


async def test_a_start_that_looks_while_a_version_is_registered_does_not_make_the_old_answer_stay() -> None:
    class Slower(MemoryJournal):
        """Finds the version at once, and tells it when the test lets it."""

        gate: asyncio.Event | None = None

        async def definition(self, name: str, version: int = 0) -> DefinitionVersion | None:
            found = await super().definition(name, version)
            if self.gate is not None:
                await self.gate.wait()
            return found

    journal = Slower()
    async with bench(journal=journal) as b:
        await b.register(step("a"))
        journal.gate = asyncio.Event()
        looking = asyncio.create_task(b.definitions.newest("order", 0))
        await settled()
        await b.register(step("b"))
        journal.gate.set()
        await looking
        assert (await b.definitions.newest("order", 0)).definition.version == 2


@pytest.mark.parametrize("durable", [True, False])
async def test_a_change_that_may_be_durable_makes_starts_look_anew(durable: bool) -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.definitions.newest("order", 0)
        b.journal.fail_next(durable=durable)
        with pytest.raises(JournalUnavailable):
            await b.register(step("b"))
        assert (await b.definitions.newest("order", 0)).definition.version == (2 if durable else 1)


async def test_a_change_whose_caller_is_gone_makes_starts_look_anew() -> None:
    submitted = asyncio.Event()

    class Telling(MemoryJournal):
        async def put_definition(self, **fields: Any) -> RegisteredDefinition:
            submitted.set()
            return await super().put_definition(**fields)

    async with bench(journal=Telling()) as b:
        await b.register(step("a"))
        submitted.clear()
        b.journal.hold()
        registering = asyncio.create_task(b.register(step("b")))
        await submitted.wait()
        await settled()
        registering.cancel()
        await settled()
        assert (await b.definitions.newest("order", 0)).definition.version == 1
        b.journal.release()
        await settled()
        assert (await b.definitions.newest("order", 0)).definition.version == 2


async def test_g14_so_many_are_kept_and_the_others_are_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEFINITION_CACHE_MAX", 2)
    async with bench() as b:
        for name in ("x", "y", "z"):
            await b.register(step("a"), name=name)
            await b.definitions.newest(name, 0)
        x, y, z = [await b.definitions.pinned(name, 1) for name in ("x", "y", "z")]
        assert await b.definitions.pinned("z", 1) is z
        assert await b.definitions.pinned("x", 1) is not x
        assert (x.definition.name, y.definition.name) == ("x", "y")
        assert len(b.definitions._loaded) == 2
        for name in ("x", "y", "z"):
            await b.definitions.newest(name, 0)
        assert list(b.definitions._for_starts) == [("y", 0), ("z", 0)]


# --- The oracle -------------------------------------------------------------------------------------------------------


async def test_the_oracle_answers_with_the_definitions_expressions() -> None:
    async with bench() as b:
        await b.register(
            step("a", input="shop.Text{text: input.text + '!'}"),
            step("b", when="a.text != 'skip b'", input="a"),
            step("c", input="shop.Text{text: a.text}"),
            output="shop.Text{text: c.text + '?'}",
        )
        b.participants.hold("a")
        b.participants.hold("b")
        await b.start()
        await settled()
        saga = await b.look()
        oracle = (await b.definitions.get("order")).oracle
        assert saga.steps[0].input == text("in!")
        b.participants.answer("a", done("from a"))
        await settled()
        assert oracle.evaluate(saga, saga.steps[1]) == Begun("b", text("from a"))
        b.participants.answer("b", done())
        assert await b.ended() == "COMPLETED"
        assert (await b.look()).output == text("out?")


async def test_the_oracle_says_what_is_skipped_and_what_fails() -> None:
    async with bench() as b:
        failing = "shop.Text{text: input.text + string(1 / (size(input.text) - size(input.text)))}"
        await b.register(step("a", when="input.text == 'no'"), step("b", input=failing), output=failing)
        b.participants.hold("a")
        await b.start(value="no")
        await settled()
        saga = await b.look()
        oracle = (await b.definitions.get("order")).oracle
        failed = oracle.evaluate(saga, saga.steps[1])
        assert isinstance(failed, InputFailed)
        assert failed.message.startswith("steps[1].input")
        output = oracle.evaluate_output(saga)
        assert output.output is None
        assert output.failure_message
        saga.input.CopyFrom(text("yes"))
        assert oracle.evaluate(saga, saga.steps[0]) == Skipped("a")


async def test_a_definition_without_an_output_yields_none() -> None:
    async with bench() as b:
        await b.register(step("a"))
        await b.start()
        assert await b.ended() == "COMPLETED"
        saga = await b.look()
        assert (await b.definitions.get("order")).oracle.evaluate_output(saga) == OutputKnown()
        assert b.participants.calls[0].operation == EXECUTE
