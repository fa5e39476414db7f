import asyncio

from coordinator.engine.changes import Changes


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


async def test_g14_nothing_is_kept_of_those_who_are_gone() -> None:
    changes = Changes()
    with changes.follow("s"):
        with changes.follow("s"):
            pass
        assert list(changes._followers) == ["s"]
    assert changes._followers == {}
    try:
        with changes.follow("s"):
            raise ValueError
    except ValueError:
        pass
    assert changes._followers == {}
