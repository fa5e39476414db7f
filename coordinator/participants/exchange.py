"""One stream of `ParticipantService.Exchange`: calls go out together, answers come back in any order.

While one message is being written, calls pile up and become the next one: batches form by themselves, and no timer
holds a call back. Each call ends with its answer, with its own time, or with the stream. Nothing is sent twice: a call
that was written and not answered is unknown, and only one that was certainly not written is handed back.

There is no message to cancel a call. A call that overruns its time is over on this side, and the participant cuts it
off by the same timeout. This module must not open streams, nor read what an answer means.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from coordinator import failpoints
from coordinator.core import limits
from coordinator.failpoints import Failpoint, Injected
from coordinator.participants.call import Call
from coordinator.participants.channel import CallEndedError, end, is_cancelled, too_late
from coordinator.participants.deadlines import Deadlines
from saga.v1.participant_pb2 import ExchangeAnswer, ExchangeLimits, ExchangeRequest, ExchangeResponse

Rpc: TypeAlias = grpc.aio.StreamStreamCall[bytes, bytes]

_GREETING: Final = ExchangeRequest().SerializeToString()
_DRAIN: Final = ExchangeRequest(drain=True).SerializeToString()
_OPEN_TIMEOUT_S: Final = limits.EXCHANGE_OPEN_TIMEOUT_NS / limits.SECOND_NS


class NotSentError(Exception):
    """The call did not go out on this stream, for certain: it can be made in another way."""


class _Broken(Exception):
    """The participant does not keep to the contract of the stream."""


@dataclass(slots=True, eq=False)
class _Open:
    """A call that waits for its answer."""

    number: int
    call: Call
    deadline_s: float
    answer: asyncio.Future[ExchangeAnswer]
    is_sent: bool = False


class Exchange:
    """A stream, from its opening to its end. `run` must run as long as it is used."""

    def __init__(self, rpc: Rpc, offered: ExchangeLimits) -> None:
        self._rpc = rpc
        self._in_flight_max = offered.max_in_flight or limits.EXCHANGE_IN_FLIGHT_DEFAULT
        offered_bytes = offered.max_message_bytes or limits.EXCHANGE_MESSAGE_BYTES_MAX
        self._message_bytes_max = min(offered_bytes, limits.EXCHANGE_MESSAGE_BYTES_MAX)
        self._loop = asyncio.get_running_loop()
        self._last_number = 0
        self._open: dict[int, _Open] = {}
        self._deadlines = Deadlines(self._open, self._overrun)
        self._queue: deque[_Open] = deque()  # not written yet
        self._in_flight = 0  # written, and neither answered nor over
        self._wake = asyncio.Event()
        self._is_draining = False
        self.up = asyncio.Event()
        """The participant has answered the greeting, and the stream has not ended: both directions get through."""
        self.has_been_up = False
        """The same, at any time."""
        self.retired = asyncio.Event()
        """It takes no further call, and never will."""
        self.end_code: grpc.StatusCode | None = None
        """With which status the participant, or gRPC, ended it; None where this side did, or it has not ended."""
        self.end_reason = ""

    @property
    def takes_calls(self) -> bool:
        """Whether `post` takes a call now."""
        return self.up.is_set() and not self._is_draining

    @property
    def is_idle(self) -> bool:
        """Whether no call is open."""
        return not self._open

    def post(self, call: Call, deadline_s: float) -> asyncio.Future[ExchangeAnswer]:
        """Has the call sent with the next message; its answer. `deadline_s` is in the event loop's time.

        The future's errors: `NotSentError`; `CallEndedError` DEADLINE_EXCEEDED where the time was over, UNAVAILABLE
        where the stream ended before the answer came. Only while `takes_calls`.
        """
        self._last_number = number = self._last_number + 1
        waiting = _Open(number, call, deadline_s, self._loop.create_future())
        self._open[number] = waiting
        self._deadlines.watch(number, deadline_s)
        self._queue.append(waiting)
        self._wake.set()
        return waiting.answer

    def drain(self) -> None:
        """Take no further call, say so to the participant, and end when all that went out is answered."""
        if not self._is_draining:
            self._is_draining = True
            self.retired.set()
            while self._queue:
                self._close(self._queue.popleft(), NotSentError())
            self._wake.set()

    def cut(self, reason: str) -> None:
        """End at once."""
        self.end_reason = self.end_reason or reason
        self._rpc.cancel()

    async def run(self) -> None:
        """Write and read until the stream has ended, whatever ends it."""
        greeted = self._loop.call_later(_OPEN_TIMEOUT_S, self._give_up_greeting)
        writer = asyncio.create_task(self._write_all())
        try:
            await self._read_all()
        finally:
            greeted.cancel()
            self._rpc.cancel()
            self._finish()
            await end(writer)

    # --- Writing ---

    async def _write_all(self) -> None:
        try:
            await self._write_until_drained()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the stream is over: whoever reads learns why
        except asyncio.CancelledError:  # gRPC raises it also where only the stream was cancelled
            if is_cancelled():
                raise
        except Injected as error:
            self.cut(str(error))
        except BaseException:
            self._rpc.cancel()  # so that the reader ends too
            raise

    async def _write_until_drained(self) -> None:
        await self._rpc.write(_GREETING)
        while not self._is_draining:
            await self._wake.wait()
            self._wake.clear()
            while calls := self._next_calls():
                await failpoints.reached(Failpoint.EXCHANGE_BEFORE_WRITE, sagas=_sagas(calls))
                await self._rpc.write(b"".join(calls.values()))
        await self._rpc.write(_DRAIN)
        await self._rpc.done_writing()

    def _next_calls(self) -> dict[_Open, bytes]:
        """As many of the calls that wait as can go out in one message now, each as it goes out."""
        calls: dict[_Open, bytes] = {}
        room = self._message_bytes_max
        now_s = self._loop.time()
        while self._queue and self._in_flight < self._in_flight_max:
            waiting = self._queue[0]
            if waiting.answer.done() or waiting.deadline_s <= now_s:  # who made it gave it up, or its time is over
                self._close(self._queue.popleft(), too_late())
                continue
            left_ns = int((waiting.deadline_s - now_s) * limits.SECOND_NS)
            data = waiting.call.exchanged(waiting.number, left_ns)
            if len(data) > room and calls:
                break
            self._queue.popleft()
            if len(data) > room:  # it fits into no message
                self._close(waiting, NotSentError())
                continue
            room -= len(data)
            calls[waiting] = data
            waiting.is_sent = True
            self._in_flight += 1
        return calls

    # --- Reading ---

    async def _read_all(self) -> None:
        try:
            while isinstance(data := await self._rpc.read(), bytes):  # or else it is the end
                await self._take(data)
            self.end_code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            self.end_code = error.code()
            self.end_reason = self.end_reason or f"{error.code().name}: {error.details()}"
        except DecodeError:
            self.end_reason = "it sent a message that does not decode"
        except (_Broken, Injected) as error:
            self.end_reason = str(error)
        except asyncio.CancelledError:  # gRPC raises it also where only the stream was cancelled
            if is_cancelled():
                raise

    async def _take(self, data: bytes) -> None:
        response = ExchangeResponse.FromString(data)
        answers = response.answers
        await failpoints.reached(Failpoint.EXCHANGE_AFTER_READ, sagas=self._sagas_of(answers))
        self.up.set()
        self.has_been_up = True
        for answer in answers:
            self._answer(answer)
        if response.drain:
            self.drain()
        if self._queue:
            self._wake.set()  # there may be room in flight again

    def _answer(self, answer: ExchangeAnswer) -> None:
        number = answer.id
        waiting = self._open.get(number)
        if waiting is None:
            if not 0 < number <= self._last_number:
                raise _Broken(f"it answered call {number}, which was never made")
            return  # its time was over
        if not waiting.is_sent:
            raise _Broken(f"it answered call {number}, which was not sent yet")
        self._forget(waiting)
        if not waiting.answer.done():
            waiting.answer.set_result(answer)

    # --- Ends ---

    def _give_up_greeting(self) -> None:
        if not self.up.is_set():
            self.cut("the participant did not answer the greeting in time")

    def _overrun(self, number: int) -> None:
        waiting = self._open[number]
        late = CallEndedError(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer came in time")
        self._close(waiting, late if waiting.is_sent else too_late())
        self._wake.set()  # there may be room in flight again

    def _finish(self) -> None:
        self.up.clear()
        self.retired.set()
        self._deadlines.stop()
        reason = self.end_reason or "without a reason"
        for waiting in list(self._open.values()):
            lost = CallEndedError(grpc.StatusCode.UNAVAILABLE, f"the stream ended before the answer came: {reason}")
            self._close(waiting, lost if waiting.is_sent else NotSentError())

    def _close(self, waiting: _Open, error: Exception) -> None:
        self._forget(waiting)
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    def _forget(self, waiting: _Open) -> None:
        if self._open.pop(waiting.number, None) is not None:
            self._in_flight -= waiting.is_sent

    def _sagas_of(self, answers: Iterable[ExchangeAnswer]) -> Iterator[str]:
        return _sagas(self._open[answer.id] for answer in answers if answer.id in self._open)


def _sagas(calls: Iterable[_Open]) -> Iterator[str]:
    return (waiting.call.context.saga_id for waiting in calls)
