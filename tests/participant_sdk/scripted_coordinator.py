"""A small coordinator that does what a test says."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from participant_sdk.errors import STATUS_DETAILS_KEY, CallError
from saga.v1 import coordinator_pb2 as pb
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceServicer, add_CoordinatorServiceServicer_to_server


class Coordinator(CoordinatorServiceServicer):
    """Answers from a script: each call takes the next step, also those of the fast lane.

    `lane_fails`: how each further stream of starts ends, as soon as something is sent on it.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.script: list[Callable[[Any], Any]] = []
        self.messages: list[pb.StartSagasRequest] = []
        self.streams = 0
        self.lane_fails: list[grpc.StatusCode] = []

    async def _scripted(self, request: Any) -> Any:
        self.requests.append(request)
        answer = self.script.pop(0)(request)
        return await answer if inspect.isawaitable(answer) else answer

    async def _answer(self, request: Any, context: Any) -> Any:
        try:
            return await self._scripted(request)
        except CallError as error:
            await context.abort(error.code, error.message, ((STATUS_DETAILS_KEY, error.status().SerializeToString()),))

    StartSaga = GetSaga = WaitSaga = ListSagas = ListSagaEvents = CancelSaga = CompleteStep = _answer
    PauseSaga = ResumeSaga = RetrySaga = ResolveStep = _answer

    async def _carry(self, messages: AsyncIterator[pb.StartSagasRequest], context: Any) -> None:
        self.streams += 1
        writing = asyncio.Lock()
        async with asyncio.TaskGroup() as calls:
            async for message in messages:
                self.messages.append(message)
                if self.lane_fails:
                    await context.abort(self.lane_fails.pop(0), "broken")
                for call in message.calls:
                    calls.create_task(self._answer_on(context, call, writing))

    StartSagas: Any = _carry

    async def _answer_on(self, context: Any, call: pb.StartSagasCall, writing: asyncio.Lock) -> None:
        answer = pb.StartSagasAnswer(id=call.id)
        try:
            answer.start.CopyFrom(await self._scripted(call.request))
        except CallError as error:
            answer.status.CopyFrom(error.status())
        async with writing:
            await context.write(pb.StartSagasResponse(answers=[answer]))

    async def WatchSaga(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the RPC's name
        events = await self._answer(request, context)
        for event in events:
            if isinstance(event, CallError):
                await context.abort(event.code, event.message)
            yield event


@asynccontextmanager
async def serving(coordinator: CoordinatorServiceServicer, port: int = 0) -> AsyncIterator[str]:
    """Serve it; yields the address."""
    server = grpc.aio.server()
    add_CoordinatorServiceServicer_to_server(coordinator, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield f"127.0.0.1:{bound}"
    await server.stop(None)


def unavailable(_request: Any = None) -> Any:
    raise CallError(grpc.StatusCode.UNAVAILABLE, "ERROR_REASON_SHUTTING_DOWN", "come back")


def started(request: Any) -> pb.StartSagaResponse:
    return pb.StartSagaResponse(saga=pb.Saga(saga_id=request.saga_id), created=True)
