"""How starts take turns: by themselves in virtual time, and through the API."""

import asyncio
from contextlib import suppress

import pytest
from google.rpc.error_details_pb2 import RetryInfo

from coordinator.api.rpc import Gates
from coordinator.api.turns import Turns
from coordinator.core import limits
from coordinator.engine.errors import Overloaded
from saga.v1 import coordinator_pb2 as pb
from tests.coordinator.api.serving import code_and_reason, detail, failure, serving
from tests.coordinator.engine.bench import request, step
from tests.support.virtual_time import in_virtual_time
from tests.support.waiting import until

BEHIND_S = limits.BEHIND_MAX_NS / limits.SECOND_NS


@in_virtual_time
async def test_g14_once_one_has_waited_too_long_further_ones_are_refused_until_it_has_had_its_turn() -> None:
    turns, done = Turns(1), asyncio.Event()

    async def start(until_: asyncio.Event) -> None:
        async with turns.turn():
            await until_.wait()

    first, second = asyncio.create_task(start(done)), asyncio.create_task(start(asyncio.Event()))
    await asyncio.sleep(BEHIND_S / 2)
    third = asyncio.create_task(start(asyncio.Event()))  # a queue is no overload while it moves
    await asyncio.sleep(BEHIND_S / 2 + 0.1)
    with pytest.raises(Overloaded, match=f"starts have waited {BEHIND_S + 0.1:.1f} s for their turn"):
        await start(done)
    done.set()
    await first  # the second has its turn, and the third has waited for less
    fourth = asyncio.create_task(start(asyncio.Event()))
    await asyncio.sleep(0)
    assert not fourth.done()
    for task in (second, third, fourth):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    async with turns.turn():
        pass


async def test_g14_a_coordinator_that_is_behind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BEHIND_MAX_NS", 0)
    gates = Gates()
    async with serving(gates=gates) as api:
        await api.bench.register(step("a"))
        api.bench.journal.hold()
        starts = [
            asyncio.ensure_future(api.sagas.StartSaga(request(f"s{number}")))
            for number in range(limits.STARTS_AT_ONCE_MAX)
        ]
        await until(lambda: api.bench.engine.unfinished == limits.STARTS_AT_ONCE_MAX)
        waits = asyncio.ensure_future(api.sagas.StartSaga(request("waits")))
        await until(lambda: gates.short._inside == limits.STARTS_AT_ONCE_MAX + 1)
        status = await failure(api.sagas.StartSaga(request("refused")))
        assert code_and_reason(status) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert detail(status, RetryInfo).retry_delay.seconds == 1
        assert not (await api.sagas.ListSagas(pb.ListSagasRequest())).sagas  # others are served meanwhile
        api.bench.journal.release()
        for starting in (*starts, waits):
            assert (await starting).created
