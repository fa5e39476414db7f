"""What participants that came back with other types are told to be wrong with them (G5, G11), and for how long."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from coordinator.core import limits
from coordinator.engine.compatibility import Compatibility
from coordinator.journal.memory import MemoryJournal
from saga.v1.participant_pb2 import Action, DescribeResponse
from saga.v1.types_pb2 import (
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
    StepKind,
)
from tests.coordinator.core.protos import files, proto
from tests.coordinator.engine.bench import TEXT, Bench, bench, done, step
from tests.support.virtual_time import settled

ALL_KINDS = (
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
)
INPUT = "input Text.text: string before, int64 now"
OUTPUT = "output Text.text: string before, int64 now"


def shop(
    text_fields: Iterable[str] = ("text",),
    *,
    action: str = "Act",
    kinds: Iterable[StepKind.ValueType] = ALL_KINDS,
    takes: str = TEXT,
    yields: str = TEXT,
) -> DescribeResponse:
    """What the bench's participant says of itself, by default what it said before."""
    return DescribeResponse(
        participant="shop",
        actions=[Action(name=action, input_type=takes, output_type=yields, kinds=kinds)],
        descriptors=files(proto("shop.proto", "shop", {"Text": list(text_fields), "Other": ["text"]})),
    )


class Watched:
    """A bench with a definition `order`, whose participant can come back as another one."""

    def __init__(self, b: Bench) -> None:
        self.bench = b
        self.compatibility = Compatibility(b.journal, lambda: b.descriptions)

    def comes_back(self, description: DescribeResponse | None) -> None:
        self.bench.descriptions = {"shop": description}
        self.compatibility.changed()

    async def problems(self) -> list[str]:
        found = await self.compatibility.problems()
        assert set(found) <= {"shop"}
        return list(found.get("shop", ()))

    async def hold(self, *saga_ids: str) -> None:
        """Sagas that wait for their first step."""
        self.bench.participants.hold("a")
        for saga_id in saga_ids:
            await self.bench.start(saga_id)
        await settled()


@asynccontextmanager
async def watched(journal: MemoryJournal | None = None) -> AsyncGenerator[Watched, None]:
    async with bench(journal=journal) as b:
        yield Watched(b)


async def problems_after(description: DescribeResponse | None, kind: str = "READ_ONLY") -> list[str]:
    """Of a participant that comes back so while a saga of one step is under way."""
    async with watched() as w:
        await w.bench.register(step("a", kind))
        await w.hold("1")
        assert await w.problems() == []
        w.comes_back(description)
        found = await w.problems()
        assert all(problem.startswith("order@1 (1 unfinished saga), step `a`: ") for problem in found)
        return [problem.partition("`: ")[2] for problem in found]


async def test_a_type_that_reads_otherwise_is_a_problem_of_the_participant_with_version_step_and_count() -> None:
    async with watched() as w:
        await w.bench.register(step("a"))
        await w.hold("1", "2")
        w.comes_back(shop(["text:int64"]))
        assert await w.problems() == [f"order@1 (2 unfinished sagas), step `a`: {text}" for text in (INPUT, OUTPUT)]


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (shop(), []),
        (shop(["text", "added"]), []),
        (shop([]), ["input Text.text: string before, not there now", "output Text.text: string before, not there now"]),
        (shop(action="Other"), ["action `Act` is not offered any more"]),
        (shop(kinds=[]), ["action `Act` does not serve as READ_ONLY any more"]),
        (shop(takes="shop.Other"), ["the input is `shop.Text` before, `shop.Other` now"]),
        (shop(yields="shop.Other"), ["the output is `shop.Text` before, `shop.Other` now"]),
        (None, []),  # it has not said anything yet
    ],
)
async def test_what_is_compared(description: DescribeResponse | None, expected: list[str]) -> None:
    assert await problems_after(description) == expected


async def test_an_action_of_no_kinds_is_compensatable() -> None:
    assert await problems_after(shop(kinds=[]), "COMPENSATABLE") == []


