"""The fast lane of starts: one StartSagas stream of a client, on which its starts travel many to a message.

No timer holds a start back to fill a message: one message is in the air, and what piles up meanwhile becomes the next.
The stream is opened by the first start. When it breaks there is none for a while, and the starts that were not
answered are left to the unary call, as are all others until then: a start names its saga, so that sending it twice is
starting it once. This module must not retry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import grpc

from participant_sdk.errors import SagaError
from participant_sdk.limits import (
    LANE_PAUSE_INITIAL,
    LANE_PAUSE_MAX,
    START_MESSAGE_BYTES,
    STARTS_IN_FLIGHT_MAX,
)
from saga.v1 import coordinator_pb2 as pb

if TYPE_CHECKING:
    from saga.v1 import coordinator_pb2_grpc

Stub: TypeAlias = "coordinator_pb2_grpc.CoordinatorServiceAsyncStub"
_Stream: TypeAlias = "grpc.aio.StreamStreamCall[pb.StartSagasRequest, pb.StartSagasResponse]"


class LaneBroken(Exception):
    """The stream broke, or there is none for now: nothing is known of the start, which may be made anew."""


class StartLane:
    """The starts of one client."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._queue: deque[pb.StartSagasCall] = deque()
        self._unanswered: dict[int, asyncio.Future[pb.StartSagaResponse]] = {}
        self._places = asyncio.Semaphore(STARTS_IN_FLIGHT_MAX)
        self._places_to_wait = asyncio.Semaphore(STARTS_IN_FLIGHT_MAX)
        self._queued = asyncio.Event()
        self._carrying: asyncio.Task[None] | None = None
        self._pause_s = 0.0
        self._paused_until = 0.0

    async def start(self, stub: Stub, request: pb.StartSagaRequest, timeout_s: float) -> pb.StartSagaResponse:
        """Return the answer. SagaError where it is a status, or none comes in time; LaneBroken."""
        try:
            async with asyncio.timeout(timeout_s), self._places_to_wait if request.HasField("wait") else self._places:
                return await self._answer(stub, request)
        except TimeoutError:
            raise SagaError(grpc.StatusCode.DEADLINE_EXCEEDED, message="the start was not answered in time") from None

    async def _answer(self, stub: Stub, request: pb.StartSagaRequest) -> pb.StartSagaResponse:
        self._demand_stream(stub)
        call = pb.StartSagasCall(id=next(self._ids), request=request)
        answer: asyncio.Future[pb.StartSagaResponse] = asyncio.get_running_loop().create_future()
        self._unanswered[call.id] = answer
        self._queue.append(call)
        self._queued.set()
        try:
            return await answer
        finally:
            self._unanswered.pop(call.id, None)

    def _demand_stream(self, stub: Stub) -> None:
        if self._carrying is not None:
            return
        if asyncio.get_running_loop().time() < self._paused_until:
            raise LaneBroken
        self._carrying = asyncio.create_task(self._carry(stub.StartSagas()))
        self._carrying.add_done_callback(lambda _: self._break())

    async def _carry(self, stream: _Stream) -> None:
        """Send and receive until the stream breaks."""
        sending = asyncio.create_task(self._send(stream))
        try:
            async for response in stream:
                self._pause_s = 0.0
                for answer in response.answers:
                    self._settle(answer)
        except grpc.aio.AioRpcError:
            pass  # those who are not answered ask for themselves what is wrong
        finally:
            sending.cancel()
            stream.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, stream: _Stream) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            while calls := self._take():
                await stream.write(pb.StartSagasRequest(calls=calls))

    def _take(self) -> list[pb.StartSagasCall]:
        """As many as one message may carry, in order; those that were given up meanwhile are left out."""
        taken: list[pb.StartSagasCall] = []
        size = 0
        while self._queue and size < START_MESSAGE_BYTES:
            call = self._queue.popleft()
            if call.id in self._unanswered:
                taken.append(call)
                size += call.ByteSize()
        return taken

    def _settle(self, answer: pb.StartSagasAnswer) -> None:
        caller = self._unanswered.get(answer.id)
        if caller is None or caller.done():  # it has given up
            return
        if answer.HasField("status"):
            caller.set_exception(SagaError.of_status(answer.status))
        else:
            caller.set_result(answer.start)

    def _break(self) -> None:
        """Send everybody away who is not answered, and have no stream for a while."""
        self._carrying = None
        self._pause_s = min(max(2 * self._pause_s, LANE_PAUSE_INITIAL.total_seconds()), LANE_PAUSE_MAX.total_seconds())
        self._paused_until = asyncio.get_running_loop().time() + self._pause_s
        for caller in self._unanswered.values():
            if not caller.done():
                caller.set_exception(LaneBroken())

    async def close(self) -> None:
        """End the stream; who is not answered gets LaneBroken."""
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.wait([self._carrying])  # awaiting the task would take a caller's cancellation for its own
