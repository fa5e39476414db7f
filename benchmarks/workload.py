"""The work that every system does: a saga of three steps, its payload, and what a call of one of them says.

This module runs in the environments of the peers too: it must import nothing but generated code.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.any_pb2 import Any

from benchmarks.v1.workload_pb2 import Order
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import STEP_KIND_COMPENSATABLE

PARTICIPANT: Final = "shop"
DEFINITION: Final = "benchmark_order"
ACTIONS: Final = ("Reserve", "Charge", "Ship")
ORDER_BYTES: Final = 200
CALL_MAX_S: Final = 60.0


def order(saga_id: str, *, refuse: bool = False) -> Any:
    """A saga's input, and that of each of its steps."""
    message = Order(order_id=saga_id, refuse=refuse)
    framing = 2  # the note's tag and length, of one byte each
    message.note = b"\xa5" * (ORDER_BYTES - message.ByteSize() - framing)
    payload = Any()
    payload.Pack(message)
    return payload


def step_name(number: int) -> str:
    """The name of a definition's step, counted from 0."""
    return f"{ACTIONS[number % len(ACTIONS)].lower()}_{number}"


def context(saga_id: str, saga_uid: str, number: int, operation: str) -> StepContext:
    """What a participant is told of a call, as the coordinator tells it."""
    step = step_name(number)
    return StepContext(
        saga_id=saga_id,
        definition=DEFINITION,
        definition_version=1,
        step=step,
        action=ACTIONS[number % len(ACTIONS)],
        idempotency_key=f"{saga_uid}/{step}/{operation}",
        attempt=1,
        saga_uid=saga_uid,
        kind=STEP_KIND_COMPENSATABLE,
    )
