"""What a request to start a saga becomes: its first event, or the list of everything that is wrong with it (G13).

This module must not do I/O. That the request's own fields are well formed is the API's to check.
"""

from __future__ import annotations

import hashlib

from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.core.instants import from_duration, to_duration
from coordinator.dataflow.program import ExpressionFailedError
from coordinator.dataflow.types import PayloadError
from coordinator.engine.definitions import LoadedDefinition
from coordinator.engine.errors import InvalidRequest
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import SagaCreated


def created(request: StartSagaRequest, definition: LoadedDefinition, uid: str) -> SagaCreated:
    """The saga's first event. InvalidRequest where the input does not fit the definition."""
    objection = definition.program.accepts_input(request.input)
    if objection is not None:
        raise InvalidRequest([Problem("input", objection, f"a `{definition.definition.input_type}`")])
    timeout_ns = _timeout_ns(request, definition)
    return SagaCreated(
        uid=uid,
        definition=definition.plan.name,
        version=definition.plan.version,
        input=request.input,
        labels=_labels(request, definition),
        timeout=to_duration(timeout_ns) if timeout_ns is not None else None,
        start_time=request.start_time if request.HasField("start_time") else None,
        request_digest=digest(request, definition),
    )


def digest(request: StartSagaRequest, definition: LoadedDefinition) -> bytes:
    """SHA-256 of the request, decoded: the order of fields and map entries and the URL's prefix do not count (G10)."""
    canonical = StartSagaRequest()
    canonical.CopyFrom(request)
    try:
        canonical.input.value = definition.program.types.canonical(request.input)
        canonical.input.type_url = ""
    except PayloadError:
        pass  # what does not decode equals only itself
    return hashlib.sha256(canonical.SerializeToString(deterministic=True)).digest()


def _timeout_ns(request: StartSagaRequest, definition: LoadedDefinition) -> int | None:
    """The shorter of the request's and the definition's."""
    limit_ns = definition.plan.timeout_ns
    if not request.HasField("timeout"):
        return limit_ns
    asked_ns = from_duration(request.timeout)
    return asked_ns if limit_ns is None else min(asked_ns, limit_ns)


def _labels(request: StartSagaRequest, definition: LoadedDefinition) -> dict[str, str]:
    """The request's and the definition's."""
    try:
        given = definition.program.labels(request.input)
    except ExpressionFailedError as error:
        raise InvalidRequest([Problem("input", f"the definition's labels fail on it: {error}")]) from error
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
