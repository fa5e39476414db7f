"""A saga among participants that fail in every way the contract allows, for the property tests.

`World` is an engine without tasks: it turns inputs into journaled events, makes the calls and polls that
`outstanding` asks for, and keeps a clock that only moves to the next instant at which something is due. What the
participants do is chosen by the test. They keep their own record of effects:

- a *barriered* participant bars every late Execute once it was asked to compensate, and its refusals cover earlier
  attempts; an unbarriered one takes effect whenever an Execute lands, also a late one, until the call's deadline;
- both do the effect of one key once, and answer truthfully: they refuse only where no effect stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google.protobuf.any_pb2 import Any

from coordinator.core.decide import decide
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    Accepted,
    CancelRequested,
    Done,
    Input,
    KeysGranted,
    ParentConfirmed,
    ParentWentBack,
    Recovered,
    Refused,
    Replied,
    Reply,
    Unknown,
)
from coordinator.core.limits import SECOND_NS
from coordinator.core.outstanding import Outstanding, outstanding
from coordinator.core.state import Saga, apply, fold
from coordinator.core.turn import record, turn
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    STEP_KIND_PIVOT,
    STEP_KIND_RESERVABLE,
    Failure,
    Operation,
    SagaState,
)
from tests.coordinator.core.judge import Judge, Violation
from tests.coordinator.core.sagas import Answers, Bench, picture

POLL_AFTER_NS: Final = 2 * SECOND_NS
TIMED_OUT: Final = Unknown(Failure(kind=FAILURE_KIND_TIMED_OUT), retryable=True, answered=False)
UNAVAILABLE: Final = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=False)
ABORTED: Final = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=True)
INVALID: Final = Unknown(Failure(kind=FAILURE_KIND_CALL_REFUSED), retryable=False, answered=True)

CHOICES: Final = (
    "done",
    "refused",
    "pending",
    "pending, with effect",
    "aborted",
    "aborted, with effect",
    "invalid",
    "invalid, with effect",
    "connection lost",
)
"""What a participant may do with a call. After "connection lost" an Execute may land until the call's deadline."""


class Flight(NamedTuple):
    """A call or a poll on its way."""

    step: str
    operation: Operation.ValueType
    attempt: int
    poll: bool


class Late(NamedTuple):
    """An Execute call that nobody awaits any more, and that may land until then."""

    attempt: int
    until_ns: int


@dataclass(slots=True)
class Participant:
    """One step's side of the world: what took effect, and what may still land."""

    barriered: bool
    hold_ns: int | None
    effect: bool = False
    confirmed: bool = False
    barred: bool = False
    refused_up_to: int = 0
    late: list[Late] = field(default_factory=list)

    def land(self, attempt: int) -> None:
        """An Execute gets through: the effect of its key is made once."""
        if not (self.barriered and (self.barred or attempt <= self.refused_up_to)):
            self.effect = True

    def execute(self, attempt: int, choice: str, now_ns: int) -> Reply:
        """What an Execute or its poll is answered."""
        if choice.endswith("with effect"):
            self.land(attempt)
        match choice:
            case "done":
                self.land(attempt)
                return self._done_or_refused(attempt, now_ns)
            case "refused":
                return self._done_or_refused(attempt, now_ns)
            case _:
                return _without_outcome(choice)

    def _done_or_refused(self, attempt: int, now_ns: int) -> Reply:
        if self.effect:
            hold_until_ns = now_ns + self.hold_ns if self.hold_ns is not None else None
            return Done(Any(value=b"output"), hold_until_ns)
        self.refused_up_to = max(self.refused_up_to, attempt)
        return Refused("NO", covers_earlier=self.barriered)

    def compensate(self, choice: str) -> Reply:
        """What a Compensate or its poll is answered. A barriered participant bars Execute from here on."""
        self.barred = True
        if choice == "refused":
            return Refused("TOO_LATE")
        noop = not self.effect
        if choice == "done" or choice.endswith("with effect"):
            self.effect = False
        return Done(noop=noop) if choice == "done" else _without_outcome(choice)

    def confirm(self, choice: str) -> Reply:
        """What a Confirm or its poll is answered."""
        if not self.effect:
            raise Violation("a hold is confirmed that does not stand")
        if choice == "refused":
            return Refused("LAPSED")
        if choice == "done" or choice.endswith("with effect"):
            self.confirmed = True
        return Done() if choice == "done" else _without_outcome(choice)


