"""What callers are shown of a saga, taken from its state or from its row in lists.

Messages are filled in place: one that is handed to another's constructor is copied by way of its bytes, which took
longer than all the rest. This module must not look anything up, and must be given only what is durable (G1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.definition import BUILT_IN
from coordinator.core.frontier import Frontier
from coordinator.core.instants import put_instant, to_timestamp
from coordinator.core.keys import Blocked
from coordinator.core.state import Progress, Saga, StepRecord
from coordinator.engine.requests import idempotency_key
from coordinator.journal.port import SagaIndex
from saga.v1 import coordinator_pb2 as pb
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    Operation,
)

_NAMES: Final = ((OPERATION_EXECUTE, "execute"), (OPERATION_COMPENSATE, "compensate"), (OPERATION_CONFIRM, "confirm"))


def view_of_saga(saga: Saga, payloads: pb.PayloadView.ValueType, blocked: Iterable[Blocked] = ()) -> pb.Saga:
    """The saga as it stands; `blocked` are the exclusive keys that it waits for."""
    full = payloads != pb.PAYLOAD_VIEW_NONE
    view = pb.Saga(
        saga_id=saga.saga_id,
        uid=saga.uid,
        definition=saga.plan.name,
        version=saga.plan.version,
        state=saga.state,
        labels=saga.labels,
        last_sequence=saga.last_sequence,
        paused=saga.paused,
        overdue=saga.overdue,
        needs_attention=saga.needs_attention,
        past_point_of_no_return=saga.past_no_return,
        parent_saga_id=saga.parent.saga_id if saga.parent is not None else "",
        exclusive_keys=saga.exclusive_keys,
    )
    if full:
        _put(view.input, saga.input)
        _put(view.output, saga.output)
    _put(view.failure, saga.failure)
    put_instant(view.create_time, saga.created_ns)
    put_instant(view.start_time, saga.start_ns if saga.state == SAGA_STATE_PENDING else saga.started_ns)
    put_instant(view.end_time, saga.ended_ns)
    put_instant(view.deadline, saga.deadline_ns)
    for step in saga.steps:
        _show_step(view.steps.add(), saga, step, full)
    view.waits.extend(_waits(saga, blocked))
    return view


def view_of_index(index: SagaIndex) -> pb.Saga:
    """The saga as lists show it: without steps and payloads."""
    view = pb.Saga(
        saga_id=index.saga_id,
        uid=index.uid,
        definition=index.definition,
        version=index.version,
        state=index.state,
        labels=index.labels,
        last_sequence=index.last_sequence,
        paused=index.paused,
        overdue=index.overdue,
        needs_attention=index.needs_attention,
        parent_saga_id=index.parent_saga_id,
        exclusive_keys=index.exclusive_keys,
    )
    _put(view.failure, index.failure)
    put_instant(view.create_time, index.create_time_ns)
    put_instant(view.start_time, index.start_time_ns)
    put_instant(view.end_time, index.end_time_ns)
    put_instant(view.deadline, index.deadline_ns)
    return view


def view_of_event(event: SagaEvent, payloads: pb.PayloadView.ValueType) -> SagaEvent:
    """The event, without its payload where the caller wants none."""
    if payloads != pb.PAYLOAD_VIEW_NONE:
        return event
    bare = SagaEvent()
    bare.CopyFrom(event)
    fact = getattr(bare, bare.WhichOneof("event") or "")
    for field in ("input", "output"):
        if field in fact.DESCRIPTOR.fields_by_name:
            fact.ClearField(field)
    return bare


def _show_step(view: pb.Step, saga: Saga, step: StepRecord, full: bool) -> None:
    view.name = step.plan.name
    view.state = step.state
    view.participant = step.plan.participant
    view.action = step.plan.action
    view.kind = step.plan.kind
    view.child_saga_id = _child_saga_id(saga, step)
    if full:
        _put(view.input, step.input)
        _put(view.output, step.output)
    put_instant(view.hold_until, step.hold_until_ns)
    for operation, name in _NAMES:
        if (progress := step.progress.get(operation)) is not None:
            _show_progress(getattr(view, name), saga, step, operation, progress)
    if step.stuck is not None and not view.HasField("execute"):
        view.execute.last_failure.CopyFrom(step.stuck)  # its expression failed: there was no attempt


def _child_saga_id(saga: Saga, step: StepRecord) -> str:
    """The saga that runs as the step, here or on another coordinator: those alone have actions with versions."""
    runs = step.plan.participant == BUILT_IN or step.plan.name in saga.action_versions
    return f"{saga.saga_id}/{step.plan.name}" if runs and step.progress else ""


def _show_progress(
    view: pb.OperationProgress, saga: Saga, step: StepRecord, operation: Operation.ValueType, progress: Progress
) -> None:
    view.attempts = progress.attempts
    view.idempotency_key = idempotency_key(saga, step.plan.name, operation)
    _put(view.last_failure, progress.last_failure)
    put_instant(view.start_time, progress.started_ns)
    put_instant(view.end_time, progress.ended_ns)
    put_instant(view.next_attempt_time, progress.next_ns)


def _waits(saga: Saga, blocked: Iterable[Blocked]) -> Iterator[pb.Wait]:
    """What it waits for, and until when (G3)."""
    if saga.paused and not saga.ended:
        yield pb.Wait(timer=pb.TimerWait(reason="an operator to resume it"))
    keys = [pb.KeyWait(key=each.key, holder_saga_id=each.holder) for each in blocked]
    yield from (pb.Wait(exclusive_key=key, until=_instant(saga.deadline_ns)) for key in keys)
    if saga.state == SAGA_STATE_PENDING and not (keys or saga.paused):
        yield pb.Wait(timer=pb.TimerWait(reason="start"), until=to_timestamp(saga.start_ns))
    if saga.held and saga.parent is not None:
        yield pb.Wait(parent=pb.ParentWait(saga_id=saga.parent.saga_id))
    for index in sorted(saga.active):
        step = saga.steps[index]
        for operation, progress in step.progress.items():
            if progress.under_way:
                yield _wait_for(step, operation, progress)
    if saga.state == SAGA_STATE_COMPENSATING and saga.backward is not None and not saga.paused:
        yield from _waits_for_late_calls(saga, saga.backward)
    if saga.state == SAGA_STATE_RUNNING and saga.deadline_ns is not None and not (saga.overdue or saga.held):
        yield pb.Wait(timer=pb.TimerWait(reason="deadline"), until=to_timestamp(saga.deadline_ns))


def _wait_for(step: StepRecord, operation: Operation.ValueType, progress: Progress) -> pb.Wait:
    until_ns: int | None
    if progress.open:
        reason, until_ns = "answer", progress.deadline_ns
    elif progress.next_ns is not None:
        reason, until_ns = "next attempt", progress.next_ns
    else:
        about = f": {progress.pending_message}" if progress.pending_message else ""
        reason, until_ns = f"the participant to finish{about}", step.deadline_ns
    return pb.Wait(step=pb.StepWait(step=step.plan.name, operation=operation, reason=reason), until=_instant(until_ns))


def _waits_for_late_calls(saga: Saga, backward: Frontier) -> Iterator[pb.Wait]:
    """Steps whose turn it is to be compensated, and that are not yet: an Execute may still be at work (G8)."""
    turns = saga.return_path[-1:] if saga.plan.one_at_a_time else sorted(backward.ready)
    for step in (saga.steps[index] for index in turns if index not in saga.active):
        if OPERATION_COMPENSATE not in step.progress:
            journaled = step.unanswered_until_ns > saga.last_time_ns  # a poll is not: its end is not known here
            yield pb.Wait(
                step=pb.StepWait(
                    step=step.plan.name,
                    operation=OPERATION_COMPENSATE,
                    reason="an Execute that nobody answered may still be at work",
                ),
                until=to_timestamp(step.unanswered_until_ns) if journaled else None,
            )


def _put(field: Message, value: Message | None) -> None:
    if value is not None:
        field.CopyFrom(value)


def _instant(instant_ns: int | None) -> Timestamp | None:
    return None if instant_ns is None else to_timestamp(instant_ns)
