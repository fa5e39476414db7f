"""What a well-formed request looks like: every problem is found at once (G13).

This module must not look anything up: whether a saga or a definition exists is the engine's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core import limits
from coordinator.core.definition import LABEL_KEY, STEP_NAME, Problem
from coordinator.core.instants import from_duration, from_timestamp
from coordinator.engine.errors import InvalidRequest
from saga.v1 import coordinator_pb2 as pb
from saga.v1.participant_pb2 import CompensateRequest, ConfirmRequest, ExecuteRequest
from saga.v1.types_pb2 import SagaState

# A client names a saga; one that runs as a step of another is named by its parent and the step: `order-1/parcel`.
OWN_SAGA_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{limits.SAGA_ID_LENGTH_MAX}}}")
SAGA_ID: Final = re.compile(rf"{OWN_SAGA_ID.pattern}(/{STEP_NAME.pattern}){{0,{limits.SAGA_DEPTH_MAX}}}")
_YEAR_10000_S: Final = 253_402_300_800


SteeringRequest: TypeAlias = (
    pb.CancelSagaRequest | pb.PauseSagaRequest | pb.ResumeSagaRequest | pb.RetrySagaRequest | pb.ResolveStepRequest
)


def demand(problems: Iterable[Problem]) -> None:
    """InvalidRequest where there are any."""
    found = list(problems)
    if found:
        raise InvalidRequest(found)


def check_start(request: pb.StartSagaRequest, now_ns: int) -> Iterator[Problem]:
    """What is wrong with a request to start a saga."""
    if request.saga_id and not OWN_SAGA_ID.fullmatch(request.saga_id):
        yield _not_a_saga_id("saga_id", request.saga_id)
    if not request.definition:
        yield Problem("definition", "no definition is named", "the name of a registered definition")
    if not request.HasField("input"):
        yield Problem("input", "there is no input", "a message of the definition's input type")
    elif len(request.input.value) > limits.PAYLOAD_BYTES_MAX:
        yield Problem("input", f"{len(request.input.value)} bytes", f"at most {limits.PAYLOAD_BYTES_MAX} bytes")
    yield from _check_labels("labels", request.labels)
    if request.HasField("timeout"):
        yield from check_duration("timeout", request.timeout, 1, limits.SAGA_TIMEOUT_MAX_NS)
    if request.HasField("start_time"):
        yield from _check_instant("start_time", request.start_time)
        if from_timestamp(request.start_time) - now_ns > limits.START_AHEAD_MAX_NS:
            yield Problem("start_time", "too far ahead", f"at most {limits.START_AHEAD_MAX_NS // limits.DAY_NS} days")
    if request.HasField("wait"):
        yield from check_duration("wait", request.wait, 0, limits.WAIT_MAX_NS)


def check_saga_id(saga_id: str) -> Iterator[Problem]:
    """What is wrong with a saga's id."""
    if not SAGA_ID.fullmatch(saga_id):
        yield _not_a_saga_id("saga_id", saga_id)


def _not_a_saga_id(path: str, saga_id: str) -> Problem:
    shown = saga_id if len(saga_id) <= limits.SAGA_ID_LENGTH_MAX else f"{saga_id[:16]}…"
    return Problem(
        path,
        f"`{shown}` is not a saga id" if saga_id else "no saga is named",
        f"1–{limits.SAGA_ID_LENGTH_MAX} of [A-Za-z0-9._:-]",
    )


StepRequest: TypeAlias = ExecuteRequest | CompensateRequest | ConfirmRequest


def check_step_request(request: StepRequest) -> Iterator[Problem]:
    """What is wrong with a request to run one of the definitions as a step of another saga."""
    context = request.context
    if not SAGA_ID.fullmatch(context.saga_id):
        yield _not_a_saga_id("context.saga_id", context.saga_id)
    if not STEP_NAME.fullmatch(context.step):
        yield Problem(
            "context.step", "not a step name", f"a letter, then up to {limits.NAME_LENGTH_MAX - 1} of [a-z0-9_]"
        )
    for name, expected in _EXPECTED_OF_CONTEXT.items():
        if not getattr(context, name):
            yield Problem(f"context.{name}", f"no {name} is given", expected)
        yield from _check_text(f"context.{name}", getattr(context, name), limits.CONTEXT_TEXT_BYTES_MAX)
    if context.HasField("deadline"):
        yield from _check_instant("context.deadline", context.deadline)
    yield from _check_labels("context.labels", context.labels)
    if len(request.input.value) > limits.PAYLOAD_BYTES_MAX:
        yield Problem("input", f"{len(request.input.value)} bytes", f"at most {limits.PAYLOAD_BYTES_MAX} bytes")


_EXPECTED_OF_CONTEXT: Final = {
    "action": "the name of a definition",
    "saga_uid": "the uid of the saga whose step it is",
    "idempotency_key": "the same for every attempt of one operation on one step",
}


def check_steering(request: SteeringRequest) -> Iterator[Problem]:
    """What is wrong with a request to steer a saga."""
    yield from check_saga_id(request.saga_id)
    yield from _check_text("reason", request.reason, limits.REASON_BYTES_MAX)
    yield from _check_text("actor", request.actor, limits.LABEL_VALUE_BYTES_MAX)
    if request.expected_sequence < 0:
        yield Problem("expected_sequence", str(request.expected_sequence), "a sequence, or 0")