def _without_outcome(choice: str) -> Reply:
    match choice.partition(",")[0]:
        case "pending":
            return Accepted(POLL_AFTER_NS)
        case "aborted":
            return ABORTED
        case "invalid":
            return INVALID
        case _:
            return UNAVAILABLE


class World:
    """A saga, its journal, its clock and its participants. `holds_ns` says how long each hold is kept.

    It can be a `child`, with a parent that decides when it likes, and can have `keys`, which it waits for.
    """

    def __init__(
        self,
        definition: SagaDefinition,
        answers: Answers,
        barriered: frozenset[str],
        holds_ns: Mapping[str, int],
        *,
        child: bool = False,
        keys: tuple[str, ...] = (),
    ) -> None:
        bench = Bench(definition, answers, child=child, keys=keys)
        self.child = child
        self.plan = bench.plan
        self.saga = bench.saga
        self.now_ns = bench.now_ns
        self.journal = bench.journal
        self.judge = Judge(self.plan, barriered, child=child)
        self.judge.events.extend(self.journal)
        self.participants = {
            step.name: Participant(step.name in barriered, holds_ns.get(step.name)) for step in self.plan.steps
        }
        self.flights: dict[Flight, int] = {}
        """What is in flight, and its deadline."""
        self._answers = answers
        self._out = Outstanding()
        self._next_poll_ns: dict[Flight, int] = {}
        self._unanswered_poll_ns: dict[str, int] = {}
        self._read_back()

    # --- What can happen ---

    def look(self) -> None:
        """The saga is looked at, as after a start or at a timer."""
        self._take(None)

    def answer(self, flight: Flight, choice: str, fate: str = "durable") -> None:
        """A participant acts on a call, and the coordinator hears of it.

        `fate`: what becomes of the turn that follows: it is durable, it is lost with the coordinator before it is on
        disk, or the coordinator is stopping, records it, and is started again.
        """
        participant = self.participants[flight.step]
        until_ns = self.flights.pop(flight)
        if flight.operation == OPERATION_EXECUTE:
            reply = participant.execute(flight.attempt, choice, self.now_ns)
        elif flight.operation == OPERATION_COMPENSATE:
            reply = participant.compensate(choice)
        else:
            reply = participant.confirm(choice)
        if choice == "connection lost":
            self._give_up(flight, until_ns)
        self._take(Replied(flight.step, flight.operation, flight.attempt, reply, jitter=0.5), fate)

    def land(self, name: str) -> None:
        """An Execute that nobody awaits any more lands after all."""
        participant = self.participants[name]
        participant.land(participant.late.pop().attempt)

    def cancel(self) -> None:
        """A client wants the saga to go back."""
        allowed = not (self.judge.committed or self.stands)
        try:
            self._take(CancelRequested("no longer wanted"))
        except Forbidden:
            if allowed:
                raise
        else:
            if not allowed:
                raise Violation("G6: a cancel is accepted where the saga cannot go back")

    def grant(self) -> None:
        """Its turn to hold its keys has come; told twice now and then."""
        self._take(KeysGranted())

    def parent_goes_back(self) -> None:
        """The saga that it is a step of goes back."""
        allowed = not self.judge.committed
        try:
            self._take(ParentWentBack(Failure(message="the parent goes back")))
        except Forbidden:
            if allowed:
                raise
        else:
            if not (allowed or self.judge.happened("compensation_started")):
                raise Violation("G6: it goes back with its parent where it cannot")

    def parent_confirms(self) -> None:
        """The saga that it is a step of can no longer go back."""
        allowed = self.held or bool(self.judge.happened("point_of_no_return_passed"))
        try:
            self._take(ParentConfirmed())
        except Forbidden:
            if allowed:
                raise
        else:
            if not allowed:
                raise Violation("it is confirmed before all its steps are done")

    @property
    def held(self) -> bool:
        """Whether it waits for its parent."""
        reserves = any(step.kind == STEP_KIND_RESERVABLE for step in self.plan.steps)
        over = self.judge.happened("point_of_no_return_passed") or self.judge.happened("compensation_started")
        return reserves and self.judge.parent_decides and self.judge.all_done and not over

    def crash(self) -> None:
        """The coordinator dies, and reads the saga back."""
        for flight, until_ns in self.flights.items():
            self._give_up(flight, until_ns)
        self.flights.clear()
        self._next_poll_ns.clear()
        self._unanswered_poll_ns.clear()
        self._read_back()
        if not self.stands:
            self._take(Recovered())

    def pass_time(self) -> None:
        """The next instant comes: calls run out, polls are made, the saga is looked at; or others give their word."""
        if self._out.keys:
            self.grant()
            return
        if self.held:
            self.parent_confirms()
            return
        instants = [*self.flights.values(), *self._next_poll_ns.values()]
        instants += [self._out.wake_ns] if self._out.wake_ns is not None else []
        self.now_ns = max(self.now_ns, min(instants))
        for participant in self.participants.values():
            participant.late = [late for late in participant.late if self.now_ns < late.until_ns]
        for flight in [flight for flight, until_ns in self.flights.items() if until_ns <= self.now_ns]:
            del self.flights[flight]
            self._take(Replied(flight.step, flight.operation, flight.attempt, TIMED_OUT, jitter=0.5))
        self._make_polls()
        self._take(None)

    @property
    def stands(self) -> bool:
        """Whether the saga ended or failed."""
        return self.saga.ended or self.saga.state == SAGA_STATE_FAILED

    # --- The engine's part ---

    def _take(self, given: Input | None, fate: str = "durable") -> None:
        polled_until_ns = self._polled_until_ns()
        facts = self._decided(given, polled_until_ns)
        if fate == "stopping":
            self._append(record(self.saga, given, self.now_ns, polled_until_ns).events)
            self.crash()
            return
        events = turn(self.saga, given, self.now_ns, self._answers, polled_until_ns).events
        assert [event.WhichOneof("event") for event in events[: len(facts)]] == facts
        self._replay(given, polled_until_ns, events)
        if fate == "lost":
            self.crash()
            return
        self._append(events)
        self._dispatch()

    def _decided(self, given: Input | None, polled_until_ns: Mapping[str, int]) -> list[str]:
        """What one input establishes; deciding must change nothing."""
        if given is None:
            return []
        before = picture(self.saga)
        facts = decide(self.saga, given, self.now_ns, polled_until_ns)
        assert picture(self.saga) == before, "decide changed the saga"
        return ["".join(f"_{c.lower()}" if c.isupper() else c for c in type(f).__name__)[1:] for f, _ in facts]

    def _replay(self, given: Input | None, polled_until_ns: Mapping[str, int], events: Sequence[SagaEvent]) -> None:
        """The twin saga was folded from the journal: from the same input it must come to the same events and state."""
        again = turn(self._twin, given, self.now_ns, self._answers, polled_until_ns)
        assert again.events == events, "the same input gave other events"
        assert picture(self._twin) == picture(self.saga), "the journal does not give the live state"

    def _append(self, events: Sequence[SagaEvent]) -> None:
        at_work = self._at_work()
        for event in events:
            written = SagaEvent.FromString(event.SerializeToString())
            self.judge.take(written, at_work)
            self.journal.append(written)

    def _read_back(self) -> None:
        self.saga = fold(Saga("saga-1", self.plan), self.journal)
        self._twin = Saga("saga-1", self.plan)
        for event in self.journal:
            apply(self._twin, event)

    def _dispatch(self) -> None:
        self._out = outstanding(self.saga, self.now_ns, self._polled_until_ns())
        assert self._out.due == [], "a turn ends when nothing is due"
        if self._out.idle != (self.stands or self.held):
            raise Violation(f"G3: {SagaState.Name(self.saga.state)}, and idle: {self._out.idle}")
        for call in self._out.calls:
            self.flights.setdefault(Flight(call.step, call.operation, call.attempt, poll=False), call.deadline_ns)
        polls = {Flight(p.step, p.operation, p.attempt, poll=True): p for p in self._out.polls}
        self._next_poll_ns = {flight: at_ns for flight, at_ns in self._next_poll_ns.items() if flight in polls}
        for flight, poll in polls.items():
            if flight not in self.flights:
                self._next_poll_ns.setdefault(flight, self.now_ns + poll.every_ns)

    def _make_polls(self) -> None:
        timeouts_ns = {Flight(p.step, p.operation, p.attempt, poll=True): p.timeout_ns for p in self._out.polls}
        for flight, at_ns in list(self._next_poll_ns.items()):
            if at_ns <= self.now_ns:
                del self._next_poll_ns[flight]
                self.flights[flight] = self.now_ns + timeouts_ns[flight]

    def _give_up(self, flight: Flight, until_ns: int) -> None:
        if flight.operation != OPERATION_EXECUTE:
            return
        self.participants[flight.step].late.append(Late(flight.attempt, until_ns))
        if flight.poll:
            known_ns = self._unanswered_poll_ns.get(flight.step, 0)
            self._unanswered_poll_ns[flight.step] = max(known_ns, until_ns)

    def _polled_until_ns(self) -> dict[str, int]:
        until_ns = dict(self._unanswered_poll_ns)
        for flight, deadline_ns in self.flights.items():
            if flight.poll and flight.operation == OPERATION_EXECUTE:
                until_ns[flight.step] = max(until_ns.get(flight.step, 0), deadline_ns)
        return until_ns

    def _at_work(self) -> list[str]:
        in_flight = [
            flight.step
            for flight, until_ns in self.flights.items()
            if flight.operation == OPERATION_EXECUTE and self.now_ns < until_ns
        ]
        late = [name for name, p in self.participants.items() if any(self.now_ns < one.until_ns for one in p.late)]
        return in_flight + late

    # --- The end ---

    def check_end(self) -> None:
        """G3, G4, G6: everything or nothing, also when all that is still on its way has landed."""
        for name, participant in self.participants.items():
            while participant.late:
                self.land(name)
        if self.saga.state == SAGA_STATE_COMPENSATED:
            self._check_nothing_stands()
        elif self.saga.state == SAGA_STATE_COMPLETED:
            self._check_everything_stands()
        elif self.saga.state == SAGA_STATE_FAILED:
            self._check_an_operator_is_needed()
        else:
            raise Violation("G3: the saga never ended")
        assert picture(fold(Saga("saga-1", self.plan), self.journal)) == picture(self.saga)

    def _check_nothing_stands(self) -> None:
        for step in self.plan.steps:
            effectful = step.compensatable or step.kind == STEP_KIND_PIVOT
            if effectful and self.participants[step.name].effect:
                raise Violation(f"G4: the saga is COMPENSATED and the effect of `{step.name}` stands")

    def _check_everything_stands(self) -> None:
        for step in self.plan.steps:
            participant = self.participants[step.name]
            skipped = bool(self.judge.happened("step_skipped", step.name))
            if participant.effect == skipped:
                raise Violation(f"G6: the saga is COMPLETED, and `{step.name}`: effect {participant.effect}")
            if step.kind == STEP_KIND_RESERVABLE and not (skipped or participant.confirmed):
                raise Violation(f"the saga is COMPLETED and the hold `{step.name}` is not confirmed")

    def _check_an_operator_is_needed(self) -> None:
        failed = self.judge.happened("step_compensation_failed")
        stuck = self.judge.happened("step_stuck")
        if not (failed or stuck) or not self.saga.needs_attention:
            raise Violation("G3: the saga is FAILED and no step says why")
        unfinished = {fact.step for fact in failed}
        for step in self.plan.steps:
            if failed and step.compensatable and step.name not in unfinished and self.participants[step.name].effect:
                raise Violation(f"G7: `{step.name}` was not compensated beside the one that could not be")
