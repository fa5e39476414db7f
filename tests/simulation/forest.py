"""A coordinator, its clients and its participants, for the property test of the engine.

- `Shop` does what the tape says with every call, and keeps its own record of effects; it outlives the coordinator.
- `Court` judges what becomes durable in that very moment, and every call: saga by saga, and across sagas.
- `Forest` is the life of it all: clients start sagas, things go wrong, the coordinator dies; then everything heals.

What is judged is what participants saw and what was durable, never what the coordinator thinks. A complaint is kept
until somebody looks, because those who could raise it are the coordinator's own tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any as Anything
from typing import Final, TypeVar

from coordinator.core.definition import BUILT_IN, Plan
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, Done, PauseRequested, Reply, ResumeRequested, RetryRequested
from coordinator.core.instants import from_timestamp, to_timestamp
from coordinator.core.limits import SECOND_NS
from coordinator.engine.changes import Changes
from coordinator.engine.definitions import Definitions
from coordinator.engine.engine import Engine, Steering
from coordinator.engine.errors import ShuttingDown
from coordinator.engine.world import Tasks, World
from coordinator.journal.errors import JournalUnavailable, SagaNotFound
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Append
from coordinator.participants.call import Call
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    SAGA_STATE_FAILED,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    Operation,
)
from tests.coordinator.core.judge import Judge, Violation
from tests.coordinator.core.simulation import CHOICES, TIMED_OUT, UNAVAILABLE, Participant
from tests.coordinator.core.test_properties import Tape
from tests.coordinator.core.transcript import describe
from tests.coordinator.engine.bench import descriptions, ns, text
from tests.coordinator.engine.forest_scenes import KEYS, NEWCOMER, Scene, Start, child_text, skipped
from tests.support.virtual_time import LoopClock, settled

T = TypeVar("T")

HEALED_ROUNDS_MAX: Final = 200
ROUND_S: Final = 30

# How a call goes; the effect of one that is lost or slow comes later than its caller hopes. "done" is likely, so that
# sagas get far before they fail.
ANSWERS: Final = ["done"] * 20 + ["refused", "pending", "lost, with effect", "slow, with effect", "slow", *CHOICES]
ANSWERS_TO_LAST_WORDS: Final = [each for each in ANSWERS if each != "refused"] * 2 + ["refused"]
"""To Compensate and Confirm: a refusal calls for an operator, and most sagas should end without one."""
# When a participant does what it does, as a share of the time that the call has.
MOMENTS: Final = [0.0] * 6 + [0.02, 0.1, 0.3, 0.6, 0.9]

DEEDS: Final = [
    *["nothing"],
    *["cancel", "cancel a child"] * 2,
    *["pause", "resume"] * 2,
    *["retry"] * 2,
    *["crash", "crash", "crash before it is durable", "restart"],
    *["the journal fails", "the journal fails and is durable", "the journal is slow"] * 2,
]
_WISHES: Final[Mapping[str, CancelRequested | Steering]] = {
    "cancel": CancelRequested("as the tape says"),
    "cancel a child": CancelRequested("as the tape says"),
    "pause": PauseRequested("as the tape says"),
    "resume": ResumeRequested("as the tape says"),
    "retry": RetryRequested("as the tape says"),
}
PAUSES_S: Final = [0, 0, 0, 0.1, 0.3, 1, 1, 2, 4, 15]


def lineage(saga_id: str) -> Iterator[str]:
    """The saga, and those above it."""
    while saga_id:
        yield saga_id
        saga_id = parent_of(saga_id)


def parent_of(saga_id: str) -> str:
    return saga_id.rpartition("/")[0]


def root_of(saga_id: str) -> str:
    return saga_id.partition("/")[0]


class Genealogy:
    """Which definition and which input a saga has: it follows from its id."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._plans = {each.name: Plan(each) for each in scene.definitions}
        self._known = {start.saga_id: (self._plans[start.definition], start.text) for start in scene.starts}

    def plan(self, saga_id: str) -> Plan:
        return self._of(saga_id)[0]

    def text(self, saga_id: str) -> str:
        return self._of(saga_id)[1]

    def keys(self, saga_id: str) -> frozenset[str]:
        plan, its_text = self._of(saga_id)
        return frozenset(KEYS[key](its_text) for key in plan.definition.exclusive_keys)

    def _of(self, saga_id: str) -> tuple[Plan, str]:
        if saga_id not in self._known:
            plan, its_text = self._of(parent_of(saga_id))
            step = plan.definition.steps[plan.step(saga_id.rpartition("/")[2]).index]
            self._known[saga_id] = (self._plans[step.action], child_text(step, its_text))
        return self._known[saga_id]

    def barriered(self, saga_id: str) -> frozenset[str]:
        """The steps whose refusals cover earlier attempts."""
        plan = self.plan(saga_id)
        return frozenset(
            step.name
            for step in plan.steps
            if step.participant == BUILT_IN or (plan.name, step.name) in self.scene.barriered
        )


