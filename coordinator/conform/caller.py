"""Plays the coordinator: sends one call, and reads its answer as the coordinator reads it.

Nothing is retried here and nothing is judged. The bytes of a reply are kept beside what they mean, because a repeated
call must get the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from coordinator.conform import limits
from coordinator.conform.stream import Stream, StreamEnded
from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow.types import PayloadError, Types
from coordinator.participants.call import DESCRIBE, EXCHANGE_FIELDS, Call
from coordinator.participants.channel import OPTIONS
from coordinator.participants.replies import code_of, read_answer, read_body, read_error, read_status
from saga.v1.participant_pb2 import ExchangeAnswer, ExchangeCall, ExchangeLimits
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation

_DONE: Final = {
    OPERATION_EXECUTE: "completed",
    OPERATION_COMPENSATE: "compensated",
    OPERATION_CONFIRM: "confirmed",
}
_OPTIONS: Final = tuple(
    {
        **dict(OPTIONS),
        "grpc.max_send_message_length": -1,  # oversized requests are to reach the participant
        "grpc.min_reconnect_backoff_ms": 1000,
        "grpc.max_reconnect_backoff_ms": 200,  # one that was killed is looked for at once
    }.items()
)


class Lane(StrEnum):
    """The two ways to call a participant, which mean the same."""

    UNARY = "unary"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it went out. `malformed`: its bytes, where it is none that a coordinator would send."""

    call: Call
    malformed: bytes | None = None

    @property
    def data(self) -> bytes:
        """The request's bytes."""
        return self.call.request() if self.malformed is None else self.malformed

    @property
    def key(self) -> str:
        """The idempotency key, by which the participant's own log can be searched."""
        return self.call.context.idempotency_key

    def exchanged(self, number: int, timeout_s: float) -> ExchangeCall:
        """The call as it goes over Exchange; its bytes must decode."""
        call = ExchangeCall(id=number, metadata=dict(self.call.headers))
        call.timeout.FromNanoseconds(int(timeout_s * SECOND_NS))
        getattr(call, EXCHANGE_FIELDS[self.call.operation]).MergeFromString(self.data)
        return call

    def grpcurl(self, types: Types) -> str:
        """The call as a command line; a request that JSON cannot say is described instead."""
        method = self.call.method.removeprefix("/")
        try:
            shown = types.to_json(type(self.call.message()).FromString(self.data))
        except (PayloadError, DecodeError):
            shown = ""
        if not shown or len(shown) > limits.SHOWN_BYTES_MAX:
            return f"{method} with {len(self.data)} bytes that JSON cannot show, idempotency-key {self.key}"
        body = " ".join(shown.split())
        header = shlex.quote(f"idempotency-key: {self.key}")
        return f"grpcurl -plaintext -H {header} -d {shlex.quote(body)} {self.call.participant} {method}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: the status, the reply's bytes where it is OK, and what the coordinator makes of them."""

    sent: Sent
    code: grpc.StatusCode
    body: bytes
    reply: Reply

    @property
    def outcome(self) -> str:
        """As the contract's `oneof outcome` names it; empty where it is unknown."""
        match self.reply:
            case Done():
                return _DONE[self.sent.call.operation]
            case Refused():
                return "rejected"
            case Accepted():
                return "pending"
        return ""

    @property
    def reason(self) -> str:
        """Of a refusal or a status: the word for programs; empty where there is none."""
        match self.reply:
            case Refused(reason=reason):
                return reason
            case Unknown(failure=failure):
                return failure.reason
        return ""

    @property
    def is_retryable(self) -> bool:
        """Whether the coordinator would make another attempt."""
        return isinstance(self.reply, Unknown) and self.reply.retryable

    def __str__(self) -> str:
        match self.reply:
            case Refused(reason=reason, message=message):
                return f"rejected, reason {reason}" + (f" ({message})" if message else "")
            case Done(noop=True):
                return f"{self.outcome} with noop"
            case Unknown(failure=failure) if self.code is grpc.StatusCode.OK:
                return f"a reply that breaks the contract: {failure.message}"
            case Unknown(failure=failure, answered=True) if not failure.reason:
                # The participant's own code gave it, so it could have said why; a transport could not.
                return f"status {self.code.name} without an ErrorInfo (its message: {failure.message})"
            case Unknown(failure=failure):
                reason = f", reason {failure.reason}" if failure.reason else ""
                return f"status {self.code.name}{reason}: {failure.message}"
        return self.outcome


