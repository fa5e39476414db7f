"""The request that an outstanding call stands for, taken from the saga's state.

This module must not decide anything: attempt and deadline are those of the journal.
"""

from __future__ import annotations

from coordinator.core.instants import earliest, put_instant
from coordinator.core.state import Saga, StepRecord
from coordinator.dataflow.program import Program
from coordinator.participants.call import Call as Request
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_PIVOT,
    Operation,
)

_KEY_SUFFIX = {OPERATION_EXECUTE: "execute", OPERATION_COMPENSATE: "compensate", OPERATION_CONFIRM: "confirm"}


def idempotency_key(saga: Saga, step: str, operation: Operation.ValueType) -> str:
    """The same for every attempt of one operation on one step, whoever drives the saga (G2)."""
    return f"{saga.uid}/{step}/{_KEY_SUFFIX[operation]}"


def operation_of(saga: Saga, step: str, key: str) -> Operation.ValueType | None:
    """The operation on the step that the key stands for; None where it is no key of the step."""
    for operation in _KEY_SUFFIX:
        if key == idempotency_key(saga, step, operation):
            return operation
    return None


def request_of(
    saga: Saga,
    program: Program,
    step_name: str,
    operation: Operation.ValueType,
    attempt: int,
    timeout_ns: int,
) -> Request:
    """What a participant is asked for one attempt. `timeout_ns` is what is left of the attempt's time."""
    step = saga.step(step_name)
    assert step.input is not None
    return Request(
        participant=step.plan.participant,
        operation=operation,
        context=_context(saga, step, operation, attempt),
        input=step.input,
        timeout_ns=timeout_ns,
        expected_output_type=program.output_type(step_name),
        check_output=lambda output: program.accepts_output(step_name, output),
        output=step.output,
        cause=saga.failure if operation == OPERATION_COMPENSATE else None,
    )


def _context(saga: Saga, step: StepRecord, operation: Operation.ValueType, attempt: int) -> StepContext:
    deadline_ns = None
    # A pivot is asked until its outcome is known; but one that is a saga can be told by when it must have begun.
    told = step.plan.kind != STEP_KIND_PIVOT or step.plan.name in saga.action_versions
    if operation == OPERATION_EXECUTE and not step.plan.forward_only and told:
        deadline_ns = earliest(step.deadline_ns, saga.deadline_ns)
    context = StepContext(
        saga_id=saga.saga_id,
        definition=saga.plan.name,
        definition_version=saga.plan.version,
        step=step.plan.name,
        action=step.plan.action,
        idempotency_key=idempotency_key(saga, step.plan.name, operation),
        attempt=attempt,
        labels=saga.labels,
        saga_uid=saga.uid,
        action_version=saga.action_versions.get(step.plan.name, 0),
        kind=step.plan.kind,
    )
    put_instant(context.deadline, deadline_ns)
    return context
