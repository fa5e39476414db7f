"""`CoordinatorClient`: start sagas and follow them, from Python.

Every call has a deadline and is retried, a bounded number of times, while the coordinator is UNAVAILABLE: each of
them can safely be sent twice. gRPC's own retries are off, so that nothing is sent that this module did not decide on.
"""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from participant_sdk.errors import SagaError
from participant_sdk.lane import LaneBroken, StartLane
from participant_sdk.limits import (
    CALL_TIMEOUT,
    MESSAGE_BYTES_MAX,
    PAGE_SIZE,
    PING_INTERVAL_MS,
    PING_TIMEOUT_MS,
    RECONNECT_WAIT_INITIAL_MS,
    RECONNECT_WAIT_MAX_MS,
    RETRY_ATTEMPTS,
    RETRY_WAIT_INITIAL,
    RETRY_WAIT_MAX,
    WAIT_SLICE_MAX,
)
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import coordinator_pb2_grpc
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    Compensated,
    Completed,
    Confirmed,
    Rejected,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from saga.v1.event_pb2 import SagaEvent

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),  # without it a dead server is noticed after a minute
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_WAIT_INITIAL_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_WAIT_MAX_MS),  # how long one try to connect may take
    ("grpc.max_reconnect_backoff_ms", RECONNECT_WAIT_MAX_MS),
)
_WAIT_MIN: Final = timedelta(milliseconds=1)

M = TypeVar("M", bound=Message)
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

Outcome: TypeAlias = Completed | Rejected | Compensated | Confirmed | pb.Failed


class Waited(NamedTuple):
    """A saga when a wait was over, and whether it stands COMPLETED, COMPENSATED or FAILED."""

    saga: pb.Saga
    ended: bool


def unpack(payload: AnyMessage, message_type: type[M]) -> M:
    """Return a payload decoded. Errors: `TypeError` where it holds another type, or nothing; `DecodeError`."""
    message = message_type()
    if not payload.Unpack(message):
        found = payload.TypeName() or "nothing"
        raise TypeError(f"the payload holds {found}, not {message.DESCRIPTOR.full_name}")
    return message