# --- What participants do ---------------------------------------------------------------------------------------------


class Shop:
    """All participants. What they did stays done, whatever becomes of the coordinator."""

    def __init__(self, family: Genealogy, tape: Tape, clock: LoopClock) -> None:
        self._family = family
        self._tape = tape
        self._clock = clock
        self._works: set[asyncio.Task[Reply]] = set()
        self._executing: dict[int, tuple[str, str, float]] = {}
        """Of each Execute call that may be at work the saga, the step, and until when in nanoseconds."""
        self._calls = 0
        self.rows: dict[tuple[str, str], Participant] = {}
        """By saga and step."""
        self.called = asyncio.Event()
        self.last_words_refused: set[str] = set()
        """The sagas of which a Compensate or a Confirm was refused."""
        self.healed = False

    def at_work(self, saga_id: str) -> list[str]:
        """The steps of which an Execute may be at work."""
        now_ns = self._clock.now_ns()
        return [step for owner, step, until_ns in self._executing.values() if owner == saga_id and now_ns < until_ns]

    async def call(self, call: Call) -> Reply:
        """Answer as the tape says. The work goes on when nobody waits for it any more."""
        self._calls += 1
        self.called.set()
        choice = "done" if self.healed else self._tape.pick(_answers(call.operation))
        share = 0.0 if self.healed else self._tape.pick(MOMENTS)
        if call.operation == OPERATION_EXECUTE:
            until_ns = self._clock.now_ns() + call.timeout_ns if _unanswered(choice) else float("inf")
            self._executing[self._calls] = (call.context.saga_id, call.context.step, until_ns)
        work = asyncio.get_running_loop().create_task(self._work(call, choice, share, self._calls))
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        if "lost" in choice:
            return UNAVAILABLE
        reply = await asyncio.shield(work)
        if "slow" in choice:
            await asyncio.sleep((1 - share) * call.timeout_ns / SECOND_NS)
            return TIMED_OUT
        return reply

    async def _work(self, call: Call, choice: str, share: float, number: int) -> Reply:
        if share:
            await asyncio.sleep(share * call.timeout_ns / SECOND_NS)
        reply = self._answer(call, _AT_THE_PARTICIPANT.get(choice, choice))
        if not _unanswered(choice):
            self._executing.pop(number, None)
        return reply

    def _answer(self, call: Call, choice: str) -> Reply:
        place = (call.context.saga_id, call.context.step)
        row = self._row(*place)
        if call.operation == OPERATION_EXECUTE:
            reply = row.execute(call.context.attempt, choice, self._clock.now_ns())
            return replace(reply, output=text("out")) if isinstance(reply, Done) else reply
        if choice == "refused":
            self.last_words_refused.add(call.context.saga_id)
        return row.compensate(choice) if call.operation == OPERATION_COMPENSATE else row.confirm(choice)

    def _row(self, saga_id: str, step: str) -> Participant:
        if (saga_id, step) not in self.rows:
            hold_ns = self._family.scene.holds_ns.get((self._family.plan(saga_id).name, step))
            self.rows[saga_id, step] = Participant(step in self._family.barriered(saga_id), hold_ns)
        return self.rows[saga_id, step]


def _answers(operation: Operation.ValueType) -> list[str]:
    return ANSWERS if operation == OPERATION_EXECUTE else ANSWERS_TO_LAST_WORDS


def _unanswered(choice: str) -> bool:
    return "lost" in choice or "slow" in choice


_AT_THE_PARTICIPANT: Final = {
    "slow": "connection lost",
    "slow, with effect": "aborted, with effect",
    "lost, with effect": "aborted, with effect",
}


