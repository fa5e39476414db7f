"""The fast lane of starts: many calls and their answers on one stream (StartSagas).

What a message costs gRPC is shared by all calls in it. No timer holds anything back to fill a message: what is
answered at one moment leaves together, and what is answered while that is written leaves next. Each call is made, and
fails, as the same call of StartSaga would. This module must not know how a saga is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from coordinator.api.errors import TooLarge
from coordinator.api.paging import ROOM_BYTES, fitting
from coordinator.api.rpc import Gates
from coordinator.api.status import to_status
from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.engine.errors import InvalidRequest, ShuttingDown
from saga.v1 import coordinator_pb2 as pb

Start = Callable[[pb.StartSagaRequest], Awaitable[pb.StartSagaResponse]]


class StartLane:
    """The calls of one stream.

    A client that sends faster than it is answered, or does not take its answers, is read no further (G14): each call
    takes up room from when it is read until its answer leaves. One that waits for its saga takes up none meanwhile, as
    it must not stand in the way of those behind it; so many of them are let in by their gate.
    """

    def __init__(self, start: Start, gates: Gates) -> None:
        self._start = start
        self._gates = gates
        self._open: dict[int, asyncio.Task[None]] = {}
        self._answers: list[pb.StartSagasAnswer] = []
        self._held = 0
        """How many calls and answers take up room."""
        self._freed = asyncio.Event()
        self._news = asyncio.Event()

    async def answers(
        self, requests: AsyncIterator[pb.StartSagasRequest], stopping: asyncio.Event
    ) -> AsyncGenerator[pb.StartSagasResponse, None]:
        """Make the calls, and yield what is answered. Once `stopping` is set no more are read, then ShuttingDown.

        Whatever reading the requests raises ends it at once. What was started goes on however it ends.
        """
        reading, stopped = asyncio.create_task(self._read(requests)), asyncio.create_task(stopping.wait())
        for awaited in (reading, stopped):
            awaited.add_done_callback(lambda _: self._news.set())
        try:
            while not reading.done() or self._open or self._answers:
                await self._news.wait()
                self._news.clear()
                while self._answers:
                    yield self._take()
                if stopped.done():
                    reading.cancel()
                    if not self._open:
                        raise ShuttingDown
                elif reading.done():
                    reading.result()
        finally:
            await _end([reading, stopped, *self._open.values()])

    async def _read(self, requests: AsyncIterator[pb.StartSagasRequest]) -> None:
        async for request in requests:
            for call in request.calls:
                while self._held >= limits.STARTS_PER_STREAM_MAX:
                    self._freed.clear()
                    await self._freed.wait()
                self._take_in(call)

    def _take_in(self, call: pb.StartSagasCall) -> None:
        if call.id in self._open:  # a status under that id would be taken for the first one's answer
            problem = Problem("calls.id", f"call {call.id} is not answered yet", "another id for each unanswered call")
            raise InvalidRequest([problem])
        self._held += 1
        self._open[call.id] = asyncio.create_task(self._answer(call))

    async def _answer(self, call: pb.StartSagasCall) -> None:
        answer = pb.StartSagasAnswer(id=call.id)
        try:
            with self._let_in(call.request):
                answer.start.CopyFrom(await self._start(call.request))
            if (size := answer.ByteSize()) > ROOM_BYTES:
                raise TooLarge(size)
        except Exception as error:
            answer.status.CopyFrom(to_status(error))
        del self._open[call.id]
        self._put(answer)

    @contextmanager
    def _let_in(self, request: pb.StartSagaRequest) -> Iterator[None]:
        with self._gates.of_start(request).enter():
            room = 1 if request.HasField("wait") else 0
            self._free(room)
            try:
                yield
            finally:
                self._held += room

    def _put(self, answer: pb.StartSagasAnswer) -> None:
        self._answers.append(answer)
        self._news.set()

    def _take(self) -> pb.StartSagasResponse:
        """As many answers as fit into a message; asked for when the message before is on its way."""
        count = fitting(self._answers)
        response = pb.StartSagasResponse(answers=self._answers[:count])
        del self._answers[:count]
        self._free(count)
        return response

    def _free(self, count: int) -> None:
        self._held -= count
        self._freed.set()


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
