"""What can be made to fail at one call, and how it is written: `charge.execute#1=reply-lost`.

This module must not make anything fail; it says what could.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from coordinator.core.definition import StepPlan
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation


class Fault(StrEnum):
    """What happens to a call instead of what should."""

    REQUEST_LOST = "request-lost"
    """It is never sent; another attempt follows."""
    REPLY_LOST = "reply-lost"
    """It takes effect, and nobody learns of it; another attempt follows."""
    DUPLICATED = "duplicated"
    """It is sent twice at the same time."""
    CRASH_BEFORE = "crash-before"
    """The coordinator crashes when the attempt is journaled and not sent yet."""
    CRASH_AFTER = "crash-after"
    """The coordinator crashes when the participant has answered and nothing is journaled of it."""
    GIVEN_UP = "given-up"
    """It takes effect, nobody learns of it, and no attempt follows: the saga goes back with an unknown outcome."""
    LATE = "late"
    """It arrives only after the step's Compensate; the saga goes back with an unknown outcome."""
    REFUSED = "refused"
    """It is not sent, and answered as if the participant had refused."""
    CANCELLED = "cancelled"
    """The saga is cancelled while the call is under way."""


_OPERATIONS: Final[Mapping[str, Operation.ValueType]] = {
    "execute": OPERATION_EXECUTE,
    "compensate": OPERATION_COMPENSATE,
    "confirm": OPERATION_CONFIRM,
}
_WORDS: Final = {operation: word for word, operation in _OPERATIONS.items()}
_INJECTION: Final = re.compile(
    r"(?P<step>\w+)\.(?P<operation>execute|compensate|confirm)#(?P<attempt>[1-9]\d{0,8})=(?P<fault>[\w-]+)"
)
_AT_ANY_CALL: Final = (
    Fault.REQUEST_LOST,
    Fault.REPLY_LOST,
    Fault.DUPLICATED,
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
)


class Attempt(NamedTuple):
    """A call as the saga makes it, and everybody names it."""

    step: str
    operation: Operation.ValueType
    number: int

    def __str__(self) -> str:
        return f"{self.step}.{_WORDS[self.operation]}#{self.number}"


@dataclass(frozen=True, slots=True)
class Injection:
    """One failure, at one call."""

    attempt: Attempt
    fault: Fault

    def __str__(self) -> str:
        return f"{self.attempt}={self.fault}"


def parse_injection(text: str) -> Injection:
    """What `str` of an injection gives, read back. ValueError where it is none."""
    found = _INJECTION.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` is no failure: `charge.execute#1=reply-lost` would be one")
    if found["fault"] not in set(Fault):
        raise ValueError(f"`{found['fault']}` is none of {', '.join(Fault)}")
    attempt = Attempt(found["step"], _OPERATIONS[found["operation"]], int(found["attempt"]))
    return Injection(attempt, Fault(found["fault"]))


def possible(step: StepPlan, attempt: Attempt) -> Iterator[Fault]:
    """What can fail at that attempt, as far as the step's kind says.

    A step that runs a saga of the same coordinator is called within it: nothing gets lost there.
    """
    if step.in_process:
        return
    yield from _AT_ANY_CALL
    if attempt.operation != OPERATION_EXECUTE:
        return
    if not step.must_go_on:
        yield Fault.GIVEN_UP
        if step.compensatable:
            yield Fault.LATE
    if not step.forward_only and attempt.number == 1:  # a later refusal would deny what an earlier attempt did
        yield Fault.REFUSED
    if not step.must_go_on:
        yield Fault.CANCELLED
