"""Waiting for one's turn within a process, for as long as the call has time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from participant_sdk.errors import busy
from participant_sdk.limits import LOCK_WAIT_MAX


def wait_limit(cut_off: float | None) -> float:
    """Return until when (event loop time) a call waits: to its own end, or for `LOCK_WAIT_MAX` where it has none."""
    return asyncio.get_running_loop().time() + LOCK_WAIT_MAX.total_seconds() if cut_off is None else cut_off


@asynccontextmanager
async def turn(lock: asyncio.Lock, until: float) -> AsyncIterator[None]:
    """Hold the lock. Errors: `CallError` ABORTED, BUSY, where it is not free in time."""
    try:
        async with asyncio.timeout_at(until):
            await lock.acquire()
    except TimeoutError:
        raise busy() from None
    try:
        yield
    finally:
        lock.release()