class DescribeFailed(Exception):
    """Describe did not answer with status OK."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"Describe ended with status {code.name}: {message}")
        self.code = code


class Caller:
    """A connection to one participant; belongs to the event loop it is made in.

    `offered` is what the participant says of Exchange, where calls are to go over that.
    """

    def __init__(self, target: str, timeout_s: float, offered: ExchangeLimits | None = None) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.offered = offered
        self._stream: Stream | None = None
        self._opening = asyncio.Lock()
        self._channel = self._connected()

    @property
    def lane(self) -> Lane:
        """How calls go."""
        return Lane.UNARY if self.offered is None else Lane.FAST

    def use_fast_lane(self, offered: ExchangeLimits) -> None:
        """From here on calls go over Exchange."""
        self.offered = offered

    async def close(self) -> None:
        """Ends the connection, and with it the calls in flight."""
        if self._stream is not None:
            await self._stream.close()
        await self._channel.close()

    async def reconnect(self) -> None:
        """A new connection: the participant behind the old one is gone."""
        await self.close()
        self._channel = self._connected()

    def another(self) -> Caller:
        """A connection of its own to the same participant."""
        return Caller(self.target, self.timeout_s, self.offered)

    async def describe(self, timeout_s: float | None = None) -> bytes:
        """The bytes of the description. Errors: `DescribeFailed`."""
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(DESCRIBE)
        try:
            return await rpc(b"", timeout=timeout_s or self.timeout_s)
        except grpc.aio.AioRpcError as error:
            raise DescribeFailed(error.code(), error.details() or "") from None

    async def send(self, sent: Sent, *, timeout_s: float | None = None) -> Answer:
        """Makes a call and returns what came of it, whatever that is."""
        if self.offered is not None:
            return await self._send_fast(sent, timeout_s or self.timeout_s)
        rpc = self._start(sent, timeout_s or self.timeout_s)
        try:
            body: bytes | None = await rpc
        except grpc.aio.AioRpcError as error:
            return Answer(sent, error.code(), b"", read_error(sent.call, error))
        except asyncio.CancelledError:
            # gRPC also raises this, in a task that nobody cancelled, for the calls of a channel that is closed.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return _cut(sent)
        if body is None:  # grpc.aio says so of a call whose answer and whose deadline came at the same moment
            return _cut(sent)
        return Answer(sent, grpc.StatusCode.OK, body, read_body(sent.call, body, barriered=True))

    async def lose(self, sent: Sent, after_s: float, *, cut: bool) -> None:
        """Makes a call and gives it up, its answer unseen: ends it, or the whole connection.

        Over the fast lane a call cannot be ended alone: the stream is.
        """
        with contextlib.suppress(TimeoutError):  # then this call is lost before it was sent
            async with asyncio.timeout(self.timeout_s):
                await self._channel.channel_ready()
        if self.offered is not None:
            with contextlib.suppress(StreamEnded):
                stream = await self.stream()
                await stream.write([sent.exchanged(stream.number(), self.timeout_s)])
                await asyncio.sleep(after_s)
                await stream.close()
        else:
            rpc = self._start(sent, self.timeout_s)
            await asyncio.sleep(after_s)
            rpc.cancel()
        if cut:
            await self.reconnect()

    async def stream(self) -> Stream:
        """A new stream of the fast lane, which is the check's to close. Errors: `StreamEnded`."""
        return await Stream.open(self._channel, self.timeout_s)

    async def _send_fast(self, sent: Sent, timeout_s: float) -> Answer:
        try:
            async with self._opening:
                if self._stream is None or self._stream.has_ended:
                    self._stream = await self.stream()
            stream = self._stream
            number = stream.number()
            await stream.write([sent.exchanged(number, timeout_s)])
            return answered(sent, await stream.answer(number, timeout_s))
        except StreamEnded as ended:
            return _unanswered(sent, grpc.StatusCode.UNAVAILABLE, str(ended))
        except TimeoutError:
            return _unanswered(sent, grpc.StatusCode.DEADLINE_EXCEEDED, "no answer came in time")

    def _start(self, sent: Sent, timeout_s: float) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(sent.call.method)
        return rpc(sent.data, timeout=timeout_s, metadata=sent.call.headers)

    def _connected(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.target, options=_OPTIONS)


def answered(sent: Sent, answer: ExchangeAnswer) -> Answer:
    """An answer of the fast lane, as that of a unary call."""
    reply = read_answer(sent.call, answer, barriered=True)
    if answer.HasField("status"):
        return Answer(sent, code_of(answer.status), b"", reply)
    body = getattr(answer, EXCHANGE_FIELDS[sent.call.operation]).SerializeToString(deterministic=True)
    return Answer(sent, grpc.StatusCode.OK, body, reply)


def _cut(sent: Sent) -> Answer:
    return _unanswered(sent, grpc.StatusCode.CANCELLED, "the connection was closed here")


def _unanswered(sent: Sent, code: grpc.StatusCode, message: str) -> Answer:
    return Answer(sent, code, b"", read_status(sent.call, code, message))


def lower_name(operation: Operation.ValueType) -> str:
    """As it stands in an idempotency key."""
    return Operation.Name(operation).removeprefix("OPERATION_").lower()