# --- What is judged ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Record:
    """What the court knows of a saga."""

    judge: Judge
    arrival_ns: int
    created_at: int
    started: bool = False
    ended: bool = False
    turned_back: bool = False
    ever_paused: bool = False


class Court:
    """Judges what becomes durable, and the calls, in their order."""

    def __init__(self, family: Genealogy, shop: Shop) -> None:
        self.complaints: list[Exception] = []
        self.sagas: dict[str, _Record] = {}
        self.story: list[str] = []
        self._family = family
        self._shop = shop
        self._moment = 0
        self._holders: dict[str, set[str]] = {}
        """The sagas on whose behalf calls were made under a key, until their root has ended."""
        self._acknowledged: dict[str, int] = {}

    def take(self, events: list[SagaEvent]) -> None:
        """These are durable now."""
        for event in events:
            self._judged(partial(self._event, event))

    def call(self, call: Call) -> None:
        """That call is being made."""
        self._judged(partial(self._call, call))

    def acknowledged(self, saga_id: str) -> None:
        """Its client knows that the saga was started."""
        self._moment += 1
        self._acknowledged[saga_id] = self._moment

    def complain(self, complaint: Exception) -> None:
        self.story.append(f"!!! {complaint}")
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
        self.story.append(f"{from_timestamp(event.time) % 10**12 / 1e9:8.3f} {saga_id:16} {describe(event)}")
        if name == "saga_created":
            self._created(event)
        record = self.sagas[saga_id]
        record.judge.take(event, self._shop.at_work(saga_id))
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
        judge = Judge(plan, self._family.barriered(saga_id), child=is_child)
        arrival_ns = from_timestamp(created.start_time if created.HasField("start_time") else event.time)
        self.sagas[saga_id] = _Record(judge, arrival_ns, self._moment)
        if created.definition != plan.name or (created.parent.saga_id if is_child else "") != parent_of(saga_id):
            raise Violation(f"`{saga_id}` is not what was asked for")

    def _check_order(self, saga_id: str, record: _Record) -> None:
        """Rule 6: a root does not pass one that waited for a common key before it came."""
        if "/" in saga_id:
            return
        for other_id, other in self.sagas.items():
            waits = not (other.started or other.ended or other.turned_back or other.ever_paused or "/" in other_id)
            before = self._acknowledged.get(other_id, self._moment) < record.created_at
            at_once = other.arrival_ns < record.arrival_ns and other.arrival_ns == _created_ns(other)
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
        context = call.context
        word = Operation.Name(call.operation).removeprefix("OPERATION_").lower()
        self.story.append(f"{'':8} {context.saga_id:16} calls {context.step} {word} {context.attempt}")
        record = self.sagas[context.saga_id]
        attempts = record.judge.happened("attempt_started", context.step, call.operation)
        if context.attempt > len(attempts):
            raise Violation(f"G1: {context.saga_id} calls `{context.step}` before that is durable")
        uid = record.judge.happened("saga_created")[0].uid
        if context.idempotency_key != f"{uid}/{context.step}/{word}":
            raise Violation(f"G2: `{context.idempotency_key}` is not the key of the step")
        row = self._shop.rows.get((context.saga_id, context.step))
        if row is not None and row.confirmed and call.operation == OPERATION_COMPENSATE:
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

    # --- The end ---

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
        for (saga_id, step), row in self._shop.rows.items():
            effectful = root_of(saga_id) == root and self._family.plan(saga_id).step(step).kind != STEP_KIND_READ_ONLY
            if effectful and (row.effect or row.confirmed):
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
            row = self._shop.rows.get((saga_id, step.name))
            if left_out != (row is None or not row.effect) or (left_out and f"{saga_id}/{step.name}" in self.sagas):
                raise Violation(f"G6: {saga_id} is COMPLETED, and `{step.name}` {'' if left_out else 'not '}done")
            if row is not None and row.confirmed != (step.kind == STEP_KIND_RESERVABLE):
                raise Violation(f"{saga_id} is COMPLETED, and its hold `{step.name}` not confirmed")


def _created_ns(record: _Record) -> int:
    return from_timestamp(record.judge.events[0].time)


