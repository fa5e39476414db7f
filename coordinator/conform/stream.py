"""A stream of Exchange as a check needs it: what is written is up to the check, what comes back is kept by id.

It batches nothing and mends nothing, so that a check can send what a coordinator never would.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from coordinator.participants.call import EXCHANGE
from saga.v1.participant_pb2 import ExchangeAnswer, ExchangeCall, ExchangeRequest, ExchangeResponse

Ended: TypeAlias = tuple[grpc.StatusCode, str]
"""With which status a stream ended, and its message."""

_GARBAGE: Final = b"\x0a\xff"  # a field whose length is cut off: no message at all


class StreamEnded(Exception):
    """The stream ended before the answer came; the text says how."""


class Stream:
    """One stream, from its greeting on; belongs to the event loop it is made in."""

    def __init__(self, rpc: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._rpc = rpc
        self._answers: defaultdict[int, asyncio.Future[ExchangeAnswer]] = defaultdict(
            asyncio.get_running_loop().create_future
        )
        self._last_number = 0
        self._greeted = asyncio.Event()
        self._turn = asyncio.Lock()  # gRPC takes one message at a time
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, channel: grpc.aio.Channel, timeout_s: float) -> Stream:
        """A stream whose greeting was answered. Errors: `StreamEnded`."""
        begin: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(EXCHANGE)
        stream = cls(begin())
        await stream.write()
        greeted = asyncio.create_task(stream._greeted.wait())
        either: set[asyncio.Future[Any]] = {greeted, stream._reading}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        greeted.cancel()
        if stream.has_ended:
            raise StreamEnded(_text(stream._reading.result()))
        if not stream._greeted.is_set():
            await stream.close()
            raise StreamEnded("the first message, an empty one, was not answered")
        return stream

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can come."""
        return self._reading.done()

    def number(self) -> int:
        """The id for another call."""
        self._last_number += 1
        return self._last_number

    async def write(self, calls: Iterable[ExchangeCall] = (), *, drain: bool = False) -> None:
        """Sends one message; on a stream that has ended, nothing."""
        await self._write(ExchangeRequest(calls=calls, drain=drain).SerializeToString())

    async def write_garbage(self) -> None:
        """Sends what is no message."""
        await self._write(_GARBAGE)

    async def answer(self, number: int, timeout_s: float) -> ExchangeAnswer:
        """The answer to a call. Errors: `TimeoutError`, `StreamEnded`."""
        answer = self._answers[number]
        either: set[asyncio.Future[Any]] = {answer, self._reading}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if self.has_ended:
            raise StreamEnded(_text(self._reading.result()))
        raise TimeoutError

    async def end(self, timeout_s: float) -> Ended:
        """How the stream ends. Errors: `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Cuts the stream."""
        self._rpc.cancel()
        await asyncio.wait([self._reading])

    async def _write(self, message: bytes) -> None:
        try:
            async with self._turn:
                await self._rpc.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # it has ended: whoever waits for an answer learns how

    async def _read(self) -> Ended:
        try:
            while isinstance(data := await self._rpc.read(), bytes):
                self._take(ExchangeResponse.FromString(data))
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        except DecodeError:
            self._rpc.cancel()
            return grpc.StatusCode.UNKNOWN, "a message came that does not decode"
        except asyncio.CancelledError:  # by `close`, or with its channel
            return grpc.StatusCode.CANCELLED, "the stream was cut here"
        return grpc.StatusCode.OK, ""

    def _take(self, response: ExchangeResponse) -> None:
        self._greeted.set()
        for answer in response.answers:
            if not self._answers[answer.id].done():
                self._answers[answer.id].set_result(answer)


def _text(ended: Ended) -> str:
    code, message = ended
    return f"the stream ended with status {code.name}" + (f": {message}" if message else "")
