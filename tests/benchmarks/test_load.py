import asyncio

import pytest

from benchmarks import load
from benchmarks.load import Load, TurnedAway, percentile, run


async def completes(_saga_id: str, refuse: bool) -> bool:
    await asyncio.sleep(0)
    return not refuse


async def test_a_closed_loop_keeps_so_many_under_way_and_counts_every_saga_once() -> None:
    ids: list[str] = []
    under_way = most = 0

    async def counted(saga_id: str, _refuse: bool) -> bool:
        nonlocal under_way, most
        ids.append(saga_id)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return True

    outcome = await run(Load("one", concurrency=3, sagas=10), counted)
    assert (outcome.ended, outcome.failures, most) == (10, 0, 3)
    assert len(set(ids)) == 10
    assert all(saga_id.startswith("one-") for saga_id in ids)
    assert outcome.wall_s > 0
    assert 0 < outcome.p50_ms <= outcome.p99_ms


async def test_a_saga_that_ends_otherwise_than_its_third_step_says_is_a_failure() -> None:
    async def always_completes(_saga_id: str, _refuse: bool) -> bool:
        return True

    assert (await run(Load("r", sagas=2, refuse=True), completes)).failures == 0
    outcome = await run(Load("r", sagas=2, refuse=True), always_completes)
    assert (outcome.ended, outcome.failures) == (0, 2)
    assert "otherwise" in outcome.first_failure


async def test_an_error_is_counted_and_the_first_is_shown() -> None:
    async def breaks(saga_id: str, _refuse: bool) -> bool:
        raise ConnectionError(saga_id)

    outcome = await run(Load("b", sagas=3), breaks)
    assert (outcome.ended, outcome.failures) == (0, 3)
    assert outcome.first_failure == "ConnectionError: b-0000000"


async def test_who_is_turned_away_comes_back_in_a_closed_loop_and_the_wait_counts_as_latency() -> None:
    turned_away: set[str] = set()

    async def full_at_first(saga_id: str, _refuse: bool) -> bool:
        if saga_id not in turned_away:
            turned_away.add(saga_id)
            raise TurnedAway(0.01)
        return True

    outcome = await run(Load("t", concurrency=2, sagas=4), full_at_first)
    assert (outcome.ended, outcome.turned_away, outcome.failures) == (4, 4, 0)
    assert outcome.p50_ms >= 10


async def test_at_a_rate_nobody_waits_for_those_before_and_who_is_turned_away_stays_away() -> None:
    started = 0
    all_started = asyncio.Event()

    async def answered_together(saga_id: str, _refuse: bool) -> bool:
        nonlocal started
        started += 1
        if started == 5:
            all_started.set()
        await all_started.wait()
        if saga_id.endswith("4"):
            raise TurnedAway(60)
        return True

    outcome = await run(Load("f", sagas=5, rate=1000), answered_together)
    assert (outcome.ended, outcome.turned_away, outcome.failures) == (4, 1, 0)


async def test_at_a_rate_what_nobody_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "OUTSTANDING_MAX", 2)
    last = asyncio.Event()

    async def stuck(_saga_id: str, _refuse: bool) -> bool:
        await last.wait()
        return True

    running = asyncio.create_task(run(Load("u", sagas=5, rate=10_000), stuck))
    asyncio.get_running_loop().call_later(0.05, last.set)
    outcome = await running
    assert (outcome.ended, outcome.unsent) == (2, 3)


def test_percentiles() -> None:
    ordered = [float(number) for number in range(100)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile([7.0], 0.99)) == (50, 99, 7)
    assert percentile([], 0.5) == 0
