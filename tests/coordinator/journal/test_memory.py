import asyncio

import pytest

from coordinator.journal.errors import JournalUnavailable, SagaNotFound, UnreadableSaga
from coordinator.journal.memory import MemoryJournal
from tests.coordinator.journal.builders import follow, sequences, start


async def test_a_failed_append_is_lost_or_durable_as_asked_for() -> None:
    journal = MemoryJournal()
    await journal.append(start("a"))
    journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await journal.append(follow("a", 2))
    assert sequences(await journal.read("a")) == [1]
    journal.fail_next(durable=True)
    with pytest.raises(JournalUnavailable):
        await journal.append(follow("a", 2))
    assert sequences(await journal.read("a")) == [1, 2]
    await journal.append(follow("a", 3))


async def test_a_failure_hides_a_refusal() -> None:
    journal = MemoryJournal()
    journal.fail_next(durable=True)
    with pytest.raises(JournalUnavailable):
        await journal.append(follow("a", 2))


async def test_health_follows_the_failures_and_comes_back_by_itself() -> None:
    journal, heard = MemoryJournal(), asyncio.Queue[bool]()
    journal.on_health_change(heard.put_nowait)
    journal.fail_next(2)
    for saga_id in ("a", "b"):
        with pytest.raises(JournalUnavailable):
            await journal.append(start(saga_id))
    assert await heard.get() is False
    assert await heard.get() is True
    assert heard.empty()
    assert journal.healthy


async def test_definitions_fail_like_appends() -> None:
    journal = MemoryJournal()
    journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await journal.put_definition(name="a", content=b"", digest="", descriptors=b"", create_time_ns=1)
    assert await journal.definition("a") is None


async def test_g1_nothing_held_back_is_acknowledged_or_shown() -> None:
    journal = MemoryJournal()
    journal.hold()
    append = asyncio.create_task(journal.append(start("a")))
    with pytest.raises(SagaNotFound):
        await journal.read("a")
    assert not append.done()
    journal.release()
    await append
    assert sequences(await journal.read("a")) == [1]


async def test_a_crash_loses_what_was_not_durable_and_nothing_else() -> None:
    journal = MemoryJournal()
    await journal.append(start("a"))
    journal.hold()
    append = asyncio.create_task(journal.append(follow("a", 2)))
    await asyncio.sleep(0)
    successor = journal.reopen()
    with pytest.raises(JournalUnavailable, match="crashed"):
        await append
    with pytest.raises(JournalUnavailable):
        await journal.read("a")
    assert sequences(await successor.read("a")) == [1]
    await successor.append(follow("a", 2))
    assert await successor.find("a") is not None


async def test_a_cancelled_caller_of_an_append_that_fails_is_not_an_unhandled_error() -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    journal = MemoryJournal()
    journal.hold()
    append = asyncio.create_task(journal.append(start("a")))
    await asyncio.sleep(0)
    append.cancel()
    await asyncio.gather(append, return_exceptions=True)
    journal.fail_next()
    journal.release()
    with pytest.raises(SagaNotFound):
        await journal.read("a")
    assert unhandled == []


async def test_damage_makes_a_saga_unreadable() -> None:
    journal = MemoryJournal()
    await journal.append(start("a", 2))
    journal.damage("a", 2, b"\xff")
    with pytest.raises(UnreadableSaga):
        await journal.read("a")
