"""Judges what becomes durable, every call, and every line of the participants' effect logs, in that very moment.

What is judged is what participants did and what was durable, never what the coordinator thinks. A complaint is kept
until somebody looks, because those who could raise it are the coordinator's own tasks. Everything that was seen is
also the run's transcript. This module must not make anything happen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from coordinator.core.definition import BUILT_IN
from coordinator.core.instants import from_timestamp
from coordinator.participants.call import Call
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    Operation,
)
from tests.coordinator.core.judge import Judge, Violation
from tests.coordinator.core.transcript import describe
from tests.simulation.genealogy import Genealogy, lineage, parent_of, root_of
from tests.simulation.participants import ACCEPTED, CANCELLED, COMPENSATED, CONFIRMED, EFFECT, REFUSED, Entry
from tests.simulation.scenes import skipped
from tests.support.virtual_time import elapsed_s

_WORDS: Final = {OPERATION_EXECUTE: "execute", OPERATION_COMPENSATE: "compensate", OPERATION_CONFIRM: "confirm"}


@dataclass(slots=True)
class Record:
    """What the court knows of a saga."""

    judge: Judge
    uid: str
    arrival_ns: int
    created_ns: int
    created_at: int
    started: bool = False
    ended: bool = False
    turned_back: bool = False
    ever_paused: bool = False


class Court:
    """Judges what becomes durable, the calls and the effects, in their order."""

    def __init__(self, family: Genealogy, at_work: Callable[[str], Sequence[str]]) -> None:
        self.complaints: list[Exception] = []
        self.sagas: dict[str, Record] = {}
        self.effects: dict[tuple[str, str], str] = {}
        """Of each saga and step the last line in the effect logs."""
        self.last_words_refused: set[str] = set()
        """The sagas of which a Compensate or a Confirm was refused."""
        self._family = family
        self._at_work = at_work
        self._story: list[tuple[float, str | SagaEvent]] = []
        self._moment = 0
        self._holders: dict[str, set[str]] = {}
        """The sagas on whose behalf calls were made under a key, until their root has ended."""
        self._acknowledged: dict[str, int] = {}

    def note(self, line: str) -> None:
        """That happens now."""
        self._story.append((elapsed_s(), line))

    def transcript(self) -> str:
        """All that happened, a line each, with its time in seconds."""
        lines = (
            (at_s, what if isinstance(what, str) else f"{what.saga_id:16} {describe(what)}")
            for at_s, what in self._story
        )
        return "\n".join(f"{at_s:10.3f} {line}" for at_s, line in lines)

    def take(self, events: list[SagaEvent]) -> None:
        """These are durable now."""
        for event in events:
            self._judged(partial(self._event, event))

    def call(self, call: Call) -> None:
        """That call is being made."""
        self._judged(partial(self._call, call))

    def effect(self, entry: Entry) -> None:
        """A participant did that."""
        self._judged(partial(self._effect, entry))

    def acknowledged(self, saga_id: str) -> None:
        """Its client knows that the saga was started (G1, G3)."""
        self._moment += 1
        self._acknowledged[saga_id] = self._moment
        if saga_id not in self.sagas:
            self.complain(Violation(f"G3: the start of `{saga_id}` is acknowledged, and it is not durable"))

    def complain(self, complaint: Exception) -> None:
        self.note(f"!!! {complaint!r}")
        self.complaints.append(complaint)

    def _judged(self, judge: Callable[[], None]) -> None:
        self._moment += 1
        try:
            judge()
        except Exception as complaint:  # it must not get lost in the coordinator
            self.complain(complaint)

    # --- What is durable ---

    def _event(self, event: SagaEvent) -> None:
        saga_id, name = event.saga_id, event.WhichOneof("event")
        self._story.append((elapsed_s(), event))
        if name == "saga_created":
            self._created(event)
        record = self.sagas[saga_id]
        record.judge.take(event, self._at_work(saga_id))
        match name:
            case "saga_started":
                self._check_order(saga_id, record)
                record.started = True
            case "saga_paused":
                record.ever_paused = True
            case "compensation_started":
                record.turned_back, record.ended = True, False
            case "saga_completed" | "saga_compensated":
                record.ended = True
                self._check_nobody_is_left(saga_id)
                self._let_go(root_of(saga_id))

    def _created(self, event: SagaEvent) -> None:
        saga_id, created = event.saga_id, event.saga_created
        plan, is_child = self._family.plan(saga_id), "/" in saga_id
        if saga_id in self.sagas:
            raise Violation(f"G10: `{saga_id}` is created twice")
        judge = Judge(plan, self._family.barriered(saga_id), child=is_child)
        created_ns = from_timestamp(event.time)
        arrival_ns = from_timestamp(created.start_time) if created.HasField("start_time") else created_ns
        self.sagas[saga_id] = Record(judge, created.uid, arrival_ns, created_ns, self._moment)
        if created.definition != plan.name or (created.parent.saga_id if is_child else "") != parent_of(saga_id):
            raise Violation(f"`{saga_id}` is not what was asked for")

    def _check_order(self, saga_id: str, record: Record) -> None:
        """Rule 6: a root does not pass one that waited for a common key before it came."""
        if "/" in saga_id:
            return
        for other_id, other in self.sagas.items():
            waits = not (other.started or other.ended or other.turned_back or other.ever_paused or "/" in other_id)
            before = self._acknowledged.get(other_id, self._moment) < record.created_at
            at_once = other.arrival_ns < record.arrival_ns and other.arrival_ns == other.created_ns
            if waits and before and at_once and self._family.keys(other_id) & self._family.keys(saga_id):
                raise Violation(f"rule 6: `{saga_id}` passes `{other_id}`, which came before it")

    def _check_nobody_is_left(self, saga_id: str) -> None:
        """G3: what ends has nobody below it who goes on."""
        for child_id, child in self.sagas.items():
            if child_id.startswith(f"{saga_id}/") and not child.ended:
                raise Violation(f"G3: `{saga_id}` has ended, and `{child_id}` has not")

    def _let_go(self, root: str) -> None:
        if self.sagas[root].ended:
            for holders in self._holders.values():
                holders -= {each for each in holders if root_of(each) == root}

    # --- Calls ---

    def _call(self, call: Call) -> None:
        context, word = call.context, _WORDS[call.operation]
        self.note(f"{context.saga_id:16} calls {context.step} {word} {context.attempt}")
        record = self.sagas.get(context.saga_id)
        if record is None:
            raise Violation(f"G1: {context.saga_id} calls `{context.step}`, and is not durable")
        attempts = record.judge.happened("attempt_started", context.step, call.operation)
        if context.attempt > len(attempts):
            raise Violation(f"G1: {context.saga_id} calls `{context.step}` before that is durable")
        if context.idempotency_key != f"{record.uid}/{context.step}/{word}" or context.saga_uid != record.uid:
            raise Violation(f"G2: `{context.idempotency_key}` is not the key of the step")
        confirmed = self.effects.get((context.saga_id, context.step)) == CONFIRMED
        if confirmed and call.operation == OPERATION_COMPENSATE:
            raise Violation(f"G6: `{context.step}` of {context.saga_id} was confirmed and is compensated")
        self._check_keys(context.saga_id)

    def _check_keys(self, saga_id: str) -> None:
        """Rule 6: nothing is called under a key that another root has."""
        root = root_of(saga_id)
        for each in lineage(saga_id):
            for key in self._family.keys(each):
                holders = self._holders.setdefault(key, set())
                holders.add(each)
                if others := sorted(other for other in holders if root_of(other) != root):
                    raise Violation(f"rule 6: `{saga_id}` runs under `{key}`, and so does `{others[0]}`")

    # --- Effects ---

    def _effect(self, entry: Entry) -> None:
        self.note(f"{entry.saga_id:16} {entry.participant} writes {entry.step} {entry.what}")
        place = (entry.saga_id, entry.step)
        before = self.effects.get(place)
        if entry.what in (ACCEPTED, REFUSED):
            return
        self.effects[place] = entry.what
        record = self.sagas.get(entry.saga_id)
        if record is None or not record.judge.happened("attempt_started", entry.step):
            raise Violation(f"G1: `{entry.step}` of {entry.saga_id} takes effect, and no attempt of it is durable")
        match entry.what:
            case w if w == EFFECT:
                self._check_effect(entry, record, before)
            case w if w == COMPENSATED:
                self._check_compensated(entry, record, before)
            case w if w == CONFIRMED and before != EFFECT:
                raise Violation(f"G2: `{entry.step}` of {entry.saga_id} is confirmed, and before it is {before}")

    def _check_effect(self, entry: Entry, record: Record, before: str | None) -> None:
        where = f"`{entry.step}` of {entry.saga_id}"
        if before in (EFFECT, CONFIRMED):
            raise Violation(f"G2: {where} takes effect twice")
        if before in (COMPENSATED, CANCELLED) or record.judge.happened("step_compensated", entry.step):
            raise Violation(f"G8: {where} takes effect after it was compensated")

    def _check_compensated(self, entry: Entry, record: Record, before: str | None) -> None:
        where = f"`{entry.step}` of {entry.saga_id}"
        if before != EFFECT:
            raise Violation(f"G2: {where} is compensated, and before it is {before}")
        if record.judge.committed:
            raise Violation(f"G6: {where} is compensated where the saga cannot go back")

    # --- The end ---

    def check_failed(self, saga_id: str, *, stated: bool) -> None:
        """G3, G7: what stands FAILED has a reason that participants gave, and says so."""
        judge = self.sagas[saga_id].judge
        plan = self._family.plan(saga_id)
        failed, stuck = judge.happened("step_compensation_failed"), judge.happened("step_stuck")
        spent = [plan.step(fact.step).policies[OPERATION_COMPENSATE].attempts_max for fact in failed]
        spent += [plan.step(fact.step).policies[OPERATION_EXECUTE].attempts_max for fact in stuck]
        if not stated or not (any(spent) or saga_id in self.last_words_refused):
            raise Violation(f"G7: `{saga_id}` stands FAILED without a reason")

    def check_end(self) -> None:
        """G3, G4, G6: each root has everything done, or nothing."""
        for start in self._family.scene.starts:
            if self._went_back(start.saga_id):
                self._check_nothing_stands(start.saga_id)
            else:
                self._check_all_stands(start.saga_id)

    def _went_back(self, saga_id: str) -> bool:
        record = self.sagas.get(saga_id)
        if record is None or not record.ended:
            raise Violation(f"G3: `{saga_id}` never ended")
        return bool(record.judge.happened("saga_compensated"))

    def _check_nothing_stands(self, root: str) -> None:
        for (saga_id, step), state in self.effects.items():
            effectful = root_of(saga_id) == root and self._family.plan(saga_id).step(step).kind != STEP_KIND_READ_ONLY
            if effectful and state in (EFFECT, CONFIRMED):
                raise Violation(f"G4: {root} is COMPENSATED, and the effect of `{step}` of {saga_id} stands")
        for child_id, child in self.sagas.items():
            if child_id.startswith(f"{root}/") and not child.judge.happened("saga_compensated"):
                raise Violation(f"G4: {root} is COMPENSATED, and {child_id} is not")

    def _check_all_stands(self, saga_id: str) -> None:
        if self._went_back(saga_id):
            raise Violation(f"G6: {root_of(saga_id)} is COMPLETED, and {saga_id} COMPENSATED")
        plan, its_text = self._family.plan(saga_id), self._family.text(saga_id)
        for step in plan.steps:
            left_out = skipped(plan.definition.steps[step.index], its_text)
            if step.participant == BUILT_IN and not left_out:
                self._check_all_stands(f"{saga_id}/{step.name}")
                continue
            state = self.effects.get((saga_id, step.name))
            if left_out != (state not in (EFFECT, CONFIRMED)) or (left_out and f"{saga_id}/{step.name}" in self.sagas):
                raise Violation(f"G6: {saga_id} is COMPLETED, and `{step.name}` {'' if left_out else 'not '}done")
            if not left_out and (state == CONFIRMED) != (step.kind == STEP_KIND_RESERVABLE):
                raise Violation(f"{saga_id} is COMPLETED, and its hold `{step.name}` not confirmed")


def _line(what: str | SagaEvent) -> str:
    return what if isinstance(what, str) else f"{what.saga_id:16} {describe(what)}"


def operation_name(call: Call) -> str:
    """EXECUTE, COMPENSATE or CONFIRM."""
    return Operation.Name(call.operation).removeprefix("OPERATION_")
