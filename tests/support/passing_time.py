"""Time that passes when a test says so, for calls whose end is an instant of the event loop's time.

A short timeout would do as well, were it not over on a busy machine before the call had got anywhere.
"""

import asyncio
from datetime import timedelta
from typing import Final

HOUR: Final = timedelta(hours=1)
"""A timeout that is over only when an hour is let pass."""


def let_pass(time: timedelta) -> None:
    """Move the running event loop's time on, for good: what is due within that time is due at once."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + time.total_seconds()  # type: ignore[method-assign]  # the loop asks itself
