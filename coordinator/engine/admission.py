"""What a request to start a saga becomes: its first event, or the list of everything that is wrong with it (G13).

This module must not do I/O. That the request's own fields are well formed is the API's to check.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.core.instants import from_duration, to_duration
from coordinator.dataflow.program import ExpressionFailedError
from coordinator.dataflow.types import PayloadError
from coordinator.engine.errors import InvalidRequest
from coordinator.engine.loaded import LoadedDefinition
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import ParentStep, SagaCreated
from saga.v1.participant_pb2 import ExecuteRequest, StepContext


def created(
    request: StartSagaRequest, definition: LoadedDefinition, uid: str, action_versions: Mapping[str, int]
) -> SagaCreated:
    """The saga's first event. InvalidRequest where the input does not fit the definition."""
    _demand_input(request.input, definition)
    timeout_ns = _timeout_ns(request, definition)
    return SagaCreated(
        uid=uid,
        definition=definition.plan.name,
        version=definition.plan.version,
        input=request.input,
        labels=_labels(request, definition),
        exclusive_keys=_exclusive_keys(request.input, definition),
        action_versions=action_versions,
        timeout=to_duration(timeout_ns) if timeout_ns is not None else None,
        start_time=request.start_time if request.HasField("start_time") else None,
        request_digest=digest(request, definition),
    )


def created_child(
    context: StepContext,
    saga_input: Any,
    definition: LoadedDefinition,
    uid: str,
    root_saga_id: str,
    action_versions: Mapping[str, int],
) -> SagaCreated:
    """The first event of a saga that runs as a step of another. InvalidRequest as `created`.

    It has its parent's labels, so that both are found by them, beside those of its own definition.
    """
    _demand_input(saga_input, definition)
    own = _definition_labels(saga_input, definition)
    inherited = {key: value for key, value in sorted(context.labels.items()) if key not in own}
    room = limits.LABELS_MAX - len(own)
    child = barred_child(context, saga_input, definition, uid, root_saga_id)
    child.labels.update({**dict(list(inherited.items())[:room]), **own})
    child.exclusive_keys.extend(_exclusive_keys(saga_input, definition))
    child.action_versions.update(action_versions)
    return child


def barred_child(
    context: StepContext, saga_input: Any, definition: LoadedDefinition, uid: str, root_saga_id: str
) -> SagaCreated:
    """The first event of a child that never begins: Compensate came before its Execute (G8)."""
    timeout_ns = definition.plan.timeout_ns
    return SagaCreated(
        uid=uid,
        definition=definition.plan.name,
        version=definition.plan.version,
        input=saga_input,
        timeout=to_duration(timeout_ns) if timeout_ns is not None else None,
        deadline=context.deadline if context.HasField("deadline") else None,
        request_digest=child_digest(context, saga_input, definition),
        parent=ParentStep(saga_id=context.saga_id, saga_uid=context.saga_uid, step=context.step),
        root_saga_id=root_saga_id,
    )


def child_digest(context: StepContext, saga_input: Any, definition: LoadedDefinition) -> bytes:
    """SHA-256 of what Execute asks for, decoded: it must be the same for every attempt."""
    canonical = ExecuteRequest(context=StepContext(saga_uid=context.saga_uid, step=context.step, action=context.action))
    canonical.input.CopyFrom(_canonical(saga_input, definition))
    return hashlib.sha256(canonical.SerializeToString(deterministic=True)).digest()


def digest(request: StartSagaRequest, definition: LoadedDefinition) -> bytes:
    """SHA-256 of the request, decoded (G10).

    The order of fields and map entries, the URL's prefix and how long the caller waits do not count.
    """
    canonical = StartSagaRequest()
    canonical.CopyFrom(request)
    canonical.ClearField("wait")
    canonical.input.CopyFrom(_canonical(request.input, definition))
    return hashlib.sha256(canonical.SerializeToString(deterministic=True)).digest()


def _canonical(payload: Any, definition: LoadedDefinition) -> Any:
    try:
        return Any(value=definition.program.types.canonical(payload))
    except PayloadError:
        return payload  # what does not decode equals only itself


def _demand_input(payload: Any, definition: LoadedDefinition) -> None:
    objection = definition.program.accepts_input(payload)
    if objection is not None:
        raise InvalidRequest([Problem("input", objection, f"a `{definition.definition.input_type}`")])


def _exclusive_keys(payload: Any, definition: LoadedDefinition) -> list[str]:
    try:
        return definition.program.exclusive_keys(payload)
    except ExpressionFailedError as error:
        raise InvalidRequest([Problem("input", f"the definition's exclusive keys fail on it: {error}")]) from error


def _definition_labels(payload: Any, definition: LoadedDefinition) -> dict[str, str]:
    try:
        return definition.program.labels(payload)
    except ExpressionFailedError as error:
        raise InvalidRequest([Problem("input", f"the definition's labels fail on it: {error}")]) from error


def _timeout_ns(request: StartSagaRequest, definition: LoadedDefinition) -> int | None:
    """The shorter of the request's and the definition's."""
    limit_ns = definition.plan.timeout_ns
    if not request.HasField("timeout"):
        return limit_ns
    asked_ns = from_duration(request.timeout)
    return asked_ns if limit_ns is None else min(asked_ns, limit_ns)


def _labels(request: StartSagaRequest, definition: LoadedDefinition) -> dict[str, str]:
    """The request's and the definition's."""
    given = _definition_labels(request.input, definition)
    problems = [
        Problem(f"labels[{key!r}]", "the definition sets this label itself", "another label name")
        for key in sorted(given.keys() & request.labels.keys())
    ]
    count = len(given) + len(request.labels)
    if count > limits.LABELS_MAX:
        problems.append(Problem("labels", f"{count} labels with the definition's own", f"at most {limits.LABELS_MAX}"))
    if problems:
        raise InvalidRequest(problems)
    return {**given, **request.labels}
