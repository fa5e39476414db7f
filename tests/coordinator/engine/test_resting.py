"""The queue of sagas that rest: what is kept, when it is due, and one timer for all."""

from __future__ import annotations

import asyncio

from coordinator.core import limits
from coordinator.engine.resting import Rest, Resting
from tests.coordinator.engine.bench import ns
from tests.support.virtual_time import EPOCH_NS, LoopClock, elapsed_s, settled


class Queue:
    """A queue whose sagas are taken as soon as they are due."""

    def __init__(self, at_once: int = 100) -> None:
        self.clock = LoopClock()
        self.resting = Resting(self.clock, self._take)
        self.taken: list[tuple[str, float]] = []
        self._at_once = at_once

    def put(self, saga_id: str, at_s: float | None) -> Rest:
        rest = Rest(None if at_s is None else EPOCH_NS + ns(at_s))
        self.resting.put(saga_id, rest)
        return rest

    def _take(self) -> None:
        while due := self.resting.take_due(self._at_once):
            assert len(due) <= self._at_once
            self.taken += [(saga_id, round(elapsed_s(), 3)) for saga_id in due]
        self.resting.watch()


async def test_each_is_due_at_its_instant_and_rests_no_more() -> None:
    queue = Queue()
    for saga_id, at_s in (("c", 30), ("a", 10), ("b", 20), ("never", None)):
        queue.put(saga_id, at_s)
    await asyncio.sleep(25)
    assert queue.taken == [("a", 10), ("b", 20)]
    assert "b" not in queue.resting
    assert len(queue.resting) == 2
    await asyncio.sleep(1e6)
    assert queue.taken[2:] == [("c", 30)]
    assert "never" in queue.resting


async def test_g14_those_that_are_due_together_are_taken_in_portions_the_earliest_first() -> None:
    queue = Queue(at_once=2)
    queue.put("late", 2)
    for number in range(5):
        queue.put(f"s{number}", 1 + number / 1e6)
    await asyncio.sleep(1.5)
    assert [saga_id for saga_id, _ in queue.taken] == ["s0", "s1", "s2", "s3", "s4"]


async def test_what_was_taken_or_put_again_is_not_due_at_the_former_instant() -> None:
    queue = Queue()
    rest = queue.put("a", 10)
    queue.put("b", 10)
    assert queue.resting.take("a") is rest
    assert queue.resting.take("a") is None
    queue.put("a", 20)
    await asyncio.sleep(15)
    assert queue.taken == [("b", 10)]
    await asyncio.sleep(15)
    assert queue.taken == [("b", 10), ("a", 20)]


async def test_news_makes_a_saga_due_at_once_and_its_step_too() -> None:
    queue = Queue()
    rest = queue.put("a", None)
    queue.put("b", 1000)
    queue.resting.stir("a", "ship")
    queue.resting.stir("a", "ship")
    queue.resting.stir("b")
    queue.resting.stir("nobody", "ship")
    await settled()
    assert queue.taken == [("a", 0), ("b", 0)]
    assert rest.hastened == ("ship",)


async def test_a_saga_that_is_postponed_is_due_later() -> None:
    queue = Queue()
    queue.put("a", 1)
    queue.resting.postpone("a", ns(5))
    queue.resting.postpone("nobody", ns(5))
    await asyncio.sleep(10)
    assert queue.taken == [("a", 5)]


async def test_a_clock_that_is_set_forward_is_noticed_within_a_minute() -> None:
    queue = Queue()
    queue.put("a", 3600)
    await asyncio.sleep(90)
    queue.clock.ahead_ns = ns(3600)
    await asyncio.sleep(limits.CLOCK_LOOK_NS / limits.SECOND_NS)
    assert [saga_id for saga_id, _ in queue.taken] == ["a"]


async def test_an_earlier_instant_is_not_missed_while_a_later_one_is_waited_for() -> None:
    queue = Queue()
    queue.put("later", 50)
    await asyncio.sleep(1)
    queue.put("sooner", 10)
    await asyncio.sleep(60)
    assert queue.taken == [("sooner", 10), ("later", 50)]


async def test_g14_instants_that_are_none_any_more_do_not_pile_up() -> None:
    queue = Queue()
    for number in range(10):
        queue.put(f"s{number}", 100)
    for _ in range(1000):
        rest = queue.resting.take("s0")
        assert rest is not None
        queue.resting.put("s0", rest)
    assert len(queue.resting._queue) < 100
    await asyncio.sleep(101)
    assert sorted(saga_id for saga_id, _ in queue.taken) == [f"s{number}" for number in range(10)]


async def test_one_that_is_closed_keeps_nothing_and_is_never_due() -> None:
    queue = Queue()
    queue.put("a", 1)
    queue.resting.close()
    queue.put("b", 1)
    assert len(queue.resting) == 0
    await asyncio.sleep(5)
    assert queue.taken == []