class CoordinatorClient:
    """A connection to a coordinator: `async with CoordinatorClient("127.0.0.1:50051") as sagas: …`.

    Every method raises `SagaError`. `call_timeout` bounds each try of a call. With `fast_lane` starts share one stream,
    where the coordinator serves it.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        call_timeout: timedelta = CALL_TIMEOUT,
        fast_lane: bool = True,
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._call_timeout = call_timeout
        self._lane = StartLane() if fast_lane else None
        self._channel: grpc.aio.Channel | None = None
        self._connected: coordinator_pb2_grpc.CoordinatorServiceAsyncStub | None = None

    async def __aenter__(self) -> Self:
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(self._target, self._credentials, _OPTIONS)
        self._connected = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._connected = None
        if self._lane is not None:
            await self._lane.close()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def start(
        self,
        definition: str,
        input_message: Message,
        *,
        saga_id: str | None = None,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        timeout: timedelta | None = None,
        start_time: datetime | None = None,
    ) -> pb.Saga:
        """Start a saga and return it once that is on the coordinator's disk.

        Idempotent by `saga_id`: give one that names the business operation, and starting it twice is starting it
        once; without one the client makes one up, which covers its own retries. `version` 0 is the newest. `timeout`
        shortens the definition's; `start_time` (with a time zone) delays the start.
        """
        request = _start_request(definition, input_message, saga_id, version, labels, timeout, start_time)
        return (await self._retried(partial(self._start_once, request))).saga

    async def run(
        self,
        definition: str,
        input_message: Message,
        *,
        saga_id: str | None = None,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        timeout: timedelta | None = None,
        start_time: datetime | None = None,
        wait: timedelta | None = None,
    ) -> Waited:
        """Start a saga as `start` does, and wait for its end as `wait` does, in one call where it ends within a minute.

        `wait` bounds that, from now on (None: however long it takes).
        """
        until = _Until(wait)
        request = _start_request(definition, input_message, saga_id, version, labels, timeout, start_time)
        request.wait.FromTimedelta(span := until.slice())
        saga = (await self._retried(partial(self._start_once, request, beyond=span))).saga
        if saga.state in _STANDING:
            return Waited(saga, ended=True)
        return Waited(saga, ended=False) if until.over else await self._wait(saga.saga_id, until)

    async def get(self, saga_id: str, payloads: pb.PayloadView.ValueType = pb.PAYLOAD_VIEW_FULL) -> pb.Saga:
        """Return a saga as it stands."""
        return (await self._call(self._stub.GetSaga, pb.GetSagaRequest(saga_id=saga_id, payloads=payloads))).saga

    async def wait(self, saga_id: str, timeout: timedelta | None = None) -> Waited:
        """Return the saga when it has ended or stands FAILED, or after `timeout` (None: however long it takes).

        A coordinator that stops and comes back meanwhile is waited for, about a quarter of a minute each time.
        """
        return await self._wait(saga_id, _Until(timeout))

    async def _wait(self, saga_id: str, until: _Until) -> Waited:
        while True:
            request = pb.WaitSagaRequest(saga_id=saga_id)
            request.timeout.FromTimedelta(span := until.slice())
            response = await self._call(self._stub.WaitSaga, request, beyond=span)
            if response.ended or until.over:
                return Waited(response.saga, response.ended)

    async def watch(
        self,
        saga_id: str,
        after_sequence: int = 0,
        payloads: pb.PayloadView.ValueType = pb.PAYLOAD_VIEW_FULL,
    ) -> AsyncIterator[pb.WatchSagaResponse]:
        """Yield the saga's events after a sequence, each once and in order, until the saga ends.

        A lost connection is taken up again where it broke.
        """
        seen, failures = after_sequence, 0
        while True:
            opened = asyncio.get_running_loop().time()
            request = pb.WatchSagaRequest(saga_id=saga_id, after_sequence=seen, payloads=payloads)
            stream = self._stub.WatchSaga(request)
            try:
                async for response in stream:
                    if response.event.sequence > seen:
                        seen, failures = response.event.sequence, 0
                        yield response
                return
            except grpc.aio.AioRpcError as error:
                if asyncio.get_running_loop().time() - opened > RETRY_WAIT_MAX.total_seconds():
                    failures = 0  # it stood for a while and had nothing to say
                failures += 1
                if error.code() not in _PASSING or failures >= RETRY_ATTEMPTS:
                    raise SagaError.of(error) from error
            finally:
                stream.cancel()
            await asyncio.sleep(_backoff_s(failures))

    async def list(
        self, saga_filter: pb.SagaFilter | None = None, page_size: int = PAGE_SIZE
    ) -> AsyncIterator[pb.Saga]:
        """Yield the sagas that match, newest first, without payloads and steps; pages are fetched as they are read."""
        request = pb.ListSagasRequest(page_size=page_size, filter=saga_filter)
        while True:
            response = await self._call(self._stub.ListSagas, request)
            for saga in response.sagas:
                yield saga
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def events(
        self,
        saga_id: str,
        after_sequence: int = 0,
        payloads: pb.PayloadView.ValueType = pb.PAYLOAD_VIEW_FULL,
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[SagaEvent]:
        """Yield the saga's events so far, by sequence; pages are fetched as they are read."""
        request = pb.ListSagaEventsRequest(
            saga_id=saga_id, after_sequence=after_sequence, payloads=payloads, page_size=page_size
        )
        while True:
            response = await self._call(self._stub.ListSagaEvents, request)
            for event in response.events:
                yield event
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def cancel(self, saga_id: str, reason: str = "", *, actor: str = "", expected_sequence: int = 0) -> pb.Saga:
        """Turn a saga back. `expected_sequence`, where set: ABORTED if the saga has moved on since it was seen."""
        request = pb.CancelSagaRequest(saga_id=saga_id, reason=reason, actor=actor, expected_sequence=expected_sequence)
        return (await self._call(self._stub.CancelSaga, request)).saga

    async def complete_step(self, saga_id: str, step: str, key: str, outcome: Outcome) -> pb.Saga:
        """Report the outcome of a step that was answered `Pending`; `key` is its `step.key`."""
        request = pb.CompleteStepRequest(saga_id=saga_id, step=step, idempotency_key=key)
        getattr(request, type(outcome).__name__.lower()).CopyFrom(outcome)
        return (await self._call(self._stub.CompleteStep, request)).saga

    @property
    def _stub(self) -> coordinator_pb2_grpc.CoordinatorServiceAsyncStub:
        if self._connected is None:
            raise RuntimeError("use the client inside `async with`")
        return self._connected

    async def _start_once(self, request: pb.StartSagaRequest, beyond: timedelta = timedelta(0)) -> pb.StartSagaResponse:
        if self._lane is not None:
            with suppress(LaneBroken):
                return await self._lane.start(self._stub, request, (self._call_timeout + beyond).total_seconds())
        return await self._call_once(self._stub.StartSaga, request, beyond)

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        beyond: timedelta = timedelta(0),
    ) -> Response:
        """Call, and call again while the coordinator is not there; each try may take the call's time and `beyond`."""
        return await self._retried(partial(self._call_once, method, request, beyond))

    async def _call_once(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, beyond: timedelta
    ) -> Response:
        try:
            return await method(request, timeout=(self._call_timeout + beyond).total_seconds())
        except grpc.aio.AioRpcError as error:
            raise SagaError.of(error) from error

    async def _retried(self, attempt: partial[Coroutine[Any, Any, Response]]) -> Response:
        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(RETRY_ATTEMPTS),
            wait=wait_random_exponential(
                multiplier=RETRY_WAIT_INITIAL.total_seconds(), max=RETRY_WAIT_MAX.total_seconds()
            ),
            reraise=True,
        )
        return await retrying(attempt)


