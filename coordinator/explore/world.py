"""A saga, its participants and its clock at one moment, and every moment that can follow.

A `World` is the engine's part without an engine: it makes the calls and polls that `outstanding` asks for, hands what
comes of them to `turn`, and lets time pass to the next instant at which something is due. Where the test's simulation
draws one future (tests/coordinator/core/simulation.py), this tries all of them.

Every instant between two events is alike to the core, so time only ever passes to the next one: a call's deadline, a
poll, an instant that `outstanding` names, or the last moment at which a late Execute can land.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google.protobuf.any_pb2 import Any

from coordinator.core.definition import Plan
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import Begun, CancelRequested, Input, InputFailed, OutputKnown, Recovered, Replied, Skipped
from coordinator.core.instants import to_duration, to_timestamp
from coordinator.core.limits import SECOND_NS
from coordinator.core.outstanding import Call, Outstanding, outstanding
from coordinator.core.state import IllegalEvent, Saga, StepRecord, apply
from coordinator.core.turn import record, turn
from coordinator.explore import moves
from coordinator.explore.canonical import Canon, Form, branch
from coordinator.explore.judge import Judge, Violation
from coordinator.explore.moves import HEALTHY, Deed, Flight, Move
from coordinator.explore.truth import Truth, heard
from saga.v1.event_pb2 import SagaCreated, SagaEvent
from saga.v1.types_pb2 import (
    OPERATION_EXECUTE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    STEP_KIND_RESERVABLE,
)

BEGIN_NS: Final = 1_000_000 * SECOND_NS
UNBOUNDED: Final = -1
_STANDS: Final = frozenset((SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED, SAGA_STATE_FAILED))
_CANCEL: Final = CancelRequested("")
_RECOVERED: Final = Recovered()
_INPUT: Final = Any(value=b"input")


class Allowance(NamedTuple):
    """What may still go wrong. `UNBOUNDED` failures: any number of them."""

    crashes: int = 1
    """How often the coordinator dies."""
    cancels: int = 1
    inputs: int = 1
    """How many inputs or conditions fail on the saga's data."""
    failures: int = UNBOUNDED
    """How many moves of any kind may hurt."""


@dataclass(slots=True)
class State:
    """One moment. It never changes once it was made."""

    saga: Saga
    truths: tuple[Truth, ...]
    order: tuple[int, ...]
    """The steps in the order of their first start."""
    now_ns: int
    allowance: Allowance
    out: Outstanding = field(default_factory=Outstanding)
    going_back: bool = False
    """The turning back is journaled."""

    @property
    def stands(self) -> bool:
        """Whether the saga ended or failed."""
        return self.saga.state in _STANDS


