"""Small sagas for the core's tests: definitions in one line, and a bench that drives a saga without an engine.

The bench does what the engine does, minus participants: it turns inputs into journaled events and keeps the clock.
After each turn it folds the journal from its first event and insists that this gives the very state the live saga has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any as Anything

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from coordinator.core.definition import Plan, StepPlan, check_structure
from coordinator.core.frontier import Frontier
from coordinator.core.inputs import (
    Accepted,
    Begun,
    Done,
    Input,
    InputFailed,
    OutputKnown,
    Recovered,
    Refused,
    Replied,
    Reply,
    Skipped,
    Unknown,
)
from coordinator.core.instants import from_timestamp, to_duration, to_timestamp
from coordinator.core.limits import SECOND_NS
from coordinator.core.outstanding import Outstanding, outstanding
from coordinator.core.retry import Policy
from coordinator.core.state import Saga, StepRecord, apply, fold
from coordinator.core.turn import turn
from saga.v1.definition_pb2 import (
    COMPENSATION_ORDER_ONE_AT_A_TIME,
    COMPENSATION_ORDER_UNSPECIFIED,
    STEP_ORDER_GRAPH,
    STEP_ORDER_SEQUENTIAL,
    AttemptPolicy,
    SagaDefinition,
    StepDefinition,
)
from saga.v1.event_pb2 import ParentStep, SagaCreated, SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_EXECUTE,
    Failure,
    Operation,
    SagaState,
    StepKind,
    StepState,
)

T0_NS = 1_000_000 * SECOND_NS
"""When every saga of these tests is created."""


PARENT = ParentStep(saga_id="parent-1", saga_uid="uid-0", step="parcel")


def ns(seconds: float) -> int:
    """Seconds in nanoseconds."""
    return round(seconds * SECOND_NS)


def at(seconds: float) -> int:
    """The instant so many seconds after the saga was created."""
    return T0_NS + ns(seconds)


# --- Definitions ------------------------------------------------------------------------------------------------------


def attempts(
    most: int | None = None, timeout: float | None = None, backoff: float | None = None, longest: float | None = None
) -> AttemptPolicy:
    """An attempt policy; durations in seconds."""
    policy = AttemptPolicy(max_attempts=most)
    for field, seconds in (("timeout", timeout), ("initial_backoff", backoff), ("max_backoff", longest)):
        if seconds is not None:
            getattr(policy, field).CopyFrom(to_duration(ns(seconds)))
    return policy


def step(
    name: str,
    kind: str = "COMPENSATABLE",
    *after: str,
    when: str = "",
    timeout: float | None = None,
    execute: AttemptPolicy | None = None,
    compensate: AttemptPolicy | None = None,
    confirm: AttemptPolicy | None = None,
) -> StepDefinition:
    """A step; `timeout` in seconds."""
    return StepDefinition(
        name=name,
        participant=f"{name}_service",
        action="Act",
        kind=StepKind.Value(f"STEP_KIND_{kind}"),
        after=after,
        input="{}",
        when=when,
        timeout=to_duration(ns(timeout)) if timeout is not None else None,
        execute=execute,
        compensate=compensate,
        confirm=confirm,
    )


def define(
    *steps: StepDefinition,
    graph: bool = False,
    one_at_a_time: bool = False,
    timeout: float | None = None,
    hold_margin: float | None = None,
) -> SagaDefinition:
    """A definition of these steps, valid or not; durations in seconds."""
    return SagaDefinition(
        name="shop",
        version=1,
        input_type="shop.v1.Order",
        steps=steps,
        order=STEP_ORDER_GRAPH if graph else STEP_ORDER_SEQUENTIAL,
        compensation_order=COMPENSATION_ORDER_ONE_AT_A_TIME if one_at_a_time else COMPENSATION_ORDER_UNSPECIFIED,
        timeout=to_duration(ns(timeout)) if timeout is not None else None,
        hold_margin=to_duration(ns(hold_margin)) if hold_margin is not None else None,
    )


def plan(definition: SagaDefinition) -> Plan:
    """The plan of a definition that is valid."""
    assert check_structure(definition) == []
    return Plan(definition)


# --- Replies ----------------------------------------------------------------------------------------------------------

DONE = Done(output=Any(value=b"output"))
REFUSED = Refused("OUT_OF_STOCK", "none left")
REFUSED_FOR_ALL = Refused("OUT_OF_STOCK", "none left", covers_earlier=True)
UNAVAILABLE = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE, message="lost"), retryable=True, answered=False)
ABORTED = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE, message="aborted"), retryable=True, answered=True)
INVALID = Unknown(Failure(kind=FAILURE_KIND_CALL_REFUSED, message="invalid"), retryable=False, answered=True)


def pending(poll_after: float = 5, *, needs_attention: bool = False) -> Accepted:
    """Accepted; asked again after so many seconds."""
    return Accepted(ns(poll_after), "in the queue", needs_attention)


# --- Driving ----------------------------------------------------------------------------------------------------------


class Answers:
    """An oracle that was told its answers: which steps are skipped, and which inputs fail."""

    def __init__(self, skipped: Iterable[str] = (), failing: Iterable[str] = (), output_failure: str = "") -> None:
        self.skipped = frozenset(skipped)
        self.failing = frozenset(failing)
        self.output_failure = output_failure

    def evaluate(self, saga: Saga, step: StepRecord) -> Begun | Skipped | InputFailed:
        """As it was told; every other step begins."""
        name = step.plan.name
        if name in self.skipped:
            return Skipped(name)
        if name in self.failing:
            return InputFailed(name, "1:1: no such key")
        return Begun(name, Any(value=f"input of {name}".encode()))

    def evaluate_output(self, saga: Saga) -> OutputKnown:
        """As it was told."""
        if self.output_failure:
            return OutputKnown(failure_message=self.output_failure)
        return OutputKnown(output=Any(value=b"output of the saga"))


class Bench:
    """A saga, its journal and its clock."""

    def __init__(
        self,
        definition: SagaDefinition,
        answers: Answers | None = None,
        *,
        timeout: float | None = None,
        start_after: float | None = None,
        child: bool = False,
        keys: Iterable[str] = (),
        deadline: float | None = None,
    ) -> None:
        self.plan = plan(definition)
        self.answers = answers or Answers()
        self.saga = Saga("saga-1", self.plan)
        self.now_ns = T0_NS
        self.journal: list[SagaEvent] = []
        self.polled_until_ns: dict[str, int] = {}
        timeout_ns = ns(timeout) if timeout is not None else self.plan.timeout_ns
        created = SagaCreated(
            uid="uid-1",
            definition=self.plan.name,
            version=self.plan.version,
            input=Any(value=b"order"),
            timeout=to_duration(timeout_ns) if timeout_ns is not None else None,
            start_time=to_timestamp(at(start_after)) if start_after is not None else None,
            parent=PARENT if child else None,
            root_saga_id=PARENT.saga_id if child else "",
            exclusive_keys=list(keys),
            deadline=to_timestamp(at(deadline)) if deadline is not None else None,
        )
        self.keep(
            [SagaEvent(saga_id="saga-1", sequence=1, time=to_timestamp(T0_NS), saga_created=created)], apply_too=True
        )

    def keep(self, events: Iterable[SagaEvent], *, apply_too: bool = False) -> None:
        """Journal the events."""
        for event in events:
            self.journal.append(SagaEvent.FromString(event.SerializeToString()))
            if apply_too:
                apply(self.saga, event)

    def turn(self, given: Input | None = None) -> list[SagaEvent]:
        """One turn at the present instant; the journal, folded anew, must give the same state."""
        taken = turn(self.saga, given, self.now_ns, self.answers, self.polled_until_ns)
        assert taken.wanted == outstanding(self.saga, self.now_ns, self.polled_until_ns)
        events = list(taken.events)
        self.keep(events)
        assert picture(self.folded()) == picture(self.saga)
        return events

    def folded(self) -> Saga:
        """What the journal adds up to."""
        return fold(Saga("saga-1", self.plan), self.journal)

    def reply(
        self,
        name: str,
        reply: Reply,
        operation: Operation.ValueType = OPERATION_EXECUTE,
        *,
        attempt: int | None = None,
        jitter: float = 0.0,
    ) -> list[SagaEvent]:
        """The answer of the last attempt, or of another one."""
        number = self.saga.step(name).progress[operation].attempts if attempt is None else attempt
        return self.turn(Replied(name, operation, number, reply, jitter))

    def wait(self, seconds: float) -> list[SagaEvent]:
        """Time passes, and the saga is looked at."""
        self.now_ns += ns(seconds)
        return self.turn()

    def wait_until(self, seconds: float) -> list[SagaEvent]:
        """Time passes until so many seconds after the saga was created."""
        assert at(seconds) >= self.now_ns
        self.now_ns = at(seconds)
        return self.turn()

    def crash(self) -> list[SagaEvent]:
        """The coordinator dies and reads the saga back."""
        self.saga = self.folded()
        self.polled_until_ns = {}
        return self.turn(Recovered())

    @property
    def out(self) -> Outstanding:
        """What must be under way now."""
        return outstanding(self.saga, self.now_ns, self.polled_until_ns)

    @property
    def calls(self) -> list[tuple[str, Operation.ValueType, int]]:
        """The calls that must be in flight: step, operation, attempt."""
        return [(call.step, call.operation, call.attempt) for call in self.out.calls]

    @property
    def state(self) -> str:
        """The saga's state in one word."""
        return SagaState.Name(self.saga.state).removeprefix("SAGA_STATE_")

    @property
    def steps(self) -> dict[str, str]:
        """The state of each step in one word."""
        return {
            record.plan.name: StepState.Name(record.state).removeprefix("STEP_STATE_") for record in self.saga.steps
        }