class _Until:
    """How long a wait goes on, in slices that one call may take."""

    def __init__(self, timeout: timedelta | None) -> None:
        self._clock = asyncio.get_running_loop().time
        self._limit = math.inf if timeout is None else self._clock() + timeout.total_seconds()

    @property
    def over(self) -> bool:
        """Whether the time is: a coordinator that stops, or has too many who wait, answers before."""
        return self._clock() >= self._limit

    def slice(self) -> timedelta:
        """Return how long to wait now."""
        left_s = self._limit - self._clock()
        return max(_WAIT_MIN, timedelta(seconds=min(left_s, WAIT_SLICE_MAX.total_seconds())))


def _start_request(
    definition: str,
    input_message: Message,
    saga_id: str | None,
    version: int,
    labels: Mapping[str, str] | None,
    timeout: timedelta | None,
    start_time: datetime | None,
) -> pb.StartSagaRequest:
    request = pb.StartSagaRequest(
        saga_id=saga_id or str(uuid.uuid4()), definition=definition, version=version, labels=labels
    )
    request.input.Pack(input_message, deterministic=True)
    if timeout is not None:
        request.timeout.FromTimedelta(timeout)
    if start_time is not None:
        if start_time.tzinfo is None:
            raise ValueError("start_time needs a time zone, for instance datetime.now(UTC) + timedelta(...)")
        request.start_time.FromDatetime(start_time.astimezone(UTC))
    return request


_STANDING: Final = (SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED)

# CANCELLED is what a coordinator's last moment makes of a call; a call that this side cancels raises CancelledError.
_PASSING: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, SagaError) and error.code in _PASSING


def _backoff_s(failures: int) -> float:
    """Return a random wait below a bound that doubles: many watchers of one restart must not come back as one."""
    bound = min(RETRY_WAIT_INITIAL.total_seconds() * 2**failures, RETRY_WAIT_MAX.total_seconds())
    return random.uniform(0, bound)  # noqa: S311 - jitter, not a secret
