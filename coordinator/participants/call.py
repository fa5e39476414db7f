"""What the engine asks a participant, as a value, and as the request that goes out.

This module must not decide anything: timeouts, keys and attempts are given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from google.protobuf.any_pb2 import Any

from coordinator.core.limits import SECOND_NS
from saga.v1.participant_pb2 import CompensateRequest, ConfirmRequest, ExchangeRequest, ExecuteRequest, StepContext
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Failure,
    Operation,
)

Request: TypeAlias = ExecuteRequest | CompensateRequest | ConfirmRequest

CheckOutput: TypeAlias = Callable[[Any], str | None]
"""Says what is wrong with an output of the expected type, or None; it knows the types the saga is pinned to (G11)."""

DESCRIBE: Final = "/saga.v1.ParticipantService/Describe"

_METHODS: Final[Mapping[Operation.ValueType, str]] = {
    OPERATION_EXECUTE: "/saga.v1.ParticipantService/Execute",
    OPERATION_COMPENSATE: "/saga.v1.ParticipantService/Compensate",
    OPERATION_CONFIRM: "/saga.v1.ParticipantService/Confirm",
}
_REQUESTS: Final[Mapping[Operation.ValueType, type[Request]]] = {
    OPERATION_EXECUTE: ExecuteRequest,
    OPERATION_COMPENSATE: CompensateRequest,
    OPERATION_CONFIRM: ConfirmRequest,
}
METHODS: Final = (DESCRIBE, *_METHODS.values())
EXCHANGE: Final = "/saga.v1.ParticipantService/Exchange"

EXCHANGE_FIELDS: Final[Mapping[Operation.ValueType, str]] = {
    OPERATION_EXECUTE: "execute",
    OPERATION_COMPENSATE: "compensate",
    OPERATION_CONFIRM: "confirm",
}
"""What a call's request, and the response of its answer, are called in the fast lane."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt of one operation on one step.

    - `output` is Execute's, for Compensate (None: not known) and Confirm; `cause` is for Compensate.
    - `timeout_ns` bounds everything: waiting for a free place, connecting, and the call.
    - `expected_output_type` is the full name of what Execute must yield.
    - `metadata` travels beside the idempotency key, for instance `traceparent`.
    """

    participant: str
    operation: Operation.ValueType
    context: StepContext
    input: Any
    timeout_ns: int
    expected_output_type: str
    check_output: CheckOutput
    output: Any | None = None
    cause: Failure | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def method(self) -> str:
        """The full name of the RPC."""
        return _METHODS[self.operation]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The metadata that goes out (G2: the key is the same for every attempt)."""
        return (("idempotency-key", self.context.idempotency_key), *self.metadata)

    def message(self) -> Request:
        """The request."""
        request = _REQUESTS[self.operation]()
        self.write_to(request)
        return request

    def write_to(self, request: Request) -> None:
        """The request, into an empty message of its type: copying in takes a third of what a constructor takes."""
        request.context.CopyFrom(self.context)
        request.input.CopyFrom(self.input)
        if not isinstance(request, ExecuteRequest) and self.output is not None:
            request.output.CopyFrom(self.output)
        if isinstance(request, CompensateRequest) and self.cause is not None:
            request.cause.CopyFrom(self.cause)

    def request(self) -> bytes:
        """The request as it goes out."""
        return self.message().SerializeToString()

    def exchanged(self, number: int, timeout_ns: int) -> bytes:
        """An ExchangeRequest of this call alone; several, one behind the other, are one message of all their calls."""
        message = ExchangeRequest()
        call = message.calls.add(id=number)
        timeout, metadata = call.timeout, call.metadata
        timeout.seconds, timeout.nanos = divmod(max(timeout_ns, 0), SECOND_NS)
        for key, value in self.headers:
            metadata[key] = value
        self.write_to(getattr(call, EXCHANGE_FIELDS[self.operation]))
        return message.SerializeToString()
