"""CoordinatorService: starts sagas, shows them, and steers them.

This module must not decide anything about a saga; that is the engine's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Final

from google.protobuf.duration_pb2 import Duration

from coordinator.api import outcomes, validation
from coordinator.api.lane import StartLane
from coordinator.api.paging import ROOM_BYTES, fitting, page_size, place, token
from coordinator.api.rpc import Caller, Gates
from coordinator.api.turns import Turns
from coordinator.api.validation import demand
from coordinator.api.views import view_of_event, view_of_index, view_of_saga
from coordinator.core import limits
from coordinator.core.inputs import CancelRequested, PauseRequested, ResumeRequested, RetryRequested
from coordinator.core.instants import from_duration, to_duration
from coordinator.core.state import Saga
from coordinator.engine.clock import Clock
from coordinator.engine.engine import Engine, Steering
from coordinator.engine.errors import ShuttingDown
from coordinator.journal.errors import JournalUnavailable, UnreadableSaga
from coordinator.journal.port import Journal, SagaCursor
from saga.v1 import coordinator_pb2 as pb

# The answer of a wait must still reach the caller before the caller's own deadline.
_ANSWER_MARGIN_S: Final = 0.1
_WAIT_DEFAULT: Final = to_duration(limits.WAIT_DEFAULT_NS)
_SAGA_PLACE: Final = (int, int)
_EVENT_PLACE: Final = (int,)


class SagaService:
    """Implements saga.v1.CoordinatorService, as far as this version serves it."""

    def __init__(self, engine: Engine, journal: Journal, clock: Clock, gates: Gates) -> None:
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._gates = gates
        self._turns = Turns()

    async def StartSaga(self, request: pb.StartSagaRequest, caller: Caller) -> pb.StartSagaResponse:  # noqa: N802
        """Start a saga, or find the one that this request started before; wait for its end where asked to."""
        demand(validation.check_start(request, self._clock.now_ns()))
        async with self._turns.turn():
            started = await self._engine.start(request)
        saga = await self._waited_for(started.saga_id, request.wait, caller) if request.HasField("wait") else None
        return pb.StartSagaResponse(saga=saga or await self._view_after(started.saga_id), created=started.created)

    def StartSagas(  # noqa: N802
        self, requests: AsyncIterator[pb.StartSagasRequest], caller: Caller
    ) -> AsyncGenerator[pb.StartSagasResponse, None]:
        """The same for many: answers in any order."""
        lane = StartLane(lambda request: self.StartSaga(request, caller), self._gates)
        return lane.answers(requests, self._engine.stopping)

    async def GetSaga(self, request: pb.GetSagaRequest, _caller: Caller) -> pb.GetSagaResponse:  # noqa: N802
        """Show a saga."""
        demand(validation.check_saga_id(request.saga_id))
        return pb.GetSagaResponse(saga=await self._view(request.saga_id, request.payloads))

    async def WaitSaga(self, request: pb.WaitSagaRequest, caller: Caller) -> pb.WaitSagaResponse:  # noqa: N802
        """Answer when the saga stands COMPLETED, COMPENSATED or FAILED, or when the wait is over."""
        problems = list(validation.check_saga_id(request.saga_id))
        if request.HasField("timeout"):
            problems += validation.check_duration("timeout", request.timeout, 0, limits.WAIT_MAX_NS)
        demand(problems)
        wait = request.timeout if request.HasField("timeout") else _WAIT_DEFAULT
        try:
            saga = await self._standing(request.saga_id, wait, caller, request.payloads)
        except UnreadableSaga:  # it is shown as FAILED
            return pb.WaitSagaResponse(saga=await self._view(request.saga_id, request.payloads), ended=True)
        shown = saga or await self._view(request.saga_id, request.payloads)
        return pb.WaitSagaResponse(saga=shown, ended=saga is not None)

    async def WatchSaga(  # noqa: N802
        self, request: pb.WatchSagaRequest, _caller: Caller
    ) -> AsyncGenerator[pb.WatchSagaResponse, None]:
        """Stream a saga's events as they become durable."""
        demand([*validation.check_saga_id(request.saga_id), *validation.check_after(request.after_sequence)])
        async with aclosing(self._engine.watch(request.saga_id, request.after_sequence)) as events:
            async for event, state in events:
                yield pb.WatchSagaResponse(event=view_of_event(event, request.payloads), state=state)

    async def ListSagas(self, request: pb.ListSagasRequest, _caller: Caller) -> pb.ListSagasResponse:  # noqa: N802
        """List sagas in the order asked for."""
        demand(validation.check_list(request))
        oldest_first = request.order == pb.SAGA_ORDER_OLDEST_FIRST
        question = pb.ListSagasRequest(filter=request.filter, order=request.order or pb.SAGA_ORDER_NEWEST_FIRST)
        after = place(request.page_token, question, _SAGA_PLACE)
        cursor = SagaCursor(*map(int, after)) if after is not None else None
        size = page_size(request.page_size, limits.PAGE_SIZE_DEFAULT)
        page = await self._journal.list_sagas(request.filter, cursor, size, oldest_first=oldest_first)
        sagas = [view_of_index(index) for index in page.items]
        if (count := fitting(sagas)) < len(sagas):
            page = await self._journal.list_sagas(request.filter, cursor, count, oldest_first=oldest_first)
            sagas = [view_of_index(index) for index in page.items]
        rest = (page.next.create_time_ns, page.next.key) if page.next is not None else None
        return pb.ListSagasResponse(sagas=sagas, next_page_token=token(rest, question))

    async def ListSagaEvents(  # noqa: N802
        self, request: pb.ListSagaEventsRequest, _caller: Caller
    ) -> pb.ListSagaEventsResponse:
        """List a saga's events."""
        demand(
            [
                *validation.check_saga_id(request.saga_id),
                *validation.check_page_size(request.page_size),
                *validation.check_after(request.after_sequence),
            ]
        )
        after = place(request.page_token, request.saga_id, _EVENT_PLACE)
        sequence = int(after[0]) if after is not None else request.after_sequence
        size = page_size(request.page_size, limits.EVENTS_PAGE_SIZE_DEFAULT)
        read = await self._journal.read(request.saga_id, sequence, size + 1)
        events = [view_of_event(event, request.payloads) for event in read[:size]]
        events = events[: fitting(events)]
        rest = (events[-1].sequence,) if len(events) < len(read) else None
        return pb.ListSagaEventsResponse(events=events, next_page_token=token(rest, request.saga_id))

    async def CancelSaga(self, request: pb.CancelSagaRequest, _caller: Caller) -> pb.CancelSagaResponse:  # noqa: N802
        """Turn a saga back."""
        demand(validation.check_steering(request))
        cancel = CancelRequested(request.reason, request.actor)
        await self._engine.cancel(request.saga_id, cancel, request.expected_sequence)
        return pb.CancelSagaResponse(saga=await self._view_after(request.saga_id))

    async def PauseSaga(self, request: pb.PauseSagaRequest, _caller: Caller) -> pb.PauseSagaResponse:  # noqa: N802
        """Stop new dispatches."""
        return pb.PauseSagaResponse(saga=await self._steer(request, PauseRequested(request.reason, request.actor)))

    async def ResumeSaga(self, request: pb.ResumeSagaRequest, _caller: Caller) -> pb.ResumeSagaResponse:  # noqa: N802
        """Take a pause back."""
        return pb.ResumeSagaResponse(saga=await self._steer(request, ResumeRequested(request.reason, request.actor)))

    async def RetrySaga(self, request: pb.RetrySagaRequest, _caller: Caller) -> pb.RetrySagaResponse:  # noqa: N802
        """Try again now what is open, with a fresh budget."""
        return pb.RetrySagaResponse(saga=await self._steer(request, RetryRequested(request.reason, request.actor)))

    async def ResolveStep(self, request: pb.ResolveStepRequest, _caller: Caller) -> pb.ResolveStepResponse:  # noqa: N802
        """Take an operator's word for what happened to a step; with `dry_run` only say what would follow."""
        demand(validation.check_resolve(request))
        asked = outcomes.resolution_of(request)
        await self._engine.check_output(request.saga_id, request.step, asked.output)
        if request.dry_run:
            preview = await self._engine.preview(
                request.saga_id, asked, lambda saga: view_of_saga(saga, pb.PAYLOAD_VIEW_FULL), request.expected_sequence
            )
            return pb.ResolveStepResponse(saga=preview)
        return pb.ResolveStepResponse(saga=await self._steer(request, asked))

    async def CompleteStep(  # noqa: N802
        self, request: pb.CompleteStepRequest, _caller: Caller
    ) -> pb.CompleteStepResponse:
        """Take in the outcome that a participant reports of its own accord."""
        demand(validation.check_report(request))
        reply = outcomes.reply_of(request)
        await self._engine.report(request.saga_id, request.step, request.idempotency_key, reply)
        return pb.CompleteStepResponse(saga=await self._view_after(request.saga_id))

    async def _steer(self, request: validation.SteeringRequest, asked: Steering) -> pb.Saga:
        demand(validation.check_steering(request))
        await self._engine.steer(request.saga_id, asked, request.expected_sequence)
        return await self._view_after(request.saga_id)

    async def _waited_for(self, saga_id: str, wait: Duration, caller: Caller) -> pb.Saga | None:
        """The saga once it stands; None where it is to be shown as it is: it is started, and no wait can fail that."""
        with suppress(ShuttingDown, JournalUnavailable, UnreadableSaga):
            saga = await self._standing(saga_id, wait, caller, pb.PAYLOAD_VIEW_FULL)
            if saga is not None and saga.ByteSize() <= ROOM_BYTES:
                return saga
        return None

    async def _standing(
        self, saga_id: str, wait: Duration, caller: Caller, payloads: pb.PayloadView.ValueType
    ) -> pb.Saga | None:
        """The saga once it stands COMPLETED, COMPENSATED or FAILED; None where the wait is over."""
        return await self._engine.look_when_standing(saga_id, self._shown(saga_id, payloads), _wait_s(wait, caller))

    async def _view_after(self, saga_id: str) -> pb.Saga:
        """For what has been done already, which an answer that is too large would hide: then without payloads."""
        saga = await self._view(saga_id)
        return saga if saga.ByteSize() <= ROOM_BYTES else await self._view(saga_id, pb.PAYLOAD_VIEW_NONE)

    async def _view(self, saga_id: str, payloads: pb.PayloadView.ValueType = pb.PAYLOAD_VIEW_FULL) -> pb.Saga:
        try:
            return await self._engine.read(saga_id, self._shown(saga_id, payloads))
        except UnreadableSaga:
            index = await self._journal.find(saga_id)
            if index is None or not index.quarantined:
                raise
            return view_of_index(index)  # what can still be told of a saga that is set aside (rule 11)

    def _shown(self, saga_id: str, payloads: pb.PayloadView.ValueType) -> Callable[[Saga], pb.Saga]:
        """How a saga is shown, with the exclusive keys that it waits for."""
        return lambda saga: view_of_saga(saga, payloads, self._engine.blocked(saga_id))


def _wait_s(wait: Duration, caller: Caller) -> float:
    wait_s = from_duration(wait) / limits.SECOND_NS
    remaining_s = caller.remaining_s
    if remaining_s is not None:
        wait_s = min(wait_s, remaining_s - _ANSWER_MARGIN_S)
    return max(wait_s, 0.0)
