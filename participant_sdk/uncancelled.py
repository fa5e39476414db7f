"""What must not be cut off half-way: a database transaction's end.

A call can be cancelled at any `await`. A rollback that is cut off there would leave the connection inside a
transaction, and the next call's commit would persist the half of this one.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, and only then let a cancellation of the caller through.

    Errors: what `work` raises; `CancelledError` where the caller was cancelled meanwhile and `work` succeeded.
    """
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    result = task.result()
    if cancellation is not None:
        raise cancellation
    return result
