"""The failure paths of a definition: which failures can follow one another, and how the saga must then end.

Each path is played on the core alone, with participants that do whatever they are asked, so that the paths, their names
and their order follow from the definition and from nothing else. This module must not call anybody or look at a clock.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.any_pb2 import Any

from coordinator.core.definition import Plan
from coordinator.core.inputs import (
    Begun,
    CancelRequested,
    Done,
    Input,
    OutputKnown,
    Recovered,
    Refused,
    Replied,
    Reply,
    Unknown,
)
from coordinator.core.instants import to_duration, to_timestamp
from coordinator.core.outstanding import Call, outstanding
from coordinator.core.state import Saga, StepRecord, apply
from coordinator.core.turn import turn
from coordinator.rehearse.faults import Attempt, Fault, Injection, parse_injection, possible
from saga.v1.definition_pb2 import STEP_ORDER_GRAPH
from saga.v1.event_pb2 import SagaCreated, SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    Failure,
    SagaState,
)

REHEARSED: Final = "REHEARSED"
"""The reason of every failure that was made here."""
NO_FAILURE: Final = "no-failure"
"""The name of the path on which everything goes well."""

_ARROW: Final = " → "
_ARROWS: Final = re.compile(r"\s*(?:→|->)\s*")
_SAGA_ID: Final = "rehearsal"


class InvalidPathError(ValueError):
    """The text names no path of this definition; it says why."""


@dataclass(frozen=True, slots=True)
class Path:
    """Failures in the order in which they happen; `attempts` are all calls of the saga, those that fail among them.

    `ends` has the states in which a saga may end on it, if no participant refuses of its own accord.
    """

    injections: tuple[Injection, ...]
    attempts: tuple[Attempt, ...]
    ends: frozenset[SagaState.ValueType]

    @property
    def name(self) -> str:
        """What it is called, for instance `charge.execute#1=refused → reserve.compensate#1=reply-lost`."""
        return _ARROW.join(map(str, self.injections)) or NO_FAILURE

    @property
    def forward_failures(self) -> int:
        """How many of its failures are not in a Compensate."""
        return sum(each.attempt.operation != OPERATION_COMPENSATE for each in self.injections)


def paths_of(plan: Plan, depth: int = 1) -> Iterator[Path]:
    """All paths with up to `depth` failures on the way forward and one on the way back; those with fewer come first."""
    waiting: deque[tuple[Injection, ...]] = deque([()])
    while waiting:
        path = _play(plan, waiting.popleft())
        yield path
        waiting.extend((*path.injections, another) for another in _further(plan, path, depth))


def path_named(plan: Plan, name: str) -> Path:
    """The path of that name. InvalidPathError."""
    try:
        injections = () if name == NO_FAILURE else tuple(map(parse_injection, _ARROWS.split(name.strip())))
    except ValueError as error:
        raise InvalidPathError(str(error)) from None
    steps = {step.name: step for step in plan.steps}
    for each in injections:
        step = steps.get(each.attempt.step)
        if step is None:
            raise InvalidPathError(f"`{each.attempt.step}` is no step of `{plan.name}`")
        if each.fault not in possible(step, each.attempt):
            raise InvalidPathError(f"`{each}` cannot happen")
    path = _play(plan, injections)
    if any(each.attempt not in path.attempts for each in injections):
        raise InvalidPathError(f"no saga of `{plan.name}` goes by `{name}`")
    return path


def _further(plan: Plan, path: Path, depth: int) -> Iterator[Injection]:
    """The failures that can come next on a path, behind those that it has."""
    back_is_free = path.forward_failures == len(path.injections)
    forward_is_free = back_is_free and path.forward_failures < depth
    begin = path.attempts.index(path.injections[-1].attempt) + 1 if path.injections else 0
    for attempt in path.attempts[begin:]:
        if back_is_free if attempt.operation == OPERATION_COMPENSATE else forward_is_free:
            yield from (Injection(attempt, fault) for fault in possible(plan.step(attempt.step), attempt))


# --- On the core alone ------------------------------------------------------------------------------------------------


def _play(plan: Plan, injections: Sequence[Injection]) -> Path:
    """The path with these failures."""
    play = _Play(plan, {each.attempt: each.fault for each in injections})
    play.run()
    parallel = plan.definition.order == STEP_ORDER_GRAPH
    crashes = any(each.fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER) for each in injections)
    # What else was in flight when the coordinator crashed is lost or not, and may have been the last attempt.
    ends = frozenset({play.saga.state}) if not (parallel and crashes) else _GOOD_ENDS
    return Path(tuple(injections), tuple(play.attempts), ends)


_GOOD_ENDS: Final = frozenset({SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED})


class _Play:
    """A saga whose participants do whatever they are asked, but where a failure is made; its calls end one by one."""

    def __init__(self, plan: Plan, faults: Mapping[Attempt, Fault]) -> None:
        self.saga = Saga(_SAGA_ID, plan)
        self.attempts: list[Attempt] = []
        self._faults = faults
        self._now_ns = 0
        timeout_ns = plan.timeout_ns
        created = SagaCreated(
            uid=_SAGA_ID,
            definition=plan.name,
            version=plan.version,
            input=Any(),
            timeout=to_duration(timeout_ns) if timeout_ns is not None else None,
        )
        apply(self.saga, SagaEvent(saga_id=_SAGA_ID, sequence=1, time=to_timestamp(0), saga_created=created))

    def run(self) -> None:
        """Until nothing is outstanding any more."""
        self._turn(None)
        while not (wanted := outstanding(self.saga, self._now_ns)).idle:
            if wanted.calls:
                self._end(wanted.calls[0])
            elif wanted.wake_ns is not None:
                self._now_ns = wanted.wake_ns
                self._turn(None)

    def _end(self, call: Call) -> None:
        attempt = Attempt(call.step, call.operation, call.attempt)
        self.attempts.append(attempt)
        match self._faults.get(attempt):
            case Fault.CRASH_BEFORE | Fault.CRASH_AFTER:
                self._now_ns = max(self._now_ns, call.deadline_ns)
                self._turn(Recovered())
            case Fault.CANCELLED:
                self._turn(CancelRequested(REHEARSED))
                self._reply(call, Done(output=_output(call)))
            case Fault.REFUSED:
                self._reply(call, refused())
            case Fault.REQUEST_LOST | Fault.REPLY_LOST:
                self._reply(call, lost(retryable=True))
            case Fault.GIVEN_UP | Fault.LATE:
                self._reply(call, lost(retryable=False))
            case _:
                self._reply(call, Done(output=_output(call)))

    def _reply(self, call: Call, reply: Reply) -> None:
        self._turn(Replied(call.step, call.operation, call.attempt, reply))

    def _turn(self, given: Input | None) -> None:
        turn(self.saga, given, self._now_ns, _ORACLE)


class _Oracle:
    """No condition is false, and no expression fails."""

    def evaluate(self, _saga: Saga, step: StepRecord) -> Begun:
        return Begun(step.plan.name, Any())

    def evaluate_output(self, _saga: Saga) -> OutputKnown:
        return OutputKnown()


_ORACLE: Final = _Oracle()


def _output(call: Call) -> Any | None:
    return Any() if call.operation == OPERATION_EXECUTE else None


# --- What the saga is told of a failure, here as on the real way ------------------------------------------------------


def lost(*, retryable: bool, step: str = "", message: str = "") -> Unknown:
    """An outcome that nobody knows. It counts as answered, for whoever makes it knows that the call has ended (G8)."""
    failure = Failure(kind=FAILURE_KIND_UNAVAILABLE, step=step, reason=REHEARSED, message=message)
    return Unknown(failure, retryable=retryable, answered=True)


def refused() -> Refused:
    """A refusal of a call that was never sent."""
    return Refused(REHEARSED, "refused by the rehearsal", covers_earlier=True)
