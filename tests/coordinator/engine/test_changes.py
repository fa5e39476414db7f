import asyncio

import pytest

from coordinator.core.state import Saga
from coordinator.engine.changes import Changes
from tests.coordinator.core import sagas


def standing() -> Saga:
    return sagas.Bench(sagas.define(sagas.step("a"))).saga


def state(saga: Saga) -> int:
    return saga.state


async def test_followers_of_a_saga_are_told_of_its_changes_only() -> None:
    changes = Changes()
    with changes.follow("s") as one, changes.follow("s") as other, changes.follow("t") as stranger:
        changes.publish("s")
        assert one.is_set()
        assert other.is_set()
        assert not stranger.is_set()
        changes.disturb_all()
        assert stranger.is_set()
    changes.publish("s")
    changes.publish("nobody follows it")


async def test_a_change_wakes_who_waits() -> None:
    changes = Changes()

    async def wait() -> None:
        with changes.follow("s") as changed:
            await changed.wait()

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    changes.publish("s")
    await asyncio.gather(*waiting)


async def test_who_waits_sees_the_saga_when_it_stands_and_not_before() -> None:
    changes, saga = Changes(), standing()
    with changes.await_standing(saga.saga_id, state) as seen, changes.await_standing("t", state) as stranger:
        changes.publish(saga.saga_id)
        assert not seen.done()
        changes.publish_standing(saga)
        changes.publish_standing(saga)  # once is enough
        assert await seen == [saga.state]
        assert not stranger.done()


async def test_who_waits_looks_again_when_something_is_wrong_or_all_is_over() -> None:
    changes = Changes()
    with changes.await_standing("s", state) as one, changes.await_standing("t", state) as other:
        changes.disturb("s")
        assert await one == []
        changes.disturb_all()
        assert await other == []


async def test_what_goes_wrong_when_somebody_looks_is_theirs_alone() -> None:
    changes, saga = Changes(), standing()

    def stumble(_: Saga) -> int:
        raise ValueError("stumbled")

    with changes.await_standing(saga.saga_id, stumble) as wrong, changes.await_standing(saga.saga_id, state) as right:
        changes.publish_standing(saga)
        assert await right == [saga.state]
        with pytest.raises(ValueError, match="stumbled"):
            await wrong


async def test_g14_nothing_is_kept_of_those_who_are_gone() -> None:
    changes = Changes()
    with changes.follow("s"):
        with changes.follow("s"):
            pass
        with changes.await_standing("s", state):
            assert list(changes._waits) == ["s"]
        assert list(changes._followers) == ["s"]
    assert changes._followers == {}
    assert changes._waits == {}
    try:
        with changes.follow("s"):
            raise ValueError
    except ValueError:
        pass
    assert changes._followers == {}
