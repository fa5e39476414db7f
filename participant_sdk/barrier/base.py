"""What the servicer asks of a barrier, and the barrier that keeps no rules.

This module must not know any store.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from participant_sdk import replies
from participant_sdk.call import Call
from participant_sdk.errors import Violation, invalid
from participant_sdk.invoke import invoke
from participant_sdk.step import Step
from saga.v1.types_pb2 import OPERATION_CONFIRM


class Barrier(ABC):
    """Decides whether a call's handler runs, and makes its effect happen once."""

    keeps_rules: ClassVar[bool]
    """What Describe answers as `barriered`."""

    @abstractmethod
    async def open(self) -> None:
        """Make ready. Called once, in the event loop that the calls come in."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything. No call is under way."""

    @abstractmethod
    async def answer(self, call: Call) -> bytes:
        """Return the serialized reply. Errors: `CallError`; whatever the handler or the database raises."""


class NoBarrier(Barrier):
    """Runs every call's handler and remembers nothing.

    For participants whose handlers are idempotent and bar late Executes by themselves. Describe then says so, and
    the coordinator trusts their rejections less. `step.transaction` and `step.record` are not available, and
    `step.pending` is never true.
    """

    keeps_rules = False

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def answer(self, call: Call) -> bytes:
        """Run the handler. Errors: as it says; `CallError` INVALID_ARGUMENT for Confirm without an output."""
        if call.operation == OPERATION_CONFIRM and call.output is None:
            raise invalid([Violation("output", "required: this participant remembers no outputs")])
        step: Step[Any] = Step(call)
        return replies.serialized(await invoke(call, step, call.output))