def check_resolve(request: pb.ResolveStepRequest) -> Iterator[Problem]:
    """What is wrong with a request to resolve a step."""
    yield from check_steering(request)
    for name in ("step", "reason", "actor"):
        if not getattr(request, name):
            yield Problem(name, f"no {name} is given", _EXPECTED_OF_RESOLVE[name])
    if request.WhichOneof("resolution") is None:
        yield Problem("resolution", "nothing is stated", "completed, no_effect, compensated or confirmed")
    yield from _check_completed(request)


_EXPECTED_OF_RESOLVE: Final = {"step": "a step's name", "reason": "how you know", "actor": "who states it"}


def check_report(request: pb.CompleteStepRequest) -> Iterator[Problem]:
    """What is wrong with a report of a step's outcome."""
    yield from check_saga_id(request.saga_id)
    for name, expected in (("step", "a step's name"), ("idempotency_key", "the key that the call came with")):
        if not getattr(request, name):
            yield Problem(name, f"no {name} is given", expected)
    if request.WhichOneof("outcome") is None:
        yield Problem("outcome", "nothing is reported", "completed, rejected, compensated, confirmed or failed")
    yield from _check_completed(request)


def _check_completed(request: pb.ResolveStepRequest | pb.CompleteStepRequest) -> Iterator[Problem]:
    if not request.HasField("completed"):
        return
    size = len(request.completed.output.value)
    if size > limits.PAYLOAD_BYTES_MAX:
        yield Problem("completed.output", f"{size} bytes", f"at most {limits.PAYLOAD_BYTES_MAX} bytes")
    if request.completed.HasField("hold_until"):
        yield from _check_instant("completed.hold_until", request.completed.hold_until)


def check_page_size(size: int) -> Iterator[Problem]:
    """What is wrong with the size of a page."""
    if size < 0:
        yield Problem("page_size", str(size), f"0 to {limits.PAGE_SIZE_MAX}")


def check_list(request: pb.ListSagasRequest) -> Iterator[Problem]:
    """What is wrong with a request to list sagas."""
    yield from check_page_size(request.page_size)
    yield from check_filter(request.filter)
    if request.order not in pb.SagaOrder.values():
        yield Problem("order", f"{request.order} is no order", ", ".join(pb.SagaOrder.keys()[1:]))


def check_filter(wanted: pb.SagaFilter) -> Iterator[Problem]:
    """What is wrong with a filter."""
    for index, state in enumerate(wanted.states):
        if state not in SagaState.values():
            yield Problem(f"filter.states[{index}]", f"{state} is no saga state", ", ".join(SagaState.keys()[1:]))
    if len(wanted.labels) > limits.LABELS_MAX:
        yield Problem("filter.labels", f"{len(wanted.labels)} labels", f"at most {limits.LABELS_MAX}")
    for name in ("create_time_from", "create_time_until"):
        if wanted.HasField(name):
            yield from _check_instant(f"filter.{name}", getattr(wanted, name))


def check_after(after_sequence: int) -> Iterator[Problem]:
    """What is wrong with the sequence to go on from."""
    if after_sequence < 0:
        yield Problem("after_sequence", str(after_sequence), "a sequence, or 0")


def check_duration(path: str, duration: Duration, least_ns: int, most_ns: int) -> Iterator[Problem]:
    """What is wrong with a duration."""
    well_formed = abs(duration.nanos) < limits.SECOND_NS and duration.seconds * duration.nanos >= 0
    if not well_formed or not least_ns <= from_duration(duration) <= most_ns:
        least = "0 to" if least_ns == 0 else "more than 0 s, at most"
        yield Problem(path, f"{duration.seconds} s {duration.nanos} ns", f"{least} {most_ns // limits.SECOND_NS} s")


def _check_instant(path: str, instant: Timestamp) -> Iterator[Problem]:
    if not (0 <= instant.seconds < _YEAR_10000_S and 0 <= instant.nanos < limits.SECOND_NS):
        yield Problem(path, f"{instant.seconds} s {instant.nanos} ns since 1970", "an instant from 1970 to 9999")


def _check_labels(path: str, labels: Mapping[str, str]) -> Iterator[Problem]:
    if len(labels) > limits.LABELS_MAX:
        yield Problem(path, f"{len(labels)} labels", f"at most {limits.LABELS_MAX}")
    for key in sorted(labels):
        if not LABEL_KEY.fullmatch(key):
            yield Problem(
                f"{path}[{key[: limits.LABEL_KEY_LENGTH_MAX]!r}]",
                "not a label name",
                f"1–{limits.LABEL_KEY_LENGTH_MAX} of [A-Za-z0-9._-]",
            )
        else:
            yield from _check_text(f"{path}[{key!r}]", labels[key], limits.LABEL_VALUE_BYTES_MAX)


def _check_text(path: str, text: str, bytes_max: int) -> Iterator[Problem]:
    size = len(text.encode())
    if size > bytes_max:
        yield Problem(path, f"{size} bytes", f"at most {bytes_max} bytes")
