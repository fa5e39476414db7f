import asyncio

import grpc
import pytest

from participant_sdk.barrier.lock import turn, wait_limit
from participant_sdk.errors import CallError
from participant_sdk.limits import LOCK_WAIT_MAX


async def test_waits_until_the_calls_own_end() -> None:
    assert wait_limit(12.5) == 12.5
    now = asyncio.get_running_loop().time()
    assert wait_limit(None) == pytest.approx(now + LOCK_WAIT_MAX.total_seconds(), abs=1)


async def test_the_lock_is_free_afterwards_also_after_an_error() -> None:
    lock = asyncio.Lock()
    with pytest.raises(ValueError, match="inside"):
        async with turn(lock, wait_limit(None)):
            raise ValueError("inside")
    assert not lock.locked()


async def test_a_lock_that_is_not_free_in_time_is_aborted() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    with pytest.raises(CallError) as refused:
        async with turn(lock, asyncio.get_running_loop().time() + 0.01):
            raise AssertionError
    assert refused.value.code == grpc.StatusCode.ABORTED
    assert lock.locked()
