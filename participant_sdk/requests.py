"""From a request to a `Call`: every check of its form, in one place.

What is malformed is answered with every problem at once and nothing is run (G13). Whether the call *fits* the step's
row is the barrier's question.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from participant_sdk.action import RESERVABLE, Action
from participant_sdk.call import Call
from participant_sdk.errors import CallError, Violation, invalid, quoted
from participant_sdk.limits import KEY_BYTES_MAX
from saga.v1.participant_pb2 import CompensateRequest, ConfirmRequest, ExecuteRequest, StepContext
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation

Actions: TypeAlias = Mapping[str, Action[Any, Any, Any]]
Request: TypeAlias = ExecuteRequest | CompensateRequest | ConfirmRequest

_OPERATIONS: Final[Mapping[type[Request], Operation.ValueType]] = {
    ExecuteRequest: OPERATION_EXECUTE,
    CompensateRequest: OPERATION_COMPENSATE,
    ConfirmRequest: OPERATION_CONFIRM,
}


def parse(request_type: type[Request], data: bytes) -> Request:
    """Decode a request. Errors: `CallError` INVALID_ARGUMENT."""
    try:
        return request_type.FromString(data)
    except DecodeError:
        raise invalid([Violation("", "the request does not decode")]) from None


def read_call(request: Request, actions: Actions, metadata: Mapping[str, str], cut_off: float | None) -> Call:
    """Check a request's form.

    Errors: `CallError` INVALID_ARGUMENT (malformed), UNIMPLEMENTED (unknown action, or Confirm of one that is not
    RESERVABLE).
    """
    operation = _OPERATIONS[type(request)]
    context_violations = list(_context_violations(request))
    if context_violations:
        raise invalid(context_violations)
    action = _action(actions, operation, request.context.action)
    violations: list[Violation] = []
    decoded = _decode("input", request.input if request.HasField("input") else None, action.input_type, violations)
    output = _output(request)
    if output is not None:
        _decode("output", output, action.output_type, violations)
    if decoded is None or violations:
        raise invalid(violations)
    return Call(
        action=action,
        operation=operation,
        context=request.context,
        input=request.input,
        request=decoded,
        output=output,
        cause=request.cause if isinstance(request, CompensateRequest) and request.HasField("cause") else None,
        metadata=metadata,
        cut_off=cut_off,
    )


def _context_violations(request: Request) -> Iterator[Violation]:
    if not request.HasField("context"):
        yield Violation("context", "required")
        return
    context: StepContext = request.context
    for field in ("saga_uid", "step", "action", "idempotency_key"):
        if not getattr(context, field):
            yield Violation(f"context.{field}", "required")
    for field in ("saga_uid", "step"):
        if len(getattr(context, field).encode()) > KEY_BYTES_MAX:
            yield Violation(f"context.{field}", f"longer than {KEY_BYTES_MAX} bytes")
    if context.attempt < 1:
        yield Violation("context.attempt", "counted from 1")


def _action(actions: Actions, operation: Operation.ValueType, name: str) -> Action[Any, Any, Any]:
    action = actions.get(name)
    if action is None:
        raise CallError(grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_ACTION", f"there is no action {quoted(name)}")
    if operation == OPERATION_CONFIRM and RESERVABLE not in action.kinds:
        raise CallError(grpc.StatusCode.UNIMPLEMENTED, "NOT_RESERVABLE", f"{name} has no Confirm")
    return action


def _output(request: Request) -> AnyMessage | None:
    if isinstance(request, ExecuteRequest) or not request.HasField("output"):
        return None
    return request.output


def _decode(field: str, payload: AnyMessage | None, expected: type[Message], found: list[Violation]) -> Message | None:
    """Return the payload decoded, or None and add why not to what was found."""
    message = expected()
    problem = _problem(payload, message)
    if problem is None:
        return message
    found.append(Violation(field, problem))
    return None


def _problem(payload: AnyMessage | None, message: Message) -> str | None:
    name = message.DESCRIPTOR.full_name
    if payload is None:
        return f"required, a {name}"
    try:
        fits = payload.Unpack(message)
    except DecodeError:
        return f"does not decode as {name}"
    return None if fits else f"is {quoted(payload.TypeName())}, not {name}"
