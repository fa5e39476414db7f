import asyncio

import pytest

from coordinator.participants.places import Places
from tests.support.virtual_time import elapsed_s, in_virtual_time, settled


@in_virtual_time
async def test_g14_so_many_at_a_time_and_the_others_first_come_first_served() -> None:
    places, came = Places(2), list[str]()

    async def come(name: str) -> None:
        await places.acquire()
        came.append(name)

    tasks = [asyncio.create_task(come(name)) for name in "abcd"]
    await settled()
    assert came == ["a", "b"]
    assert (places.most, places.taken, places.waiting, places.locked()) == (2, 2, 2, True)
    for _ in "cd":
        places.release()
        await settled()
    assert came == ["a", "b", "c", "d"]
    assert (places.taken, places.waiting) == (2, 0)
    for _ in range(2):
        places.release()
    assert (places.taken, places.locked()) == (0, False)
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_how_long_the_first_of_those_who_wait_does() -> None:
    places = Places(1)
    assert places.behind_s == 0
    await places.acquire()
    first = asyncio.create_task(places.acquire())
    await asyncio.sleep(3)
    second = asyncio.create_task(places.acquire())
    await asyncio.sleep(4)
    assert places.behind_s == pytest.approx(7)
    first.cancel()
    await settled()
    assert places.behind_s == pytest.approx(4)
    assert places.waiting == 1
    places.release()
    await second
    assert (places.behind_s, places.taken) == (0, 1)
    assert elapsed_s() < 8