@pytest.mark.parametrize(("kind", "is_handed_back"), [("COMPENSATABLE", True), ("RESERVABLE", True), ("PIVOT", False)])
async def test_an_output_that_is_handed_back_must_be_read_by_the_participant_too(
    kind: str, is_handed_back: bool
) -> None:
    """Compensate and Confirm get the output as it was recorded. It may be read as bytes, and be written as them not."""

    def describes(type_name: str) -> DescribeResponse:
        description = shop(yields="shop.Other")
        [file] = description.descriptors.file
        file.message_type[1].field[0].type = file.message_type[1].field[0].Type.Value(type_name)
        return description

    async with watched() as w:
        w.bench.descriptions = {"shop": describes("TYPE_BYTES")}
        await w.bench.register(step("a", kind))
        await w.hold("1")
        w.comes_back(describes("TYPE_STRING"))
        lossy = "output Other.text: bytes before, string now (only UTF-8 can be read)"
        assert [problem.partition("`: ")[2] for problem in await w.problems()] == [lossy] * is_handed_back


async def test_a_problem_ends_with_the_last_saga_and_comes_with_the_first() -> None:
    async with watched() as w:
        await w.bench.register(step("a"))
        w.comes_back(shop(action="Other"))
        text = "step `a`: action `Act` is not offered any more"
        assert await w.problems() == [f"order@1 (new sagas start on it), {text}"]
        await w.hold("1")
        assert await w.problems() == [f"order@1 (1 unfinished saga), {text}"]
        await w.bench.definitions.deprecate("order", 1)
        assert await w.problems() == [f"order@1 (1 unfinished saga), {text}"]
        w.bench.participants.answer("a", done())
        await w.bench.ended("1")
        assert await w.problems() == []


async def test_of_the_versions_those_in_use_count_the_most_used_first() -> None:
    async with watched() as w:
        for description in ("unused", "one saga", "two sagas", "newest", "deprecated"):
            await w.bench.register(step("a"), description=description)
        await w.bench.definitions.deprecate("order", 5)
        w.bench.participants.hold("a")
        for saga_id, version in (("1", 2), ("2", 3), ("3", 3)):
            await w.bench.start(saga_id, version=version)
        await settled()
        w.comes_back(shop(action="Other"))
        assert [problem.partition(",")[0] for problem in await w.problems()] == [
            "order@3 (2 unfinished sagas)",
            "order@2 (1 unfinished saga)",
            "order@4 (new sagas start on it)",
        ]


async def test_all_pages_of_definitions_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEFINITIONS_PAGE_SIZE_DEFAULT", 2)
    async with watched() as w:
        for name in ("one", "two", "three"):
            await w.bench.register(step("a"), name=name)
            await w.bench.register(step("b"), name=name)
        w.comes_back(shop(action="Other"))
        assert sorted(problem.partition(" ")[0] for problem in await w.problems()) == ["one@2", "three@2", "two@2"]


async def test_other_participants_have_no_problem_and_one_that_is_not_configured_is_passed_over() -> None:
    async with watched() as w:
        w.bench.descriptions |= {"other": shop()}
        await w.bench.register(step("a"), step("b", participant="other"))
        w.bench.descriptions = {"other": shop(action="Other")}
        found = await w.compatibility.problems()
        assert list(found) == ["other"]


async def test_g14_problems_are_shown_and_logged_up_to_a_limit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPATIBILITY_WARNINGS_MAX", 3)
    async with watched() as w:
        await w.bench.register(*(step(f"s{number}") for number in range(200)))
        w.comes_back(shop(action="Other"))
        shown = await w.problems()
    assert sum(map(len, shown)) < 2 * limits.DESCRIPTION_BYTES_MAX
    assert shown[-1] == f"and {200 - len(shown) + 1} more"
    assert [getattr(record, "more", 0) for record in caplog.records] == [0, 0, 0, 197]


# --- While it runs ----------------------------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "problem", record.message) for record in caplog.records if record.levelno > logging.INFO]


