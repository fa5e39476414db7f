"""`ParticipantService.Exchange`: many calls over one stream, each as if it had come alone.

A call runs as a task of its own, through the way that unary calls go too. Answers that are ready leave together in one
message; while it is written the next ones gather. There is no timer, and nothing waits for a batch to fill. A stream
that is cut cancels its calls, as unary ones are cancelled when their caller goes; the barrier makes that safe.

This module must not know actions or barriers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from participant_sdk.errors import CallError, Violation, invalid
from participant_sdk.guard import abort
from participant_sdk.limits import (
    EXCHANGE_IN_FLIGHT_MAX,
    EXCHANGE_MESSAGE_BYTES_MAX,
    EXCHANGE_TIMEOUT_MAX,
    EXCHANGE_UNSENT_MAX,
)
from participant_sdk.requests import Request
from saga.v1.participant_pb2 import ExchangeCall, ExchangeLimits, ExchangeRequest, ExchangeResponse

_LOG: Final = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[Request, Mapping[str, str], float | None], Awaitable[bytes]]
"""From a request, its metadata and its timeout in seconds (None: no limit) to the reply. Errors: `CallError`."""

_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

_GREETING: Final = ExchangeResponse().SerializeToString()
_DRAIN: Final = ExchangeResponse(drain=True).SerializeToString()
_NANOS: Final = 1_000_000_000


def offered() -> ExchangeLimits:
    """Return what Describe says of the lane."""
    return ExchangeLimits(max_in_flight=EXCHANGE_IN_FLIGHT_MAX, max_message_bytes=EXCHANGE_MESSAGE_BYTES_MAX)


class Exchanges:
    """All streams of one server."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._streams: set[_Stream] = set()

    def drain(self) -> None:
        """Ask for no further calls; what is open is answered."""
        for stream in self._streams:
            stream.drain()

    async def serve(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        """Serve one stream until the coordinator has ended it and everything is answered."""
        stream = _Stream(self._answer, context.write)
        self._streams.add(stream)
        try:
            await stream.run(requests)
        except CallError as error:
            await abort(context, error)
        except asyncio.CancelledError:
            await context.abort(grpc.StatusCode.CANCELLED, "the stream was cut")
        finally:
            self._streams.discard(stream)


class _Stream:
    """One stream. Whatever is to be sent is queued as a message of its own; several, one behind the other, are one."""

    def __init__(self, answer: Answer, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._answer = answer
        self._write = write
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._unsent: deque[bytes] = deque()
        self._has_work = asyncio.Event()
        self._has_room = asyncio.Event()

    def drain(self) -> None:
        """Say that no further call is wanted. The coordinator says when its last one has come."""
        self._send(_DRAIN)

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Read, answer and write. Errors: `CallError` where what comes is malformed."""
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._has_work.set())
        try:
            while not self._is_over(reader):
                await self._has_work.wait()
                self._has_work.clear()
                while self._unsent and not self._is_over(reader):
                    await self._write(self._next_message())
        finally:
            await _cancelled([reader, *self._calls.values()])

    def _is_over(self, reader: asyncio.Task[None]) -> bool:
        """Whether all has come and is answered. What is malformed ends the stream at once: `CallError`."""
        if not reader.done():
            return False
        reader.result()
        return not self._calls and not self._unsent

    # --- What comes in ---

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        is_greeted = False
        async for data in requests:
            message = _parsed(data)
            if not is_greeted:
                self._send(_GREETING)
                is_greeted = True
            for call in message.calls:
                await self._room()
                self._begin(call)
            if message.drain:
                return

    async def _room(self) -> None:
        """Wait while the coordinator sends calls and does not take answers."""
        while len(self._unsent) >= EXCHANGE_UNSENT_MAX:
            self._has_room.clear()
            await self._has_room.wait()

    def _begin(self, call: ExchangeCall) -> None:
        if call.id == 0 or call.id in self._calls:
            # Not a status for that call: it would be taken for the answer to the other one, which is under way.
            raise invalid([Violation("calls.id", f"{call.id} is 0, or of a call that is not answered yet")])
        if len(self._calls) >= EXCHANGE_IN_FLIGHT_MAX:
            self._send(_refusal(call, _over_limit()))
            return
        self._calls[call.id] = asyncio.create_task(self._run(call))

    async def _run(self, call: ExchangeCall) -> None:
        try:
            answer = await self._answered(call)
        except CallError as error:
            answer = _refusal(call, error)
        except Exception:
            _LOG.exception("a call of the fast lane failed in a way that nobody foresaw")
            answer = _refusal(call, CallError(grpc.StatusCode.INTERNAL, "", "the participant failed"))
        finally:
            del self._calls[call.id]
        self._send(answer)

    async def _answered(self, call: ExchangeCall) -> bytes:
        kind = call.WhichOneof("request")
        if kind is None:
            raise invalid([Violation("calls.request", "required: execute, compensate or confirm")])
        reply = await self._answer(getattr(call, kind), dict(call.metadata), _timeout(call))
        message = ExchangeResponse()
        getattr(message.answers.add(id=call.id), kind).MergeFromString(reply)
        return message.SerializeToString(deterministic=True)  # as the reply was, so that its bytes stay the same

    # --- What goes out ---

    def _send(self, message: bytes) -> None:
        self._unsent.append(message)
        self._has_work.set()

    def _next_message(self) -> bytes:
        """As much as fits; what is larger by itself goes alone."""
        parts = [self._unsent.popleft()]
        room = EXCHANGE_MESSAGE_BYTES_MAX - len(parts[0])
        while self._unsent and len(self._unsent[0]) <= room:
            room -= len(self._unsent[0])
            parts.append(self._unsent.popleft())
        self._has_room.set()
        return b"".join(parts)


def _parsed(data: bytes) -> ExchangeRequest:
    try:
        return ExchangeRequest.FromString(data)
    except DecodeError:
        raise invalid([Violation("", "the message does not decode")]) from None


def _timeout(call: ExchangeCall) -> float | None:
    if not call.HasField("timeout"):
        return None
    return min(call.timeout.seconds + call.timeout.nanos / _NANOS, EXCHANGE_TIMEOUT_MAX.total_seconds())


def _refusal(call: ExchangeCall, error: CallError) -> bytes:
    message = ExchangeResponse()
    message.answers.add(id=call.id, status=error.status())
    return message.SerializeToString()


def _over_limit() -> CallError:
    message = f"{EXCHANGE_IN_FLIGHT_MAX} calls of this stream are not answered yet"
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVER_LIMIT", message)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
