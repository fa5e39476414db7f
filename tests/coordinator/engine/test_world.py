import asyncio

import pytest

from coordinator.engine.world import Tasks
from tests.support.virtual_time import elapsed_s


async def test_tasks_are_waited_for_with_those_that_they_start() -> None:
    tasks = Tasks()
    ended: list[str] = []

    async def first() -> None:
        await asyncio.sleep(1)
        tasks.spawn(second())
        ended.append("first")

    async def second() -> None:
        await asyncio.sleep(1)
        ended.append("second")

    tasks.spawn(first())
    assert await tasks.join(5)
    assert ended == ["first", "second"]
    assert elapsed_s() == pytest.approx(2, abs=0.01)


async def test_a_join_ends_when_its_time_is_over() -> None:
    tasks = Tasks()
    tasks.spawn(asyncio.sleep(100))
    assert not await tasks.join(5)
    assert elapsed_s() == pytest.approx(5, abs=0.01)
    await tasks.cancel()
    assert await tasks.join(0)


async def test_cancel_ends_all_also_those_that_are_started_meanwhile() -> None:
    tasks = Tasks()
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            tasks.spawn(late())
            ended.append("stubborn")

    async def late() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("late")

    tasks.spawn(stubborn())
    await asyncio.sleep(1)
    await tasks.cancel()
    assert ended[0] == "stubborn"
    assert elapsed_s() < 2
    assert await tasks.join(0)


async def test_a_task_gives_what_it_yields() -> None:
    async def answer() -> int:
        return 42

    assert await Tasks().spawn(answer()) == 42