# --- Looking ----------------------------------------------------------------------------------------------------------


def names(events: Iterable[SagaEvent]) -> list[str]:
    """What happened, one word each."""
    return [event.WhichOneof("event") or "" for event in events]


def only(events: Iterable[SagaEvent], name: str) -> Anything:
    """The one event of that name."""
    (found,) = [getattr(event, name) for event in events if event.WhichOneof("event") == name]
    return found


def started(events: Iterable[SagaEvent]) -> list[tuple[str, Operation.ValueType, int]]:
    """The attempts that began: step, operation, number."""
    return [
        (event.attempt_started.step, event.attempt_started.operation, event.attempt_started.attempt)
        for event in events
        if event.WhichOneof("event") == "attempt_started"
    ]


def deadline_of(events: Iterable[SagaEvent]) -> float:
    """By when the one attempt that began must be answered, in seconds after the saga was created."""
    return (from_timestamp(only(events, "attempt_started").deadline) - T0_NS) / SECOND_NS


def picture(value: Anything) -> Anything:
    """A deep copy in plain data, which compares: two sagas of the same picture are the same."""
    if isinstance(value, Message):
        return type(value).__name__, value.SerializeToString(deterministic=True)
    if isinstance(value, Plan):
        return value.name, value.version
    if isinstance(value, (StepPlan, Policy)):
        return value  # they never change
    if isinstance(value, Frontier):
        return {slot: picture(getattr(value, slot)) for slot in Frontier.__slots__}
    if isinstance(value, Saga):
        return {name: picture(inner) for name, inner in vars(value).items()}
    if is_dataclass(value):
        return {field.name: picture(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: picture(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [picture(inner) for inner in value]
    return frozenset(value) if isinstance(value, set) else value
