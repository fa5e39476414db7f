"""One decoded call: which operation of which step of which saga, with its messages.

Everything behind the servicer works on this and not on the wire's requests. It holds no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from saga.v1.types_pb2 import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.message import Message

    from participant_sdk.action import Action
    from saga.v1.participant_pb2 import StepContext
    from saga.v1.types_pb2 import Failure


class Key(NamedTuple):
    """What a barrier row is named by."""

    saga_uid: str
    step: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has passed every check of its form."""

    action: Action[Any, Any, Any]
    operation: Operation.ValueType
    context: StepContext
    input: AnyMessage
    """As it was sent."""
    request: Message
    """The same, decoded."""
    output: AnyMessage | None = None
    """Of Compensate and Confirm: what Execute returned, as the coordinator knows it."""
    cause: Failure | None = None
    """Of Compensate: why the saga goes back."""
    metadata: Mapping[str, str] | None = None
    cut_off: float | None = None
    """When the call ends, answered or not, in the event loop's time. None: no limit."""

    @property
    def key(self) -> Key:
        """The name of its barrier row."""
        return Key(self.context.saga_uid, self.context.step)

    def __str__(self) -> str:
        """For the log."""
        name = Operation.Name(self.operation).removeprefix("OPERATION_")
        return (
            f"{name} {self.context.action}, saga {self.context.saga_id} ({self.context.saga_uid}),"
            f" step {self.context.step}, attempt {self.context.attempt}"
        )
