"""The steps of a peer's saga: calls of the participants, with the messages and the metadata of `saga.v1`.

This module runs in the environments of the peers: it must import nothing but grpcio and generated code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as Payload

from benchmarks.workload import ACTIONS, CALL_MAX_S, context, order
from saga.v1.participant_pb2 import CompensateRequest, ExecuteRequest
from saga.v1.participant_pb2_grpc import ParticipantServiceStub

STEPS: Final = len(ACTIONS)


class Refused(Exception):
    """The participant refused the step."""


class Participants:
    """The participants, called from one event loop: the one that calls first."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._stub: Any = None

    async def execute(self, saga_id: str, number: int, refuse: bool) -> str:
        """Execute a step; returns its receipt, as text that a peer can keep. Errors: `Refused`; gRPC's."""
        request = ExecuteRequest(
            context=context(saga_id, saga_id, number, "execute"), input=order(saga_id, refuse=refuse)
        )
        response = await self._call("Execute", request)
        if response.HasField("rejected"):
            raise Refused(response.rejected.reason)
        return str(response.completed.output.value.hex())

    async def compensate(self, saga_id: str, number: int, receipt: str) -> None:
        """Compensate a step. Errors: gRPC's."""
        request = CompensateRequest(
            context=context(saga_id, saga_id, number, "compensate"),
            input=order(saga_id, refuse=True),
            output=Payload(type_url="type.googleapis.com/benchmarks.v1.Receipt", value=bytes.fromhex(receipt)),
        )
        response = await self._call("Compensate", request)
        if not response.HasField("compensated"):
            raise RuntimeError(f"step {number} of {saga_id} was not compensated")

    async def _call(self, method: str, request: ExecuteRequest | CompensateRequest) -> Any:
        if self._stub is None:
            self._stub = ParticipantServiceStub(grpc.aio.insecure_channel(self._target))
        metadata = (("idempotency-key", request.context.idempotency_key),)
        return await getattr(self._stub, method)(request, timeout=CALL_MAX_S, metadata=metadata)


async def run_steps(
    execute: Callable[[int], Awaitable[str]],
    compensate: Callable[[int, str], Awaitable[None]],
    refusals: type[Exception],
) -> bool:
    """The saga as a peer's program: its steps in order, and back where one is refused; whether it completed.

    `execute` and `compensate` make a step durable in the peer's own way; `refusals` is what a refusal becomes there.
    """
    receipts: list[str] = []
    try:
        for number in range(STEPS):
            receipt = await execute(number)
            receipts.append(receipt)
    except refusals:
        for number, receipt in reversed(list(enumerate(receipts))):
            await compensate(number, receipt)
        return False
    return True
