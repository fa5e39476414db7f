import asyncio

from tests.support.passing_time import HOUR, let_pass


async def test_what_is_due_within_the_time_is_due_at_once_and_nothing_else() -> None:
    loop = asyncio.get_running_loop()
    due, later = asyncio.Event(), asyncio.Event()
    loop.call_later(HOUR.total_seconds() - 1, due.set)
    second = loop.call_later(HOUR.total_seconds() + 60, later.set)
    await asyncio.sleep(0)
    assert not due.is_set()
    let_pass(HOUR)
    async with asyncio.timeout(60):
        await due.wait()
    assert not later.is_set()
    second.cancel()
