"""Testing a participant without a network: the servicer's own path, from request bytes to reply bytes.

`ActionHarness` plays the coordinator for the steps of a saga; `sync_server` puts a participant behind grpcio-testing
(the extra `testing`), for test suites that are built on it. Neither changes a rule: what holds here holds in service.
"""

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from participant_sdk.action import Action
from participant_sdk.barrier import Barrier, MemoryBarrier
from participant_sdk.errors import STATUS_DETAILS_KEY, CallError
from participant_sdk.replies import Reply, parsed
from participant_sdk.requests import Request
from participant_sdk.server import Participant
from participant_sdk.servicer import SERVICE, ParticipantServicer
from saga.v1.participant_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ConfirmRequest,
    ConfirmResponse,
    DescribeRequest,
    DescribeResponse,
    ExecuteRequest,
    ExecuteResponse,
    StepContext,
)
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Failure, Operation

if TYPE_CHECKING:
    import grpc_testing  # type: ignore[import-untyped]  # it ships no annotations

__all__ = ["ActionHarness", "CallError", "sync_server"]

T = TypeVar("T")


@dataclass
class _Sent:
    """What the harness, as coordinator, knows of one step."""

    action: str
    input: AnyMessage
    output: AnyMessage | None = None
    attempts: Counter[Operation.ValueType] = field(default_factory=Counter)


