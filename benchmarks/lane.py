"""Many calls over one stream both ways, as StartSagas and Exchange have them, with nothing around it.

What is queued at one moment leaves as one message, and the next forms while that one is written; answers come in any
order. It is the plain thing that the floor and the driver use: no deadline of a call's own, no fallback, no draining.
This module must not know what is called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

BATCH_MAX: Final = 128

Answer = TypeVar("Answer", bound="Numbered")


class Numbered(Protocol):
    """A call or an answer; `id` says which belong together."""

    id: int


class Lane(Generic[Answer]):
    """Calls over one stream. `message_of` makes a message of calls; `answers_of` takes one apart."""

    def __init__(
        self,
        stream: Any,
        message_of: Callable[[Sequence[Any]], Any],
        answers_of: Callable[[Any], Sequence[Answer]],
        in_flight_max: int,
    ) -> None:
        self._stream = stream
        self._message_of = message_of
        self._answers_of = answers_of
        self._in_flight_max = in_flight_max
        self._queue: deque[Any] = deque()
        self._open: dict[int, asyncio.Future[Answer]] = {}
        self._sent = 0
        self._last_id = 0
        self._more = asyncio.Event()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read(stream))]

    async def call(self, make: Callable[[int], Numbered]) -> Answer:
        """Make a call, which is given its id; returns its answer."""
        self._last_id += 1
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[self._last_id] = answered
        self._queue.append(make(self._last_id))
        self._more.set()
        return await answered

    async def close(self) -> None:
        """End the stream; open calls fail."""
        for task in self._tasks:
            task.cancel()
        self._stream.cancel()
        await asyncio.wait(self._tasks)
        self._end(ConnectionError("the stream was closed"))

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue and (room := min(BATCH_MAX, self._in_flight_max - self._sent)) > 0:
                batch = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
                self._sent += len(batch)
                await self._stream.write(self._message_of(batch))

    async def _read(self, messages: AsyncIterable[Any]) -> None:
        try:
            async for message in messages:
                answers = self._answers_of(message)
                self._sent -= len(answers)
                for answer in answers:
                    answered = self._open.pop(answer.id)
                    if not answered.done():
                        answered.set_result(answer)
                self._more.set()
            self._end(ConnectionError("the stream has ended"))
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        for answered in self._open.values():
            if not answered.done():
                answered.set_exception(error)
