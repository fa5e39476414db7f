"""`Step`: what a handler knows about the step it runs for, and its way into the barrier's database transaction.

It only reads. It must not know how a barrier works.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic

from participant_sdk.transaction import Tx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from participant_sdk.call import Call
    from saga.v1.types_pb2 import Failure, Operation


class Step(Generic[Tx]):
    """The step a handler runs for.

    `saga_id` is the client's name for the saga, `saga_uid` the coordinator's, never used twice; `key` is the
    idempotency key, the same for every attempt of one operation: hand it on to whatever has effects elsewhere.
    `pending` is true where an earlier call of the same key answered `Pending`. `deadline` is the step's, all
    attempts together; the handler is cancelled when the call's own time is over, see `remaining`. `cause` says, in
    Compensate, why the saga goes back. `metadata` is the call's gRPC metadata, as far as it is text (`traceparent`).
    """

    __slots__ = (
        "_cut_off",
        "_recorded",
        "_transaction",
        "action",
        "attempt",
        "cause",
        "deadline",
        "definition",
        "definition_version",
        "key",
        "labels",
        "metadata",
        "name",
        "operation",
        "pending",
        "saga_id",
        "saga_uid",
    )

    def __init__(
        self,
        call: Call,
        *,
        pending: bool = False,
        transaction: Tx | None = None,
        recorded: list[Callable[[Tx], object]] | None = None,
    ) -> None:
        context = call.context
        self.saga_id: str = context.saga_id
        self.saga_uid: str = context.saga_uid
        self.definition: str = context.definition
        self.definition_version: int = context.definition_version
        self.name: str = context.step
        self.action: str = context.action
        self.operation: Operation.ValueType = call.operation
        self.key: str = context.idempotency_key
        self.attempt: int = context.attempt
        self.deadline: datetime | None = (
            context.deadline.ToDatetime(tzinfo=UTC) if context.HasField("deadline") else None
        )
        self.labels: Mapping[str, str] = MappingProxyType(dict(context.labels))
        self.metadata: Mapping[str, str] = MappingProxyType(dict(call.metadata or {}))
        self.cause: Failure | None = call.cause
        self.pending = pending
        self._transaction = transaction
        self._recorded = recorded
        self._cut_off = call.cut_off

    @property
    def remaining(self) -> timedelta | None:
        """How long until this call is cut off; zero when it is over, None where it has no limit."""
        if self._cut_off is None:
            return None
        return timedelta(seconds=max(0.0, self._cut_off - asyncio.get_running_loop().time()))

    @property
    def transaction(self) -> Tx:
        """The barrier's own database transaction: what is written here commits together with the barrier row.

        Errors: `RuntimeError` in an `external` action, which runs outside it (see `record`), and without a barrier.
        """
        if self._transaction is None:
            raise RuntimeError(
                "no database transaction here: the handler of an external action runs outside it (use step.record),"
                " and NoBarrier has none"
            )
        return self._transaction

    def record(self, write: Callable[[Tx], object]) -> None:
        """Of an `external` action: have `write` called with the database transaction that stores this call's reply.

        So the business row and the reply commit together, after the effect elsewhere. `write` is dropped where the
        handler fails, and where it rejects other than out of `Pending`. Several are called in order; what they
        return is awaited if it can be.

        Errors: `RuntimeError` where the action is not `external` (write through `transaction`) or has no barrier.
        """
        if self._recorded is None:
            raise RuntimeError("step.record is for external actions under a barrier; others use step.transaction")
        self._recorded.append(write)
