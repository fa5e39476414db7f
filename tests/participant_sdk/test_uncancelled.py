import asyncio

import pytest

from participant_sdk.uncancelled import uncancelled


async def test_work_ends_before_the_cancellation_is_let_through() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    ended = False

    async def work() -> None:
        nonlocal ended
        entered.set()
        await leave.wait()
        ended = True

    task = asyncio.create_task(uncancelled(work()))
    await entered.wait()
    for _ in range(3):  # however often
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_result_and_error_come_through() -> None:
    async def works() -> int:
        return 7

    async def breaks() -> None:
        raise OSError("disk")

    assert await uncancelled(works()) == 7
    with pytest.raises(OSError, match="disk"):
        await uncancelled(breaks())


async def test_a_deadline_around_it_still_shows() -> None:
    async def work() -> None:
        await asyncio.sleep(0.02)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await uncancelled(work())
