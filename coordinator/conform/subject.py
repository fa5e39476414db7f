"""A step of a saga that exists only here: what a check does things to.

It has its own saga_uid, so no other check and no other run can have met it, and repeats its calls as the coordinator
does: another attempt after a status that another attempt may change, the same one after `pending`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from coordinator.conform import limits
from coordinator.conform.caller import Answer, Caller, Sent, lower_name
from coordinator.core.inputs import Accepted, Done
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow.types import PayloadError, Types, encode
from coordinator.participants.call import Call
from saga.v1.participant_pb2 import Action, StepContext
from saga.v1.types_pb2 import (
    FAILURE_KIND_REJECTED,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Failure,
    Operation,
    StepKind,
)

STEP: Final = "conform"
DEFINITION: Final = "saga_conform"
_LATER_STEP: Final = "later"


@dataclass
class Subject:
    """One step. `message` is its input; `kind` is as what the step runs the action."""

    caller: Caller
    types: Types
    action: Action
    kind: StepKind.ValueType
    uid: str
    unique: str
    message: Message
    log: list[Sent] = field(default_factory=list)
    """What was sent, in order; shared by all subjects of a check."""
    output: Any | None = None
    """As Execute returned it."""
    may_stand: bool = False
    """An Execute was sent, and nothing that ends its effect was answered since."""

    @property
    def saga_id(self) -> str:
        """The client's name for the saga."""
        return f"conform-{self.unique}"

    @property
    def key(self) -> str:
        """Execute's idempotency key."""
        return self._key(OPERATION_EXECUTE)

    def variables(self) -> Mapping[str, str]:
        """What the author's commands and queries are told of it."""
        return {
            "SAGA_UID": self.uid,
            "SAGA_ID": self.saga_id,
            "STEP": STEP,
            "KEY": self.key,
            "UNIQUE": self.unique,
            "INPUT": json.dumps(json.loads(self.types.to_json(self.message))),
        }

    # One call.

    async def execute(self, attempt: int = 1, *, timeout_s: float | None = None, input: Any | None = None) -> Answer:  # noqa: A002  # the contract's word
        """Sends Execute once."""
        return await self.send(self.request(OPERATION_EXECUTE, attempt, input=input), timeout_s=timeout_s)

    async def compensate(self, attempt: int = 1, *, input: Any | None = None) -> Answer:  # noqa: A002  # the contract's word
        """Sends Compensate once, with the output that Execute returned, if any."""
        return await self.send(self.request(OPERATION_COMPENSATE, attempt, input=input))

    async def confirm(self, attempt: int = 1) -> Answer:
        """Sends Confirm once."""
        return await self.send(self.request(OPERATION_CONFIRM, attempt))

    async def send(self, sent: Sent, *, timeout_s: float | None = None) -> Answer:
        """Sends any request for this step, and remembers what it did."""
        self.noted(sent)
        answer = await self.caller.send(sent, timeout_s=timeout_s)
        match sent.call.operation, answer.reply:
            case Operation.OPERATION_EXECUTE, Done(output=output):
                self.output = output
            case ((Operation.OPERATION_COMPENSATE | Operation.OPERATION_CONFIRM), Done()):
                self.may_stand = False
        return answer

    async def lose(self, sent: Sent, after_s: float, *, cut: bool, caller: Caller | None = None) -> None:
        """Sends a request and gives it up, its answer unseen."""
        self.noted(sent)
        await (caller or self.caller).lose(sent, after_s, cut=cut)

    # A call and what follows it, until it is answered.

    async def executed(self, attempt: int = 1, *, within_s: float = limits.COMPLETES_WITHIN_DEFAULT_S) -> Answer:
        """Execute until it is `completed` or `rejected`, or nothing more is to be expected."""
        return await self._ended(OPERATION_EXECUTE, attempt, within_s)

    async def compensated(self, attempt: int = 1) -> Answer:
        """Compensate, in the same way."""
        return await self._ended(OPERATION_COMPENSATE, attempt, limits.COMPLETES_WITHIN_DEFAULT_S)

    async def confirmed(self, attempt: int = 1) -> Answer:
        """Confirm, in the same way."""
        return await self._ended(OPERATION_CONFIRM, attempt, limits.COMPLETES_WITHIN_DEFAULT_S)

    async def _ended(self, operation: Operation.ValueType, attempt: int, within_s: float) -> Answer:
        begun_s = time.monotonic()
        while True:
            answer = await self.send(self.request(operation, attempt))
            pause_s, patience_s = limits.RETRY_PAUSE_S, limits.PATIENCE_S
            if isinstance(answer.reply, Accepted):
                wanted_s = answer.reply.poll_after_ns / SECOND_NS
                pause_s, patience_s = min(max(wanted_s, limits.POLL_MIN_S), limits.POLL_MAX_S), within_s
            elif answer.is_retryable:
                attempt += 1
            else:
                return answer
            if time.monotonic() - begun_s + pause_s > patience_s:
                return answer
            await asyncio.sleep(pause_s)

    # Requests.

    def request(self, operation: Operation.ValueType, attempt: int = 1, *, input: Any | None = None) -> Sent:  # noqa: A002  # the contract's word
        """A request as the coordinator would make it; `input` in place of the step's own."""
        is_execute = operation == OPERATION_EXECUTE
        return Sent(
            Call(
                participant=self.caller.target,
                operation=operation,
                context=self._context(operation, attempt),
                input=input or encode(self.message),
                timeout_ns=int(self.caller.timeout_s * SECOND_NS),
                expected_output_type=self.action.output_type,
                check_output=self._output_problem,
                output=None if is_execute else self.output,
                cause=_CAUSE if operation == OPERATION_COMPENSATE else None,
                metadata=(("traceparent", f"00-{self.uid.replace('-', '')}-{self.uid.replace('-', '')[:16]}-01"),),
            )
        )

    def malformed(self, data: bytes) -> Sent:
        """An Execute whose bytes are these."""
        return replace(self.request(OPERATION_EXECUTE), malformed=data)

    def _context(self, operation: Operation.ValueType, attempt: int) -> StepContext:
        context = StepContext(
            saga_id=self.saga_id,
            definition=DEFINITION,
            definition_version=1,
            step=STEP,
            action=self.action.name,
            idempotency_key=self._key(operation),
            attempt=attempt,
            labels={"conform": self.unique},
            saga_uid=self.uid,
            action_version=self.action.version,
            kind=self.kind,
        )
        if operation == OPERATION_EXECUTE:
            context.deadline.FromNanoseconds(time.time_ns() + int(limits.CHECK_MAX_S * SECOND_NS))
        return context

    def _key(self, operation: Operation.ValueType) -> str:
        return f"{self.uid}/{STEP}/{lower_name(operation)}"

    def noted(self, sent: Sent) -> Sent:
        """Remembers a request that a check sends by itself."""
        self.log.append(sent)
        if sent.call.operation == OPERATION_EXECUTE:
            self.may_stand = True
        return sent

    def _output_problem(self, output: Any) -> str | None:
        try:
            self.types.decode(output, self.action.output_type)
        except PayloadError as error:
            return str(error)
        return None


_CAUSE: Final = Failure(
    kind=FAILURE_KIND_REJECTED,
    step=_LATER_STEP,
    operation=OPERATION_EXECUTE,
    reason="CONFORMANCE",
    message="saga conform plays a saga that goes back",
)
