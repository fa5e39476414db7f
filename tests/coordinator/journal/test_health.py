import asyncio

from coordinator.journal.health import Health


async def test_listeners_hear_changes_only() -> None:
    health, heard = Health(), list[bool]()
    health.listen(heard.append)
    changes = [health.report(outcome) for outcome in (True, False, False, True)]
    await asyncio.sleep(0)
    assert changes == [False, True, False, True]
    assert heard == [False, True]
    assert health.healthy


async def test_a_listener_that_raises_does_not_disturb_the_reporter() -> None:
    caught: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))
    health, heard = Health(), list[bool]()
    health.listen(_raise)
    health.listen(heard.append)
    health.report(False)
    await asyncio.sleep(0)
    assert heard == [False]
    assert [type(error) for error in caught] == [ZeroDivisionError]


def _raise(_: bool) -> None:
    raise ZeroDivisionError
