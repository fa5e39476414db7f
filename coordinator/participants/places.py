"""So many at a time, the others first come, first served, and how long the first of them has waited already.

That age is what tells an overload: a long queue that moves quickly is none, and a short one that stands still is. This
module must not know what is done in a place, nor what follows from the age.
"""

import asyncio


class Places:
    """A semaphore that knows who waits. `most`: how many places there are."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._free = asyncio.Semaphore(most)  # first come, first served
        self._waiting: dict[object, float] = {}  # since when, the first of them first

    async def acquire(self) -> None:
        """Takes a place, once there is one."""
        if not self._free.locked():
            await self._free.acquire()  # at once
        else:
            await self._wait()
        self.taken += 1

    def release(self) -> None:
        """Gives a place back."""
        self.taken -= 1
        self._free.release()

    def locked(self) -> bool:
        """Whether somebody who comes now has to wait."""
        return self._free.locked()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @property
    def behind_s(self) -> float:
        """For how long the first of those who wait does; 0 where nobody waits."""
        since_s = next(iter(self._waiting.values()), None)
        return 0.0 if since_s is None else asyncio.get_running_loop().time() - since_s

    async def _wait(self) -> None:
        one = object()
        self._waiting[one] = asyncio.get_running_loop().time()
        try:
            await self._free.acquire()
        finally:
            del self._waiting[one]
