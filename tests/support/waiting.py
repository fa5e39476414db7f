"""Waiting for what no event announces."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Return when the condition holds; TimeoutError where it never does."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # it is about another party's state, which has no event
            await asyncio.sleep(0.001)
