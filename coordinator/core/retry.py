"""How often and when an operation is attempted again.

Pure arithmetic on a policy: the random part of a backoff is an argument, so that what was drawn can be recorded in
the event and a saga folds to the same state for ever. This module must not know why an attempt failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from coordinator.core import limits
from saga.v1.definition_pb2 import AttemptPolicy
from saga.v1.types_pb2 import STEP_KIND_PIVOT, StepKind


@dataclass(frozen=True, slots=True)
class Policy:
    """An attempt policy with every default filled in. `attempts_max` 0 means without limit."""

    timeout_ns: int
    attempts_max: int
    initial_backoff_ns: int
    multiplier: float
    backoff_max_ns: int

    def exhausted(self, attempts_spent: int) -> bool:
        """Whether the budget leaves no further attempt."""
        return self.attempts_max != limits.UNLIMITED and attempts_spent >= self.attempts_max

    def backoff_ns(self, attempts_spent: int, jitter: float) -> int:
        """How long to wait after that many attempts, at least one; `jitter` in [0, 1) picks a point in the upper half.

        Half of the wait is fixed, so that a participant that struggles is never asked again at once; the other half
        spreads the sagas that failed together ("equal jitter", AWS Architecture Blog, "Exponential Backoff And
        Jitter").
        """
        whole = self.initial_backoff_ns * self.multiplier ** min(attempts_spent - 1, _EXPONENT_MAX)
        capped = min(whole, float(self.backoff_max_ns))
        return int(capped / 2 + capped / 2 * jitter)


# 10 ** 64 ms is far beyond every max_backoff, and a float holds it: a power that overflows would raise.
_EXPONENT_MAX = 64


def pauses(initial_ns: int, longest_ns: int) -> Policy:
    """Doubling pauses between tries of which there may be any number."""
    return Policy(
        timeout_ns=0,
        attempts_max=limits.UNLIMITED,
        initial_backoff_ns=initial_ns,
        multiplier=2.0,
        backoff_max_ns=longest_ns,
    )


def policy(message: AttemptPolicy, attempts_default: int) -> Policy:
    """The policy that a definition asks for; `attempts_default` holds where it names no number of attempts."""
    initial_ns = _or_default(message, "initial_backoff", limits.INITIAL_BACKOFF_DEFAULT_NS)
    return Policy(
        timeout_ns=_or_default(message, "timeout", limits.ATTEMPT_TIMEOUT_DEFAULT_NS),
        attempts_max=message.max_attempts if message.HasField("max_attempts") else attempts_default,
        initial_backoff_ns=initial_ns,
        multiplier=message.backoff_multiplier or limits.BACKOFF_MULTIPLIER_DEFAULT,
        backoff_max_ns=_or_default(message, "max_backoff", max(limits.MAX_BACKOFF_DEFAULT_NS, initial_ns)),
    )


def execute_attempts(kind: StepKind.ValueType, forward_only: bool) -> int:
    """How many Execute attempts a step gets where its definition names no number."""
    if forward_only or kind == STEP_KIND_PIVOT:
        return limits.UNLIMITED
    return limits.EXECUTE_ATTEMPTS_DEFAULT


def _or_default(message: AttemptPolicy, field: str, default_ns: int) -> int:
    if not message.HasField(field):  # type: ignore[arg-type]  # the names are those of the message
        return default_ns
    duration: Duration = getattr(message, field)
    return duration.seconds * limits.SECOND_NS + duration.nanos