class World:
    """All that can happen to sagas of one plan.

    `deeds` restricts what participants can answer. `by_name`: it matters which of several steps that are alike it is.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        barriered: bool = True,
        hold_ns: int = 0,
        deeds: frozenset[Deed] = frozenset(Deed),
        interleaved: bool = True,
        by_name: bool = False,
    ) -> None:
        self.plan = plan
        self._barriered = barriered
        self._hold_ns = hold_ns
        self._deeds = deeds
        self._interleaved = interleaved
        self._canon = Canon(plan, by_name=by_name)
        self._judge = Judge(plan, barriered=barriered)
        self.trying = Move(Deed.START)
        """The move that is being tried: where a Violation comes out of this, the one that led to it."""
        self._index = {step.name: step.index for step in plan.steps}

    def beginnings(self, allowance: Allowance) -> Iterator[tuple[Move, State]]:
        """The saga has just been started."""
        timeout = to_duration(self.plan.timeout_ns) if self.plan.timeout_ns is not None else None
        created = SagaCreated(uid="uid", definition=self.plan.name, version=self.plan.version, timeout=timeout)
        saga = Saga("saga", self.plan)
        apply(saga, SagaEvent(sequence=1, time=to_timestamp(BEGIN_NS), saga_created=created))
        state = State(saga, (Truth(),) * len(self.plan.steps), (), BEGIN_NS, allowance)
        yield from self._turns(state, Move(Deed.START), None)

    def form(self, state: State) -> Form:
        """By what the state is known again."""
        return self._canon.form(state.saga, state.truths, state.now_ns, state.allowance)

    def following(self, state: State) -> Iterator[tuple[Move, State]]:
        """Every move that is possible, and the state it leads to. Violation where it breaks a guarantee."""
        if state.stands:
            return
        flights = list(self.flights(state))
        for flight in flights if self._interleaved else flights[:1]:
            yield from self._answers(state, flight)
        yield from self._landings(state)
        yield from self._time_passes(state, flights)
        if state.allowance.cancels and not state.going_back:
            yield from self._cancel(state)
        if state.allowance.crashes and state.allowance.failures:
            yield from self._turns(self._crashed(state), Move(Deed.CRASH), _RECOVERED)

    def flights(self, state: State) -> Iterator[Flight]:
        """The calls and polls that are in flight."""
        for index, truth in enumerate(state.truths):
            if truth.call:
                yield Flight(index, truth.call, truth.attempt, truth.call_until_ns, poll=False)  # type: ignore[arg-type]  # an enum's value
            if truth.poll_until_ns:
                yield Flight(index, truth.poll, truth.attempt, truth.poll_until_ns, poll=True)  # type: ignore[arg-type]  # an enum's value

    # --- Moves ---

    def _answers(self, state: State, flight: Flight) -> Iterator[tuple[Move, State]]:
        truth, kind = state.truths[flight.step], self.plan.steps[flight.step].kind
        for deed in moves.replies(flight, kind, truth, self._barriered):
            if deed is Deed.LOSE and self.plan.steps[flight.step].in_process:
                continue  # there is no connection
            if deed not in self._deeds or (deed not in HEALTHY and not state.allowance.failures):
                continue
            after, reply = moves.answer(flight, deed, kind, truth, self._barriered, state.now_ns, self._hold(flight))
            given = Replied(self.plan.steps[flight.step].name, flight.operation, flight.attempt, reply)
            answered = self._changed(state, flight.step, after, deed)
            move = Move(deed, flight.step, flight.operation)
            yield from self._turns(answered, move, given)
            if answered.allowance.crashes and answered.allowance.failures:
                self.trying = move._replace(stopping=True)
                stopped = self._advance(answered, given, _Data("", 0), stopping=True)
                yield from self._turns(self._crashed(stopped), move._replace(stopping=True), _RECOVERED)

    def _hold(self, flight: Flight) -> int:
        return self._hold_ns if self.plan.steps[flight.step].kind == STEP_KIND_RESERVABLE else 0

    def _landings(self, state: State) -> Iterator[tuple[Move, State]]:
        """An Execute takes effect, and nobody hears of it, or not yet."""
        at_work = [index for index, truth in enumerate(state.truths) if truth.at_work(state.now_ns)]
        for index in at_work if self._interleaved else at_work[:1]:
            truth, kind = state.truths[index], self.plan.steps[index].kind
            if moves.can_land(kind, truth, self._barriered):
                after = self._changed(state, index, truth._replace(effect=True), Deed.LAND)
                after.out, after.going_back = state.out, state.going_back
                yield Move(Deed.LAND, index), after

    def _time_passes(self, state: State, flights: Sequence[Flight]) -> Iterator[tuple[Move, State]]:
        if flights and (Deed.SLOW not in self._deeds or not state.allowance.failures):
            return
        instants = [flight.deadline_ns for flight in flights]
        instants += [truth.poll_at_ns for truth in state.truths if truth.poll_at_ns]
        instants += [state.out.wake_ns] if state.out.wake_ns is not None else []
        after = self._changed(state, None, None, Deed.SLOW if flights else Deed.TICK)
        after.now_ns = max(min(instants), state.now_ns)
        expired = [flight for flight in flights if flight.deadline_ns <= after.now_ns]
        move = Move(Deed.TICK)
        if expired:
            move = Move(Deed.SLOW, expired[0].step, expired[0].operation)
        elif flights:
            move = Move(Deed.SLOW)
        self.trying = move
        for flight in expired:
            over = self._changed(after, flight.step, moves.over(flight, after.truths[flight.step]), Deed.TICK)
            name = self.plan.steps[flight.step].name
            given = Replied(name, flight.operation, flight.attempt, moves.TIMED_OUT)
            after = self._advance(over, given, _Data("", 0))
            self._dispatch(after)
        after.truths = tuple(_poll_if_due(truth, after.now_ns, self.plan, i) for i, truth in enumerate(after.truths))
        yield from self._turns(after, move, None)

    def _cancel(self, state: State) -> Iterator[tuple[Move, State]]:
        allowance = state.allowance._replace(cancels=state.allowance.cancels - 1)
        before = State(state.saga, state.truths, state.order, state.now_ns, allowance)
        try:
            yield from self._turns(before, Move(Deed.CANCEL), _CANCEL)
        except Forbidden as forbidden:
            if not self._judge.committed(state.truths):
                raise Violation("G6", f"a cancel is refused where the saga can go back: {forbidden}") from None

    def _crashed(self, state: State) -> State:
        """Nobody awaits anything any more."""
        truths = list(state.truths)
        for flight in self.flights(state):
            gives_up = moves.over if self.plan.steps[flight.step].in_process else moves.abandon
            truths[flight.step] = gives_up(flight, truths[flight.step])
        truths = [truth._replace(poll=0, poll_at_ns=0, poll_until_ns=0) for truth in truths]
        allowance = _spent(state.allowance, Deed.CRASH)._replace(crashes=state.allowance.crashes - 1)
        return State(state.saga, tuple(truths), state.order, state.now_ns, allowance, going_back=state.going_back)

    def _changed(self, state: State, index: int | None, truth: Truth | None, deed: Deed) -> State:
        """The same moment, with one step's side of the world as it is now."""
        truths = state.truths
        if index is not None and truth is not None:
            truths = (*truths[:index], truth, *truths[index + 1 :])
        allowance = _spent(state.allowance, deed)
        return State(state.saga, truths, state.order, state.now_ns, allowance, going_back=state.going_back)

    # --- Turns ---

    def _turns(self, state: State, move: Move, given: Input | None) -> Iterator[tuple[Move, State]]:
        """What the coordinator makes of it, for all that the saga's data may turn out to be."""
        self.trying = move
        told = [""]
        while told:
            data = _Data(told.pop(), state.allowance.inputs)
            after = self._advance(state, given, data)
            if "f" in data.told:
                after.allowance = after.allowance._replace(inputs=after.allowance.inputs - data.told.count("f"))
            told += data.others()
            self._dispatch(after)
            yield move._replace(told=data.told, asked=tuple(data.asked)), after

    def _advance(self, state: State, given: Input | None, data: _Data, *, stopping: bool = False) -> State:
        """One turn of the core, its events judged one by one; `stopping`: only what was given is recorded."""
        saga = branch(state.saga)
        polled = self._polled(state)
        try:
            if stopping:
                events = record(saga, given, state.now_ns, polled).events
            else:
                events = turn(saga, given, state.now_ns, data, polled).events
        except IllegalEvent as illegal:
            raise Violation("G12", f"the core contradicts itself: {illegal}") from None
        after = State(
            saga, state.truths, state.order, state.now_ns, state.allowance, state.out, going_back=state.going_back
        )
        truths = list(state.truths)
        for event in events:
            self._hear(after, truths, event)
        after.truths = tuple(truths)
        return after

    def _hear(self, state: State, truths: list[Truth], event: SagaEvent) -> None:
        name = event.WhichOneof("event") or ""
        if name == "compensation_started":
            self._judge.turned_back(truths)
            state.going_back = True
            return
        step = getattr(getattr(event, name), "step", None)
        if step is None:
            return
        index = self._index[step]
        if name == "attempt_started":
            operation = event.attempt_started.operation
            self._judge.sent(index, operation, truths, state.order, state.now_ns, going_back=state.going_back)
            if operation == OPERATION_EXECUTE and not truths[index].begun:
                state.order = (*state.order, index)
        truths[index] = heard(truths[index], name, event)

    def _dispatch(self, state: State) -> None:
        """The engine's part after a turn: what must be under way is."""
        state.out = out = outstanding(state.saga, state.now_ns, self._polled(state))
        if out.due:
            raise Violation("G3", "a turn ends while something is due")
        truths = list(state.truths)
        for call in out.calls:
            index = self._index[call.step]
            truths[index] = _called(truths[index], call)
        polls = {self._index[poll.step]: poll for poll in out.polls}
        for index, truth in enumerate(truths):
            poll = polls.get(index)
            if poll is None and truth.poll:
                truths[index] = truth._replace(poll_at_ns=0, poll=truth.poll if truth.poll_until_ns else 0)
            elif (
                poll is not None and not truth.poll_until_ns and (not truth.poll_at_ns or truth.poll != poll.operation)
            ):
                truths[index] = truth._replace(
                    poll=poll.operation, attempt=poll.attempt, poll_at_ns=state.now_ns + poll.every_ns
                )
        state.truths = tuple(truths)
        self._judge.waiting(state.saga, truths, out, state.now_ns)

    def _polled(self, state: State) -> dict[str, int]:
        """Of which steps a poll of Execute may be at work, and until when."""
        return {
            self.plan.steps[index].name: truth.poll_until_ns
            for index, truth in enumerate(state.truths)
            if truth.poll_until_ns and truth.poll == OPERATION_EXECUTE
        }


