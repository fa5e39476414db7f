"""Sagas as steps of sagas: what a coordinator does as a participant, whose actions are its definitions (rule 9).

- Execute starts a child, whose id is `parent/step`, and is pending until the child stands: COMPLETED is `completed`,
  COMPENSATED is `rejected`. A child with holds is `completed` when all its steps are done, and waits for its parent.
  One that stands FAILED stays pending, and its parent is marked for an operator.
- Compensate has a child go back that is under way, and one that has COMPLETED, too. Where there is no child it leaves
  one that never begins, so that a late Execute finds it (G8).
- Confirm makes a child's holds final.

The same code serves parents of this coordinator, in process, and those of others, over the wire. Everything that a
child is told is journaled before it is answered (G1), so an answer can be lost and asked for again.

This module must not drive a saga.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from coordinator import failpoints
from coordinator.core import limits
from coordinator.core.definition import BUILT_IN
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import Input, OutputKnown, ParentConfirmed, ParentWentBack, Reply, Unknown
from coordinator.core.instants import to_duration, to_timestamp
from coordinator.core.state import Saga
from coordinator.engine import admission
from coordinator.engine.clock import Clock
from coordinator.engine.definitions import Definitions
from coordinator.engine.errors import (
    DefinitionDeprecated,
    DefinitionNotFound,
    EngineError,
    KeyReused,
    OverLimit,
    SagaRetired,
    ShuttingDown,
    StartedDifferently,
)
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.offer import (
    BARRED,
    COMPENSATED,
    NOT_HELD,
    OTHER_KIND,
    PARENT_WENT_BACK,
    PAST_POINT_OF_NO_RETURN,
    RETIRED,
    TOO_DEEP,
)
from coordinator.engine.world import Caller
from coordinator.failpoints import Failpoint
from coordinator.journal.errors import JournalError, JournalUnavailable, SagaExists, SagaNotFound, UnreadableSaga
from coordinator.participants import limited, replies
from coordinator.participants.call import Call, Request
from saga.v1.event_pb2 import SagaCreated
from saga.v1.participant_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ConfirmRequest,
    ConfirmResponse,
    ExecuteRequest,
    ExecuteResponse,
    Pending,
    StepContext,
)
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_CANCELLED,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    STEP_KIND_UNSPECIFIED,
    Compensated,
    Completed,
    Confirmed,
    Failure,
    FailureKind,
    Rejected,
    SagaState,
    StepKind,
)

T = TypeVar("T")


class Sagas(Protocol):
    """What a child needs of the engine."""

    async def begin(
        self, saga_id: str, definition: LoadedDefinition, created: SagaCreated, given: Input | None = None
    ) -> None:
        """Start a saga, and take an input in at once; returns when that is durable. SagaExists."""

    async def read(self, saga_id: str, look: Callable[[Saga], T]) -> T:
        """What `look` sees of a saga. SagaNotFound, UnreadableSaga."""

    async def retired(self, saga_id: str) -> SagaState.ValueType | None:
        """How a saga ended of which only a tombstone is left; None where there is none."""

    async def root_of(self, context: StepContext) -> str:
        """The outermost saga of this coordinator above the step; empty where its saga runs elsewhere."""

    async def tell(self, saga_id: str, given: Input) -> None:
        """Have a saga take an input in, also one that has ended; returns when that is durable. Forbidden."""

    def tell_with_keys(self, saga: Saga, given: Input) -> None:
        """Have an ended saga take an input in as soon as it holds its exclusive keys again."""

    def demand_room(self) -> None:
        """OverLimit where so many sagas are unfinished that no more are taken."""


class Children:
    """ParticipantService, as far as it concerns sagas. A parent asks again after `poll_max_ns` at the latest."""

    def __init__(
        self,
        sagas: Sagas,
        definitions: Definitions,
        clock: Clock,
        new_uid: Callable[[int], str],
        poll_max_ns: int = limits.CHILD_POLL_MAX_NS,
    ) -> None:
        self._sagas = sagas
        self._definitions = definitions
        self._clock = clock
        self._new_uid = new_uid
        self._poll_max_ns = poll_max_ns

    # --- Operations ---

    async def execute(self, request: ExecuteRequest) -> ExecuteResponse:
        """Start the child, or say how it stands. EngineError, JournalError."""
        context, child_id = request.context, child_id_of(request.context)
        if child_id.count("/") > limits.SAGA_DEPTH_MAX:
            message = f"`{child_id}` would stand below more than {limits.SAGA_DEPTH_MAX} sagas, each a step of the next"
            return ExecuteResponse(rejected=Rejected(reason=TOO_DEEP, message=message))
        while True:
            try:
                definition = await self._definition_of(child_id)
                if definition is not None:
                    return await self._sagas.read(child_id, partial(self._executed, definition, request))
            except UnreadableSaga as error:
                return ExecuteResponse(pending=_needs_an_operator(error))
            if (state := await self._sagas.retired(child_id)) is not None:
                raise SagaRetired(child_id, _name(state))
            definition = await self._definition_for(context)
            if (refusal := _why_other_kind(context, definition)) is not None:
                return ExecuteResponse(rejected=refusal)
            await self._begin(child_id, context, request.input, definition)

    async def compensate(self, request: CompensateRequest) -> CompensateResponse:
        """Have the child go back, or say how far it is. EngineError, JournalError."""
        child_id = child_id_of(request.context)
        went_back = ParentWentBack(_cause(request))
        while True:
            try:
                definition = await self._definition_of(child_id)
                if definition is None:
                    response = await self._barred(child_id, request, went_back)
                else:
                    look = partial(self._compensated, definition, request, went_back)
                    response = await self._sagas.read(child_id, look)
                    if response is None:
                        await self._sagas.tell(child_id, went_back)
            except UnreadableSaga as error:
                return CompensateResponse(pending=_needs_an_operator(error))
            except Forbidden as error:
                return CompensateResponse(rejected=Rejected(reason=PAST_POINT_OF_NO_RETURN, message=str(error)))
            if response is not None:
                return response

    async def confirm(self, request: ConfirmRequest) -> ConfirmResponse:
        """Make the child's holds final, or say how far it is. EngineError, JournalError; Forbidden: it is too early."""
        child_id = child_id_of(request.context)
        while True:
            try:
                definition = await self._definition_of(child_id)
                if definition is None:
                    return _confirmed_before(child_id, await self._sagas.retired(child_id))
                response = await self._sagas.read(child_id, partial(self._confirmed, definition, request))
            except UnreadableSaga as error:
                return ConfirmResponse(pending=_needs_an_operator(error))
            if response is not None:
                return response
            await self._sagas.tell(child_id, ParentConfirmed())

    # --- Finding and making ---

    async def _definition_of(self, child_id: str) -> LoadedDefinition | None:
        """What the child runs on; None where there is no child."""
        try:
            name, version = await self._sagas.read(child_id, lambda saga: (saga.plan.name, saga.plan.version))
        except SagaNotFound:
            return None
        return await self._definitions.pinned(name, version)

    async def _definition_for(self, context: StepContext) -> LoadedDefinition:
        """What a new child is to run on."""
        definition = await self._definitions.newest(context.action, context.action_version)
        if definition.stored.deprecated and not context.action_version:  # what was pinned before goes on
            raise DefinitionDeprecated(context.action, definition.plan.version)
        return definition

    async def _begin(self, child_id: str, context: StepContext, given: Any, definition: LoadedDefinition) -> None:
        versions = await self._definitions.action_versions(definition)
        root, uid = await self._sagas.root_of(context), self._new_uid(self._clock.now_ns())
        if not root:
            self._sagas.demand_room()  # of parents here the number is limited, and that of their steps
        created = admission.created_child(context, given, definition, uid, root, versions)
        await self._make(child_id, definition, created)

    async def _barred(
        self, child_id: str, request: CompensateRequest, went_back: ParentWentBack
    ) -> CompensateResponse | None:
        """Leave a child that never begins, so that a late Execute finds it; None: it is to be looked at."""
        context = request.context
        if (state := await self._sagas.retired(child_id)) is not None:
            return _compensated_before(child_id, state)
        if request.HasField("output"):  # it has completed, and was forgotten since, tombstone and all
            return _compensated_before(child_id, SAGA_STATE_COMPLETED)
        try:
            definition = await self._definitions.newest(context.action, context.action_version)
        except DefinitionNotFound:  # then none could ever begin
            return CompensateResponse(compensated=Compensated(noop=True))
        root, uid = await self._sagas.root_of(context), self._new_uid(self._clock.now_ns())
        created = admission.barred_child(context, request.input, definition, uid, root)
        await self._make(child_id, definition, created, went_back)
        return None

    async def _make(
        self, child_id: str, definition: LoadedDefinition, created: SagaCreated, given: Input | None = None
    ) -> None:
        await failpoints.reached(Failpoint.CHILD_BEFORE_BEGIN, error=JournalUnavailable, sagas=(child_id,))
        with suppress(SagaExists):  # another attempt was faster; it is looked at next
            await self._sagas.begin(child_id, definition, created, given)
        await failpoints.reached(Failpoint.CHILD_AFTER_BEGIN, error=JournalUnavailable, sagas=(child_id,))

    # --- Answers; None: the child is to be told ---

    def _executed(self, definition: LoadedDefinition, request: ExecuteRequest, saga: Saga) -> ExecuteResponse:
        if not _is_of(saga, request.context):
            raise StartedDifferently(saga.saga_id)
        _demand_same(saga, request, definition)
        if saga.state == SAGA_STATE_COMPENSATED:
            return ExecuteResponse(rejected=_why_compensated(saga))
        if saga.held or saga.state == SAGA_STATE_COMPLETED:
            return ExecuteResponse(completed=_completed(saga, definition))
        return ExecuteResponse(pending=self._pending(saga))

    def _compensated(
        self, definition: LoadedDefinition, request: CompensateRequest, went_back: ParentWentBack, saga: Saga
    ) -> CompensateResponse | None:
        if not _is_of(saga, request.context):  # no child of this parent is there, and none ever will be
            return CompensateResponse(compensated=Compensated(noop=True))
        _demand_same(saga, request, definition)
        if saga.state == SAGA_STATE_COMPENSATED:
            began = any(OPERATION_EXECUTE in step.progress for step in saga.steps)
            return CompensateResponse(compensated=Compensated(noop=not began))
        if saga.turned_back:
            return CompensateResponse(pending=self._pending(saga))
        if saga.ended and saga.exclusive_keys and saga.parent_decides:
            self._sagas.tell_with_keys(saga, went_back)
            return CompensateResponse(pending=self._pending(saga, "waits for its exclusive keys"))
        return None

    def _confirmed(self, definition: LoadedDefinition, request: ConfirmRequest, saga: Saga) -> ConfirmResponse | None:
        if not _is_of(saga, request.context):
            return _confirmed_before(saga.saga_id, None)
        _demand_same(saga, request, definition)
        if not saga.plan.reserves:
            raise Forbidden(f"`{saga.plan.name}` reserves nothing", "only RESERVABLE steps are confirmed")
        if saga.state == SAGA_STATE_COMPLETED:
            return ConfirmResponse(confirmed=Confirmed())
        if saga.turned_back:
            return ConfirmResponse(rejected=Rejected(reason=COMPENSATED, message=f"`{saga.saga_id}` goes back"))
        if saga.past_no_return:
            return ConfirmResponse(pending=self._pending(saga))
        return None

    def _pending(self, saga: Saga, why: str = "") -> Pending:
        """To be asked again the later the longer nothing has happened."""
        quiet_ns = self._clock.now_ns() - saga.last_time_ns
        poll_after_ns = min(max(quiet_ns // 4, limits.CHILD_POLL_MIN_NS), self._poll_max_ns)
        return Pending(
            poll_after=to_duration(poll_after_ns),
            message=f"the saga `{saga.saga_id}` {why or f'is {_name(saga.state)}'}",
            needs_attention=saga.needs_attention,
        )


class WithChildren:
    """A Caller that reaches the built-in participant in process, and all others as before."""

    def __init__(self, outside: Caller, children: Children) -> None:
        self._outside = outside
        self._children = children

    async def call(self, call: Call) -> Reply:
        """Make one call."""
        if call.participant != BUILT_IN:
            return await self._outside.call(call)
        try:
            async with asyncio.timeout(call.timeout_ns / limits.SECOND_NS):
                response = await self._answer(call.message())
        except (EngineError, JournalError, Forbidden, TimeoutError) as error:
            return _unknown(call, error)
        return replies.read_response(call, response, barriered=True)

    async def _answer(self, request: Request) -> replies.Response:
        match request:
            case ExecuteRequest():
                return await self._children.execute(request)
            case CompensateRequest():
                return await self._children.compensate(request)
            case ConfirmRequest():
                return await self._children.confirm(request)


def child_id_of(context: StepContext) -> str:
    """The id of the saga that runs as a step: its parent's, and the step's name."""
    return f"{context.saga_id}/{context.step}"


def _is_of(saga: Saga, context: StepContext) -> bool:
    """Whether the saga is the child of that very parent; another coordinator can have one of the same id."""
    return saga.parent is not None and saga.parent.saga_uid == context.saga_uid


def _demand_same(saga: Saga, request: Request, definition: LoadedDefinition) -> None:
    """KeyReused where the child was begun, or barred, for another action or input."""
    if admission.child_digest(request.context, request.input, definition) != saga.request_digest:
        raise KeyReused(request.context.idempotency_key)


def _why_other_kind(context: StepContext, definition: LoadedDefinition) -> Rejected | None:
    offered = definition.plan.offered_as
    if context.kind in (STEP_KIND_UNSPECIFIED, offered):
        return None
    asked, serves = (StepKind.Name(kind).removeprefix("STEP_KIND_") for kind in (context.kind, offered))
    of = f"version {definition.plan.version} of `{definition.plan.name}`"
    return Rejected(reason=OTHER_KIND, message=f"{of} serves as {serves}, and the step runs it as {asked}")


def _cause(request: CompensateRequest) -> Failure:
    parent, cause = request.context.saga_id, request.cause
    why = cause.message or cause.reason
    message = limited.message(f"the saga `{parent}` goes back{f': {why}' if why else ''}")
    return Failure(kind=FAILURE_KIND_CANCELLED, reason=PARENT_WENT_BACK, message=message)


def _completed(saga: Saga, definition: LoadedDefinition) -> Completed:
    """Forbidden where the saga's output expression failed: what the parent asks for is not there."""
    completed = Completed(output=_output(saga, definition))
    if saga.held and saga.earliest_hold_ns is not None:
        completed.hold_until.CopyFrom(to_timestamp(max(saga.earliest_hold_ns - saga.plan.hold_margin_ns, 0)))
    return completed


def _output(saga: Saga, definition: LoadedDefinition) -> Any:
    if not saga.plan.definition.output:
        return _EMPTY
    known = definition.oracle.evaluate_output(saga) if saga.held else OutputKnown(saga.output)
    if known.output is None:
        why = known.failure_message or (saga.failure.message if saga.failure is not None else "")
        raise Forbidden(f"the saga `{saga.saga_id}` is done and has no output: {why}", "it can be compensated")
    return known.output


def _why_compensated(saga: Saga) -> Rejected:
    failure = saga.failure or Failure()
    if failure.reason == PARENT_WENT_BACK:
        return Rejected(reason=BARRED, message=failure.message)
    reason = failure.reason or FailureKind.Name(failure.kind).removeprefix("FAILURE_KIND_")
    message = failure.message
    if not message.startswith(f"the saga `{saga.saga_id}/"):  # that of a child of its own says where it came from
        message = limited.message(f"the saga `{saga.saga_id}` was compensated: {message or reason}")
    return Rejected(reason=reason, message=message, metadata=failure.metadata)


def _compensated_before(child_id: str, state: SagaState.ValueType) -> CompensateResponse:
    """Of a child of which only a tombstone is left."""
    if state == SAGA_STATE_COMPENSATED:
        return CompensateResponse(compensated=Compensated())
    message = f"the saga `{child_id}` ended {_name(state)} and has been retired; nobody knows its steps any more"
    return CompensateResponse(rejected=Rejected(reason=RETIRED, message=message))


def _confirmed_before(child_id: str, state: SagaState.ValueType | None) -> ConfirmResponse:
    """Of a child that is not there, or of which only a tombstone is left."""
    if state == SAGA_STATE_COMPLETED:
        return ConfirmResponse(confirmed=Confirmed())
    found = "there is no such saga" if state is None else f"it ended {_name(state)}"
    return ConfirmResponse(rejected=Rejected(reason=NOT_HELD, message=f"`{child_id}`: {found}"))


def _needs_an_operator(error: UnreadableSaga) -> Pending:
    poll_after = to_duration(limits.CHILD_POLL_MAX_NS)
    return Pending(poll_after=poll_after, message=limited.message(str(error)), needs_attention=True)


def _unknown(call: Call, error: Exception) -> Unknown:
    """How a status other than OK is read, of a call that never left the process."""
    timed_out = isinstance(error, TimeoutError)
    retryable = timed_out or isinstance(error, JournalUnavailable | ShuttingDown | OverLimit)
    kind = FAILURE_KIND_UNAVAILABLE if retryable else FAILURE_KIND_CALL_REFUSED
    failure = Failure(
        kind=FAILURE_KIND_TIMED_OUT if timed_out else kind,
        step=call.context.step,
        operation=call.operation,
        message=limited.message(str(error) or "the time was over"),
    )
    return Unknown(failure, retryable=retryable, answered=not timed_out)


def _name(state: SagaState.ValueType) -> str:
    return SagaState.Name(state).removeprefix("SAGA_STATE_")


def _empty() -> Any:
    packed = Any()
    packed.Pack(Empty())
    return packed


_EMPTY: Final = _empty()
