"""What can happen to a saga from outside: the inputs of `decide`.

An input is a plain value that says what was learned, never what follows from it. This module must not know the saga's
state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.any_pb2 import Any

from saga.v1.event_pb2 import Resolution
from saga.v1.types_pb2 import Failure, Operation


@dataclass(frozen=True, slots=True)
class Done:
    """The operation took effect: `completed`, `compensated` or `confirmed`."""

    output: Any | None = None
    hold_until_ns: int | None = None
    noop: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The operation was refused by a reply body.

    `covers_earlier` says whether the refusal can be believed for earlier attempts that are still on their way: only a
    participant with a barrier knows of those.
    """

    reason: str
    message: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    covers_earlier: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The operation was accepted and is not finished: `pending`."""

    poll_after_ns: int
    message: str = ""
    needs_attention: bool = False
    """It does not go on without an operator."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The call ended and nobody knows what it did (G5).

    `retryable` says whether the status is one that another attempt may change; `answered` whether the participant
    itself ended the call, so that nothing of it can still be under way (G8).
    """

    failure: Failure
    retryable: bool
    answered: bool


Reply: TypeAlias = Done | Refused | Accepted | Unknown


@dataclass(frozen=True, slots=True)
class Replied:
    """A call ended. `jitter` in [0, 1) is drawn by the caller; it spreads the backoff of a next attempt."""

    step: str
    operation: Operation.ValueType
    attempt: int
    reply: Reply
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Begun:
    """The step's condition holds and its input is known: its first Execute attempt is to be made now."""

    step: str
    input: Any


@dataclass(frozen=True, slots=True)
class Skipped:
    """The step's condition is false."""

    step: str


@dataclass(frozen=True, slots=True)
class InputFailed:
    """The step's condition or input expression failed on this saga's data."""

    step: str
    message: str


@dataclass(frozen=True, slots=True)
class OutputKnown:
    """The saga's output expression was evaluated, or failed with `failure_message`."""

    output: Any | None = None
    failure_message: str = ""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A client or an operator wants the saga to go back."""

    reason: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """An operator wants nothing new to be dispatched."""

    reason: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """An operator takes a pause back."""

    reason: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """An operator wants what is open to be tried again now, with a fresh budget of attempts."""

    reason: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class ResolveRequested:
    """An operator states what happened to a step."""

    step: str
    resolution: Resolution.ValueType
    reason: str
    actor: str
    output: Any | None = None
    hold_until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """A participant reports the outcome of an operation by itself, not as the answer to a call."""

    step: str
    operation: Operation.ValueType
    reply: Done | Refused | Unknown


@dataclass(frozen=True, slots=True)
class KeysGranted:
    """The saga's turn to hold its exclusive keys has come."""


@dataclass(frozen=True, slots=True)
class KeysRefused:
    """The saga would wait for its exclusive keys for ever."""


@dataclass(frozen=True, slots=True)
class ParentWentBack:
    """The saga that this one is a step of goes back, and this one with it."""

    cause: Failure


@dataclass(frozen=True, slots=True)
class ParentConfirmed:
    """The saga that this one is a step of can no longer go back."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The saga was read back after its driver was lost: whatever was in flight is not known any more."""


Input: TypeAlias = (
    Replied
    | Begun
    | Skipped
    | InputFailed
    | OutputKnown
    | CancelRequested
    | PauseRequested
    | ResumeRequested
    | RetryRequested
    | ResolveRequested
    | Reported
    | KeysGranted
    | KeysRefused
    | ParentWentBack
    | ParentConfirmed
    | Recovered
)