class Ledger(MemoryJournal):
    """A journal whose court sees what becomes durable when it does."""

    def __init__(self, court: Court) -> None:
        super().__init__()
        self._court = court

    def reopen(self) -> Ledger:
        successor = Ledger(self._court)
        successor._content = super().reopen()._content
        return successor

    def _apply(self, append: Append, bodies: list[bytes]) -> None:
        super()._apply(append, bodies)
        self._court.take([SagaEvent.FromString(event.SerializeToString()) for event in append.events])


# --- Its life ---------------------------------------------------------------------------------------------------------


class Gone(Exception):
    """The coordinator died before it answered."""


class _Defects(logging.Handler):
    """What the coordinator logs as an error is a complaint: nothing here should lead to one."""

    def __init__(self, court: Court) -> None:
        super().__init__(logging.ERROR)
        self._court = court

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._court.complain(Violation(f"rule 11: {record.getMessage()}: {error!r}"))


class Forest:
    """Clients, participants, and one coordinator after the other."""

    def __init__(self, scene: Scene, answers: Tape, deeds: Tape) -> None:
        self._scene = scene
        self._deeds = deeds
        self._clock = LoopClock()
        self._random = Random(0)
        family = Genealogy(scene)
        self._shop = Shop(family, answers, self._clock)
        self.court = Court(family, self._shop)
        self._journal = Ledger(self.court)
        self._tasks: set[asyncio.Task[Anything]] = set()
        self._up = asyncio.Event()
        self._boot()

    async def play(self) -> None:
        """The whole life of the forest."""
        defects, log = _Defects(self.court), logging.getLogger("coordinator")
        log.addHandler(defects)
        try:
            await self._open()
            for definition in self._scene.definitions:
                await self._definitions.register(definition)
            clients = [self._spawn(self._client(start)) for start in self._scene.starts if start.saga_id != NEWCOMER]
            while self._deeds:
                await self._moment()
                await self._do(self._deeds.pick(DEEDS))
                self._look()
            await self._heal()
            await asyncio.gather(*clients)
            self.court.check_end()
        finally:
            log.removeHandler(defects)
            for task in self._tasks:
                task.cancel()
            await self._engine.close()

    async def call(self, call: Call) -> Reply:
        """A participant is called."""
        self.court.call(call)
        return await self._shop.call(call)

    def _look(self) -> None:
        if self.court.complaints:
            raise self.court.complaints[0]

    # --- The coordinator ---

    def _boot(self) -> None:
        world = World(self._journal, self, self._clock, Changes(), Tasks(), self._random.random)
        self._definitions = Definitions(self._journal, descriptions, self._clock)
        self._engine = Engine(world, self._definitions)
        self._dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._draining = False

    async def _open(self) -> None:
        await self._engine.open()
        self._up.set()
        self._recovery = self._spawn(self._engine.recover())

    async def _crash(self) -> None:
        """Everything that is not durable is lost."""
        self.court.story.append("--- crash")
        self._up.clear()
        self._draining = True
        self._journal = self._journal.reopen()
        self._recovery.cancel()
        await self._engine.close()
        self._dead.set_result(None)
        self._boot()
        await self._open()

    async def _restart(self) -> None:
        """It stops in good order, as far as time allows."""
        self._draining = True
        await self._engine.drain(self._deeds.pick([5, 0.5]))
        await self._crash()

    async def _ask(self, ask: Callable[[Engine], Awaitable[T]]) -> T:
        """Gone where it dies before it answers."""
        await self._up.wait()
        dead = self._dead
        asked = asyncio.ensure_future(ask(self._engine))
        waited_for: set[asyncio.Future[Anything]] = {asked, dead}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        if not dead.done() and not asked.cancelled():
            return asked.result()
        asked.cancel()
        await asyncio.wait({asked})
        raise Gone

    # --- Clients and operators ---

    async def _client(self, start: Start) -> None:
        """Start a saga, however often that must be asked for."""
        await asyncio.sleep(start.at_s)
        request = StartSagaRequest(saga_id=start.saga_id, definition=start.definition, input=text(start.text))
        if start.delay_s:
            request.start_time.CopyFrom(to_timestamp(self._clock.now_ns() + ns(start.delay_s)))
        while True:
            try:
                await self._ask(lambda engine: engine.start(request))
            except (JournalUnavailable, ShuttingDown, Gone):
                await asyncio.sleep(0.3)
            else:
                self.court.acknowledged(start.saga_id)
                return

    async def _ask_for(self, saga_id: str, wish: CancelRequested | Steering) -> None:
        """Whether it is done is not certain: it may be forbidden, or the journal or the coordinator may fail."""
        try:
            if isinstance(wish, CancelRequested):
                await self._ask(lambda engine: engine.cancel(saga_id, wish))
            else:
                await self._ask(lambda engine: engine.steer(saga_id, wish))
        except (Forbidden, JournalUnavailable, SagaNotFound, Gone):
            pass
        except ShuttingDown as error:
            if not self._draining:
                self.court.complain(error)
        except Exception as error:  # nothing else is an answer
            self.court.complain(error)

    # --- What goes wrong ---

    async def _moment(self) -> None:
        """Let time pass, or wait for the next call; and then let the event loop take some steps, but no time."""
        length_s = self._deeds.pick(PAUSES_S)
        if self._deeds.pick([False, True]):
            self._shop.called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(length_s or 1):
                    await self._shop.called.wait()
        else:
            await asyncio.sleep(length_s)
        for _ in range(self._deeds.pick(range(12))):
            await asyncio.sleep(0)

    async def _do(self, deed: str) -> None:
        self.court.story.append(f"--- {deed}")
        match deed:
            case "cancel" | "cancel a child" | "pause" | "resume" | "retry":
                self._meddle(deed)
            case "crash":
                await self._crash()
            case "crash before it is durable":
                self._journal.hold()
                await self._moment()
                await self._crash()
            case "restart":
                await self._restart()
            case "the journal is slow":
                self._journal.hold()
                length_s = self._deeds.pick([0.1, 2, 12])
                asyncio.get_running_loop().call_later(length_s, self._journal.release)
            case "the journal fails" | "the journal fails and is durable":
                self._journal.fail_next(self._deeds.pick([1, 2, 3]), durable="durable" in deed)

    def _meddle(self, deed: str) -> None:
        candidates = [each for each in self.court.sagas if ("/" in each) >= (deed == "cancel a child")]
        if candidates:
            saga_id = self._deeds.pick(candidates)
            self.court.story[-1] += f" {saga_id}"
            self._spawn(self._ask_for(saga_id, _WISHES[deed]))

    # --- And then all goes well ---

    async def _heal(self) -> None:
        self.court.story.append("--- from here on all goes well")
        self._shop.healed = True
        self._journal.release()
        for _ in range(HEALED_ROUNDS_MAX):
            await asyncio.sleep(ROUND_S)
            self._look()
            if not await self._help():
                break
        else:
            raise Violation("G3: not all sagas end")
        await self._check_a_newcomer_gets_every_key()
        await self._recovery
        if self._engine.unfinished:
            raise Violation(f"{self._engine.unfinished} sagas are driven, and all have ended")

    async def _help(self) -> bool:
        """An operator resumes what is paused, and retries what stands FAILED; whether anything is unfinished."""
        page = await self._journal.unfinished(None, 10_000)
        for index in page.items:
            if index.state == SAGA_STATE_FAILED:
                self._check_failed(index.saga_id, stated=index.failure is not None and index.needs_attention)
                await self._ask_for(index.saga_id, _WISHES["retry"])
            if index.paused:
                await self._ask_for(index.saga_id, _WISHES["resume"])
        started = len(self.court.sagas.keys() & {start.saga_id for start in self._scene.starts})
        return bool(page.items) or started < len(self._scene.starts) - 1

    def _check_failed(self, saga_id: str, *, stated: bool) -> None:
        if not stated or saga_id not in self._shop.last_words_refused:
            raise Violation(f"G7: `{saga_id}` stands FAILED without a reason")

    async def _check_a_newcomer_gets_every_key(self) -> None:
        """G3: nobody holds a key when all sagas have ended."""
        start = self._scene.starts[-1]
        await self._client(start)
        async with asyncio.timeout(60):
            await self._engine.wait(start.saga_id, 5)
        if not self.court.sagas[start.saga_id].ended:
            blocked = self._engine.blocked(start.saga_id)
            raise Violation(f"G3: all sagas have ended, and a newcomer waits: {blocked}")
        await settled()
        self._look()

    def _spawn(self, work: Anything) -> asyncio.Task[Anything]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
