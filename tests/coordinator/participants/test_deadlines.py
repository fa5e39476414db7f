import asyncio

import pytest

from coordinator.core import limits
from coordinator.participants.deadlines import Deadlines

MOMENT_S = 0.01


class Watched:
    """Entries that stand, and those that overran, in order."""

    def __init__(self) -> None:
        self.standing: set[int] = set()
        self.overrun: list[int] = []
        self.is_over = asyncio.Event()
        self.deadlines = Deadlines(self.standing, self._take)
        self.now_s = asyncio.get_running_loop().time()

    def add(self, number: int, after_s: float) -> None:
        self.standing.add(number)
        self.deadlines.watch(number, self.now_s + after_s)

    def _take(self, number: int) -> None:
        self.overrun.append(number)
        self.standing.remove(number)
        if not self.standing:
            self.is_over.set()


async def test_deadlines_pass_in_their_order_whatever_the_order_they_came_in() -> None:
    watched = Watched()
    for number, after_s in ((1, 3 * MOMENT_S), (2, MOMENT_S), (3, 2 * MOMENT_S), (4, 4 * MOMENT_S)):
        watched.add(number, after_s)
    await asyncio.wait_for(watched.is_over.wait(), 10)
    assert watched.overrun == [2, 3, 1, 4]


async def test_a_deadline_that_has_passed_already_overruns_with_the_next_turn_of_the_loop() -> None:
    watched = Watched()
    watched.add(1, -1)
    assert watched.overrun == []
    await asyncio.wait_for(watched.is_over.wait(), 10)


def test_under_uvloop_one_that_is_due_at_once_and_more_behind_it_overrun_too() -> None:
    """What uvloop's `call_at` returns for an instant that has come is no TimerHandle."""
    uvloop = pytest.importorskip("uvloop")

    async def watch() -> list[int]:
        watched = Watched()
        for number, after_s in ((1, 0.0), (2, 0.0001), (3, MOMENT_S), (4, -1.0)):
            watched.add(number, after_s)
        await asyncio.wait_for(watched.is_over.wait(), 10)
        return watched.overrun

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(watch()) == [4, 1, 2, 3]


async def test_what_does_not_stand_any_more_is_forgotten() -> None:
    watched = Watched()
    watched.add(1, MOMENT_S)
    watched.add(2, 2 * MOMENT_S)
    watched.standing.remove(1)
    await asyncio.wait_for(watched.is_over.wait(), 10)
    assert watched.overrun == [2]


async def test_stop_forgets_all() -> None:
    watched = Watched()
    watched.add(1, 0)
    watched.deadlines.stop()
    await asyncio.sleep(MOMENT_S)
    assert watched.overrun == []


async def test_g14_what_is_forgotten_takes_a_bounded_room() -> None:
    watched = Watched()
    watched.add(1, 3600)
    for number in range(2, 10 * limits.EXCHANGE_FORGOTTEN_MAX):
        watched.add(number, 3600)
        watched.standing.remove(number)
    assert len(watched.deadlines._heap) <= limits.EXCHANGE_FORGOTTEN_MAX + 3
    watched.add(2, 0)
    watched.standing.remove(1)
    await asyncio.wait_for(watched.is_over.wait(), 10)
    assert watched.overrun == [2]