class ActionHarness(AbstractAsyncContextManager["ActionHarness"]):
    """Calls an action, or a participant's actions, as a coordinator would: `async with ActionHarness(Charge()) as h:`.

    It remembers for each step what it sent and what came back, so that `compensate()` and `confirm()` need no
    arguments: they carry the input as sent and the output as returned (none while that is unknown), and each call the
    next attempt's number. Replies are the contract's own messages; a non-OK status is a `CallError`.
    """

    def __init__(self, target: Action[Any, Any, Any] | Participant, barrier: Barrier | None = None) -> None:
        if isinstance(target, Action):
            target = Participant("test", [target], barrier or MemoryBarrier())
        elif barrier is not None:
            raise ValueError("a participant has its own barrier")
        self._participant = target
        self._servicer = ParticipantServicer(target.actions, target.barrier, target.description)
        self._saga_uid = str(uuid.uuid4())
        self._sent: dict[tuple[str, str], _Sent] = {}

    async def __aenter__(self) -> Self:
        await self._participant.barrier.open()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._participant.barrier.close()

    async def execute(
        self,
        request: Message,
        *,
        action: str | None = None,
        step: str = "step",
        saga_uid: str | None = None,
        attempt: int | None = None,
        timeout: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ExecuteResponse:
        """Send Execute. `action` is needed where the participant has several. Errors: `CallError`."""
        sent = self._remember(saga_uid, step, action, request)
        context = self._context(saga_uid, step, sent, OPERATION_EXECUTE, attempt)
        context.action = self._action_name(action)
        context.labels.update(labels or {})
        reply = await self._call(ExecuteRequest(context=context, input=_packed(request)), timeout, metadata)
        response = ExecuteResponse.FromString(reply)
        if response.HasField("completed"):
            sent.output = response.completed.output
        return response

    async def compensate(
        self,
        request: Message | None = None,
        *,
        action: str | None = None,
        step: str = "step",
        saga_uid: str | None = None,
        attempt: int | None = None,
        cause: Failure | None = None,
        timeout: timedelta | None = None,
    ) -> CompensateResponse:
        """Send Compensate. `request` is needed where Execute was never sent. Errors: `CallError`."""
        sent = self._recall(saga_uid, step, action, request)
        context = self._context(saga_uid, step, sent, OPERATION_COMPENSATE, attempt)
        message = CompensateRequest(context=context, input=sent.input, output=sent.output, cause=cause)
        return CompensateResponse.FromString(await self._call(message, timeout))

    async def confirm(
        self,
        request: Message | None = None,
        *,
        action: str | None = None,
        step: str = "step",
        saga_uid: str | None = None,
        attempt: int | None = None,
        timeout: timedelta | None = None,
    ) -> ConfirmResponse:
        """Send Confirm. `request` is needed where Execute was never sent. Errors: `CallError`."""
        sent = self._recall(saga_uid, step, action, request)
        context = self._context(saga_uid, step, sent, OPERATION_CONFIRM, attempt)
        message = ConfirmRequest(context=context, input=sent.input, output=sent.output)
        return ConfirmResponse.FromString(await self._call(message, timeout))

    def _remember(self, saga_uid: str | None, step: str, action: str | None, request: Message) -> _Sent:
        key = (saga_uid or self._saga_uid, step)
        return self._sent.setdefault(key, _Sent(self._action_name(action), _packed(request)))

    def _recall(self, saga_uid: str | None, step: str, action: str | None, request: Message | None) -> _Sent:
        key = (saga_uid or self._saga_uid, step)
        if request is not None:
            return self._remember(saga_uid, step, action, request)
        if key not in self._sent:
            raise ValueError(f"Execute of step {step!r} was never sent: say the request")
        return self._sent[key]

    def _action_name(self, action: str | None) -> str:
        names = list(self._participant.actions)
        if action is None and len(names) > 1:
            raise ValueError(f"say which action: {', '.join(names)}")
        return action or names[0]

    def _context(
        self,
        saga_uid: str | None,
        step: str,
        sent: _Sent,
        operation: Operation.ValueType,
        attempt: int | None,
    ) -> StepContext:
        number = sent.attempts[operation] + 1 if attempt is None else attempt
        sent.attempts[operation] = max(number, sent.attempts[operation])
        uid = saga_uid or self._saga_uid
        name = Operation.Name(operation).removeprefix("OPERATION_").lower()
        return StepContext(
            saga_id=f"saga-{uid}",
            saga_uid=uid,
            definition="test",
            definition_version=1,
            step=step,
            action=sent.action,
            idempotency_key=f"{uid}/{step}/{name}",
            attempt=number,
        )

    async def _call(
        self,
        request: Request,
        timeout: timedelta | None,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        sent = {"idempotency-key": request.context.idempotency_key, **(metadata or {})}
        seconds = None if timeout is None else timeout.total_seconds()
        return await self._servicer.answer(request, sent, seconds)


@contextmanager
def sync_server(participant: Participant) -> "Iterator[grpc_testing.Server]":
    """Yield a grpcio-testing server over the participant, which runs on an event loop of its own in a thread.

    grpcio-testing has no asyncio support; this is the bridge. Errors: `ImportError` without the extra `testing`.
    """
    import grpc_testing  # optional: only those who test with it need it

    with _LoopThread() as loop:
        loop.run(participant.barrier.open())
        try:
            servicer = ParticipantServicer(participant.actions, participant.barrier, participant.description)
            yield grpc_testing.server_from_dictionary(
                {SERVICE: _SyncServicer(servicer, loop)}, grpc_testing.strict_real_time()
            )
        finally:
            loop.run(participant.barrier.close())


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="participant", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end and return the result, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _SyncServicer:
    """The generated servicer's synchronous shape, as grpcio-testing calls it."""

    def __init__(self, servicer: ParticipantServicer, loop: _LoopThread) -> None:
        self._servicer = servicer
        self._loop = loop

    def Execute(self, request: ExecuteRequest, context: grpc.ServicerContext) -> Reply:  # noqa: N802 - the RPC's name
        return self._answer(OPERATION_EXECUTE, request, context)

    def Compensate(self, request: CompensateRequest, context: grpc.ServicerContext) -> Reply:  # noqa: N802 - as above
        return self._answer(OPERATION_COMPENSATE, request, context)

    def Confirm(self, request: ConfirmRequest, context: grpc.ServicerContext) -> Reply:  # noqa: N802 - as above
        return self._answer(OPERATION_CONFIRM, request, context)

    def Describe(self, request: DescribeRequest, context: grpc.ServicerContext) -> DescribeResponse:  # noqa: N802, ARG002 - as above
        return DescribeResponse.FromString(self._servicer.describe(request.SerializeToString()))

    def _answer(self, operation: Operation.ValueType, request: Request, context: grpc.ServicerContext) -> Reply:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        timeout = context.time_remaining()
        work = self._servicer.answer(request, metadata, timeout)
        try:
            reply = self._loop.run(work)
        except CallError as error:  # not context.abort: grpcio-testing drops the details there
            context.set_code(error.code)
            context.set_details(error.message)
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, error.status().SerializeToString()),))
            reply = b""
        return parsed(operation, reply)


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed
