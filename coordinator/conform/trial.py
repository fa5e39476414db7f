"""What one check of one action works with: fresh steps, and ways to say what must be.

A check is a coroutine over a `Trial`. It ends by itself (passed), or by what it raises. This module must not know any
check.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from coordinator.conform import commands, limits
from coordinator.conform.caller import Answer, Caller, Sent
from coordinator.conform.commands import Surroundings
from coordinator.conform.examples import ActionExamples, Input, message_of
from coordinator.conform.subject import Subject
from coordinator.dataflow.types import Types
from coordinator.engine.uid import uuid7
from saga.v1.participant_pb2 import Action
from saga.v1.types_pb2 import (
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
    StepKind,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# As what a step runs an action that can serve as several kinds: what is asked of it then is most.
_KINDS_BY_DEMAND: Final = (
    STEP_KIND_RESERVABLE,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_RETRIABLE,
    STEP_KIND_READ_ONLY,
)
_NUMBER_MAX: Final = 1 << 31
_NUMBERS: Final = itertools.count(secrets.randbelow(_NUMBER_MAX))  # other runs begin elsewhere


class Violation(Exception):
    """The participant does not do what the contract demands."""

    def __init__(self, expected: str, came: str, sent: Sent | None = None) -> None:
        super().__init__(f"expected {expected}, came {came}")
        self.expected = expected
        self.came = came
        self.sent = sent


class NotApplicable(Exception):
    """The check cannot be made of this action, or with this file; the text says why."""


def kinds_of(action: Action) -> Sequence[StepKind.ValueType]:
    """What an action can serve as; one that does not say is COMPENSATABLE."""
    return tuple(action.kinds) or (STEP_KIND_COMPENSATABLE,)


def can_be_compensated(action: Action) -> bool:
    """Whether a coordinator ever sends it Compensate."""
    return not {STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE}.isdisjoint(kinds_of(action))


class Trial:
    """One check of one action. `caller` is the connection that most of it goes over."""

    def __init__(
        self, caller: Caller, types: Types, action: Action, examples: ActionExamples, surroundings: Surroundings
    ) -> None:
        self.caller = caller
        self.types = types
        self.action = action
        self.examples = examples
        self.log: list[Sent] = []
        self.warnings: list[str] = []
        self.is_unobserved = False
        """An effect mattered, and the file does not say how effects are counted."""
        self._surroundings = surroundings
        self._subjects: list[Subject] = []
        self._inputs = itertools.cycle(examples.inputs)

    # Steps.

    def subject(self, given: Input | None = None) -> Subject:
        """A new step, with this input or the next of the file's."""
        uid, unique, number = uuid7(time.time_ns()), secrets.token_hex(8), next(_NUMBERS) % _NUMBER_MAX
        message = message_of(given or next(self._inputs), self.action, self.types, unique, number)
        kind = next((kind for kind in _KINDS_BY_DEMAND if kind in kinds_of(self.action)), STEP_KIND_COMPENSATABLE)
        subject = Subject(self.caller, self.types, self.action, kind, uid, unique, message, self.log)
        self._subjects.append(subject)
        return subject

    def inputs(self, count: int) -> Iterator[Subject]:
        """As many new steps."""
        return (self.subject() for _ in range(count))

    async def executed(self, subject: Subject | None = None) -> tuple[Subject, Answer]:
        """A step whose Execute is completed, and the reply."""
        subject = subject or self.subject()
        answer = await subject.executed()
        self.require(answer, "completed")
        return subject, answer

    async def takes_s(self) -> float:
        """How long an Execute takes here and now, up to a bound: what is to meet one under way follows from it."""
        begun_s = time.monotonic()
        await self.executed()
        return min(time.monotonic() - begun_s, limits.TAKES_MAX_S)

    def other_input(self, subject: Subject) -> Subject:
        """A step whose input is another one than this step's. Errors: `NotApplicable`."""
        for given in self.examples.inputs:
            other = self.subject(given)
            if other.message != subject.message:
                return other
        raise NotApplicable("needs two different inputs: give a second one, or write ${unique} or ${number} in one")

    async def clean_up(self) -> None:
        """Compensates what this check may have left, where that can be; whether it worked is not its question."""
        if not can_be_compensated(self.action):
            return
        left = [subject for subject in self._subjects if subject.may_stand]
        await asyncio.gather(*(subject.compensated() for subject in left))

    # What must be.

    def require(self, answer: Answer, *outcomes: str, reason: str = "", expected: str = "") -> None:
        """That the answer is one of these outcomes; of a rejection also its reason. Errors: `Violation`."""
        if answer.outcome not in outcomes or (reason and answer.reason != reason):
            wanted = expected or " or ".join(outcomes) + (f", reason {reason}" if reason else "")
            self.fail(wanted, str(answer), answer.sent)

    def require_same(self, first: Answer, second: Answer) -> None:
        """That both replies are the same bytes. Errors: `Violation`."""
        if second.outcome != first.outcome:
            self.fail(f"{first}, as before", str(second), second.sent)
        if second.body != first.body:
            self.fail("the stored reply, byte for byte", f"a reply of other bytes ({second})", second.sent)

    def require_barred(self, answer: Answer) -> None:
        """That a late Execute is refused because Compensate came before (G8). Errors: `Violation`."""
        self.require(answer, "rejected", reason="BARRED")

    async def require_effects(self, *subjects: Subject, count: int, stay: bool = False) -> None:
        """That each of these steps has so many effects now, and still after a while. Errors: `Violation`.

        An action that is READ_ONLY has none to count.
        """
        source = self.examples.effects
        if source is None:
            self.is_unobserved = True
            return
        wanted = 0 if set(kinds_of(self.action)) == {STEP_KIND_READ_ONLY} else count
        for pause_s in (0.0, limits.SETTLE_S) if stay else (0.0,):
            await asyncio.sleep(pause_s)
            for subject in subjects:
                seen = await commands.count(source, self._surroundings, subject.variables())
                if seen != wanted:
                    self.fail(_effects(wanted), _effects(seen), subject.log[-1] if subject.log else None)

    def fail(self, expected: str, came: str, sent: Sent | None = None) -> NoReturn:
        """Raises the violation."""
        raise Violation(expected, came, sent)

    def warn(self, text: str) -> None:
        """Notes what the contract advises and does not demand."""
        if text not in self.warnings:
            self.warnings.append(text)

    async def command(self, text: str, subject: Subject) -> None:
        """Runs a command of the author's. Errors: `CommandFailed`."""
        await commands.run(text, self._surroundings, subject.variables())

    @asynccontextmanager
    async def second_connection(self) -> AsyncIterator[Caller]:
        """A connection that can be cut without ending the others' calls."""
        caller = self.caller.another()
        try:
            yield caller
        finally:
            await caller.close()


def one_outcome(answers: Iterable[Answer], outcome: str) -> Collection[Answer]:
    """Those of the answers that have this outcome."""
    return [answer for answer in answers if answer.outcome == outcome]


def _effects(count: int) -> str:
    return f"{count} effect" + ("" if count == 1 else "s") + " of this step"