def _called(truth: Truth, call: Call) -> Truth:
    if truth.call == call.operation and truth.attempt == call.attempt:
        return truth
    if truth.call:
        raise Violation("G2", f"attempt {call.attempt} of `{call.step}` is sent while another one is in flight")
    return truth._replace(call=call.operation, attempt=call.attempt, call_until_ns=call.deadline_ns)


def _poll_if_due(truth: Truth, now_ns: int, plan: Plan, index: int) -> Truth:
    if not truth.poll_at_ns or truth.poll_at_ns > now_ns:
        return truth
    timeout_ns = plan.steps[index].policies[truth.poll].timeout_ns  # type: ignore[index]  # an enum's value
    return truth._replace(poll_at_ns=0, poll_until_ns=now_ns + timeout_ns)


def _spent(allowance: Allowance, deed: Deed) -> Allowance:
    if deed in HEALTHY or allowance.failures == UNBOUNDED:
        return allowance
    return allowance._replace(failures=allowance.failures - 1)


class _Data:
    """What the saga's data turns out to be: an oracle that is told its answers, and notes which others there were.

    `b`: a step begins, `s`: it is skipped, `f`: its condition or input fails. Where it is told nothing, all is well.
    """

    def __init__(self, told: str, failing_max: int) -> None:
        self.told = ""
        self.asked: list[int] = []
        self._given = told
        self._failing_max = failing_max
        self._options: list[str] = []

    def evaluate(self, saga: Saga, step: StepRecord) -> Begun | Skipped | InputFailed:  # noqa: ARG002  # an Oracle's
        """The next answer."""
        place = len(self.told)
        failing = "f" if self.told.count("f") < self._failing_max else ""
        self._options.append(f"b{'s' if step.plan.conditional else ''}{failing}")
        letter = self._given[place] if place < len(self._given) else "b"
        self.told += letter
        self.asked.append(step.plan.index)
        match letter:
            case "s":
                return Skipped(step.plan.name)
            case "f":
                return InputFailed(step.plan.name, "")
            case _:
                return Begun(step.plan.name, _INPUT)

    def evaluate_output(self, saga: Saga) -> OutputKnown:  # noqa: ARG002  # an Oracle's
        """What the saga's output is makes no difference to where it ends."""
        return OutputKnown()

    def others(self) -> Iterator[str]:
        """What else could have been answered, up to the first answer that differs."""
        for place in range(len(self._given), len(self.told)):
            for letter in self._options[place][1:]:
                yield self.told[:place] + letter