async def test_each_problem_is_logged_once_when_a_participant_has_changed(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as w, w.compatibility.running():
        await w.bench.register(step("a"))
        await w.hold("1")
        assert warnings(caplog) == []
        w.comes_back(shop(["text:int64"]))
        await settled()
        assert warnings(caplog) == [INPUT, OUTPUT]
        first = vars(caplog.records[0])
        known = {"participant": "shop", "definition": "order", "version": 1, "step": "a", "unfinished_sagas": 1}
        assert known.items() <= first.items()
        await w.problems()
        await w.hold("2")  # another saga is no other problem
        w.comes_back(shop(["text:int64", "added"]))
        await settled()
        assert len(warnings(caplog)) == 2
        w.comes_back(shop(["text:int64"], action="Other"))
        await settled()
        assert warnings(caplog)[2:] == ["action `Act` is not offered any more"]


async def test_what_was_repaired_and_breaks_again_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as w, w.compatibility.running():
        await w.bench.register(step("a"))
        for action in ("Other", "Act", "Other"):
            w.comes_back(shop(action=action))
            await settled()
        assert len(warnings(caplog)) == 2


async def test_what_changed_while_the_coordinator_was_down_is_logged_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watched() as w:
        await w.bench.register(step("a"))
        w.bench.descriptions = {"shop": shop(action="Other")}
        async with w.compatibility.running():
            await settled()
            assert len(warnings(caplog)) == 1


async def test_a_saga_on_a_version_that_nobody_looked_at_is_found_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as w:
        await w.bench.register(step("a", "RETRIABLE"))  # it does not give up meanwhile
        await w.bench.register(step("b"))
        w.comes_back(shop(action="Other"))
        async with w.compatibility.running():
            await settled()
            w.bench.participants.hold("a")
            await w.bench.start(version=1)
            await asyncio.sleep(limits.COMPATIBILITY_INTERVAL_NS / limits.SECOND_NS)
            await settled()
            logged = [vars(record) for record in caplog.records if hasattr(record, "problem")]
            assert [(record["version"], record["unfinished_sagas"]) for record in logged] == [(2, 0), (1, 1)]


async def test_versions_are_compared_again_only_where_a_participant_of_theirs_has_changed() -> None:
    class Counting(MemoryJournal):
        """Counts the versions that are fetched to be compared."""

        fetched = 0

        async def descriptors(self, digest: str) -> bytes | None:
            self.fetched += 1
            return await super().descriptors(digest)

    journal = Counting()
    async with watched(journal) as w:
        w.bench.descriptions |= {"other": shop()}
        await w.bench.register(step("a"))
        await w.bench.register(step("a", participant="other"), name="elsewhere")
        journal.fetched = 0
        for expected in (2, 2):
            await w.problems()
            assert journal.fetched == expected
        w.bench.descriptions = {**w.bench.descriptions, "other": shop(action="Other")}
        await w.compatibility.problems()
        assert journal.fetched == 3


async def test_while_the_journal_cannot_be_read_what_was_known_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as w:
        await w.bench.register(step("a"))
        w.comes_back(shop(action="Other"))
        [known] = await w.problems()
        caplog.clear()
        await w.bench.journal.close()
        assert await w.problems() == [known]
        assert warnings(caplog) == ["participants could not be compared with definitions"]


async def test_a_look_that_fails_is_logged_and_is_not_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched() as w:
        await w.bench.register(step("a"))

        def fail() -> None:
            raise RuntimeError("for a test")

        monkeypatch.setattr(w.compatibility, "_descriptions", fail)
        async with w.compatibility.running():
            await settled()
            assert warnings(caplog) == ["participants could not be compared with definitions"]
            monkeypatch.undo()
            w.comes_back(shop(action="Other"))
            await settled()
            assert len(warnings(caplog)) == 2


async def test_a_version_that_cannot_be_read_keeps_no_other_from_being_compared() -> None:
    async with watched() as w:
        await w.bench.register(step("a"), name="damaged")
        await w.bench.register(step("a"), name="sound")
        definitions = w.bench.journal._content.definitions
        definitions["damaged", 1] = replace(definitions["damaged", 1], content=b"\x00\x00\x00\x02\xff\xff")
        w.comes_back(shop(action="Other"))
        assert [problem.partition(" ")[0] for problem in await w.problems()] == ["sound@1"]
