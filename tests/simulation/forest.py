"""One seed's whole life: clients, participants, the network between, and one coordinator after the other.

Clients start sagas, things go wrong, the coordinator dies at any moment; then everything heals, and every saga must
come to an end that can be trusted. The coordinator is the real engine on the journal in memory; its clock is the real
one, over a wall clock and a monotonic clock that this module sets. A run follows from its scene and two tapes, and
those from one number. This module must not judge; that is the court's.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Any as Anything
from typing import ClassVar, Final, TypeVar

from coordinator.core.definition import Problem
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, Done, PauseRequested, Reply, ResumeRequested, RetryRequested
from coordinator.core.instants import to_timestamp
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.engine.changes import Changes
from coordinator.engine.clock import SystemClock
from coordinator.engine.definitions import Definitions
from coordinator.engine.engine import Engine, Steering
from coordinator.engine.errors import ShuttingDown
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.world import Tasks, World
from coordinator.journal.errors import JournalUnavailable, SagaNotFound
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import Append, DefinitionVersion
from coordinator.participants.call import Call
from participant_sdk.errors import CallError
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_FAILED
from tests.coordinator.core.judge import Violation
from tests.coordinator.core.test_properties import Tape
from tests.coordinator.engine.bench import ns, text
from tests.simulation.court import Court
from tests.simulation.genealogy import Genealogy
from tests.simulation.network import Network
from tests.simulation.participants import NAMES, Accepted, described
from tests.simulation.scenes import NEWCOMER, Scene, Start
from tests.support.virtual_time import EPOCH_NS, LoopClock, elapsed_s, settled

T = TypeVar("T")

HEALED_ROUNDS_MAX: Final = 200
ROUND_S: Final = 30

_WISHES: Final[Mapping[str, CancelRequested | Steering]] = {
    "cancel": CancelRequested("as the tape says"),
    "cancel a child": CancelRequested("as the tape says"),
    "pause": PauseRequested("as the tape says"),
    "resume": ResumeRequested("as the tape says"),
    "retry": RetryRequested("as the tape says"),
}
PAUSES_S: Final = (0, 0, 0, 0.1, 0.3, 1, 1, 2, 4, 15)
OUTAGES_S: Final = (0.5, 3, 12, 40)
JUMPS_S: Final = (0.4, 5, 60, 3600, 86_400)
RESTS_AFTER_S: Final = (0, 0, 0.2, 1)
"""How long a saga must be quiet for this coordinator to let it rest."""


class _Clocks:
    """The wall clock and the monotonic clock of the coordinator's machine, which outlive its processes."""

    def __init__(self) -> None:
        self._wrong_by_ns = 0

    def wall_ns(self) -> int:
        return EPOCH_NS + self.monotonic_ns() + self._wrong_by_ns

    def monotonic_ns(self) -> int:
        return round(elapsed_s() * SECOND_NS)

    def jump(self, length_ns: int) -> None:
        self._wrong_by_ns += length_ns


class _Ledger(MemoryJournal):
    """A journal whose court sees what becomes durable when it does; an append can be a coordinator's last deed."""

    def __init__(self, court: Court) -> None:
        super().__init__()
        self._court = court
        self.last_words: Callable[[], None] | None = None
        """Called as soon as the next append is durable, before anybody knows."""

    def reopen(self) -> _Ledger:
        successor = _Ledger(self._court)
        successor._content = super().reopen()._content
        return successor

    def _apply(self, append: Append, bodies: list[bytes]) -> None:
        super()._apply(append, bodies)
        self._court.take([SagaEvent.FromString(event.SerializeToString()) for event in append.events])
        if self.last_words is not None:
            last_words, self.last_words = self.last_words, None
            last_words()


class _FamilyDefinitions(Definitions):
    """Definitions that many scenes have: what checking and compiling them costs is paid once a process.

    Both are functions of the family's number and the definition alone.
    """

    _checked: ClassVar[dict[tuple[int, str], tuple[tuple[Problem, ...], PinnedDefinition | None]]] = {}
    _compiled: ClassVar[dict[tuple[int, str], LoadedDefinition]] = {}
    family: int

    async def _check(self, definition: SagaDefinition) -> tuple[tuple[Problem, ...], PinnedDefinition | None]:
        key = (self.family, definition.name)
        if key not in self._checked:
            self._checked[key] = await super()._check(definition)
        return self._checked[key]

    async def load(self, stored: DefinitionVersion) -> LoadedDefinition:
        key = (self.family, stored.name)
        if key not in self._compiled:
            self._compiled[key] = await super().load(stored)
        return self._compiled[key]


class Gone(Exception):
    """The coordinator died before it answered."""


class _Line:
    """The way from one process of the coordinator to the network; cut when that process dies."""

    def __init__(self, court: Court, network: Network) -> None:
        self.alive = True
        self._court = court
        self._network = network

    async def call(self, call: Call) -> Reply:
        if not self.alive:
            await asyncio.Event().wait()
        self._court.call(call)
        return await self._network.call(call)


class _Defects(logging.Handler):
    """What coordinator and SDK log as an error is a complaint: nothing here should lead to one."""

    def __init__(self, court: Court) -> None:
        super().__init__(logging.ERROR)
        self._court = court

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._court.complain(Violation(f"rule 11: {record.getMessage()}: {error!r}"))


class Forest:
    """Clients, participants, and one coordinator after the other."""

    def __init__(self, scene: Scene, answers: Tape, deeds: Tape, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._scene = scene
        self._deeds = deeds
        self._random = Random(seed)
        self._true_clock = LoopClock()
        self._clocks = _Clocks()
        family = Genealogy(scene)
        self.court = Court(family, lambda saga_id: self._network.at_work(saga_id))
        self._network = Network(family, answers, self._true_clock, self.court, self._accepted)
        self._journal = _Ledger(self.court)
        self._tasks: dict[asyncio.Task[Anything], None] = {}
        self._up = asyncio.Event()
        self._boot()

    async def play(self) -> None:
        """The whole life of the forest."""
        defects = _Defects(self.court)
        logs = [logging.getLogger(name) for name in ("coordinator", "participant_sdk")]
        for log in logs:
            log.addHandler(defects)
        try:
            await self._open()
            for definition in self._scene.definitions:
                await self._definitions.register(definition)
            clients = [self._spawn(self._client(start)) for start in self._scene.starts if start.saga_id != NEWCOMER]
            while self._deeds:
                await self._moment()
                await self._do(self._deeds.pick(self._scene.deeds))
                self._look()
            await self._heal()
            await asyncio.gather(*clients)
            await self._network.drained()
            self.court.check_end()
            self._look()
        finally:
            for log in logs:
                log.removeHandler(defects)
            for task in list(self._tasks):
                task.cancel()
            await self._engine.close()
            self._count()

    def _count(self) -> None:
        self.counts += self._network.counts
        self.counts["sagas"] = len(self.court.sagas)
        self.counts["virtual seconds"] = round(elapsed_s())
        for record in self.court.sagas.values():
            ends = [event.WhichOneof("event") for event in record.judge.events]
            completed = "saga_completed" in ends and "saga_compensated" not in ends
            self.counts[f"sagas: {'completed' if completed else 'compensated'}"] += 1
            self.counts["sagas: failed for a while"] += "saga_failed" in ends

    def _look(self) -> None:
        self.counts["rests"] += self._engine.resting
        if self.court.complaints:
            raise self.court.complaints[0]

    # --- The coordinator ---

    def _boot(self) -> None:
        clock = SystemClock(self._clocks.wall_ns, self._clocks.monotonic_ns)
        self._line = _Line(self.court, self._network)
        world = World(
            self._journal,
            self._line,
            clock,
            Changes(),
            Tasks(),
            self._random.random,
            new_uid=lambda _: self._uid(),
            rest_after_ns=ns(self._random.choice(RESTS_AFTER_S)),
        )
        if self._scene.family is None:
            self._definitions = Definitions(self._journal, described, clock)
        else:
            self._definitions = _FamilyDefinitions(self._journal, described, clock)
            self._definitions.family = self._scene.family
        self._engine = Engine(world, self._definitions)
        self._dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._draining = False
        self._recovery: asyncio.Task[Anything] | None = None

    def _uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128)))

    async def _open(self) -> None:
        await self._engine.open()
        self._up.set()
        self._recovery = self._spawn(self._engine.recover())

    def _die(self) -> None:
        """From here on the process does nothing that anybody sees. Everything that is not durable is lost."""
        if self._dead.done():
            return
        self.court.note("--- the coordinator is dead")
        self.counts["crashes"] += 1
        self._up.clear()
        self._draining = True
        self._line.alive = False
        self._journal = self._journal.reopen()
        self._dead.set_result(None)
        if self._recovery is not None:
            self._recovery.cancel()

    async def _crash(self) -> None:
        self._die()
        await self._engine.close()
        self._boot()
        await self._open()

    async def _crash_while_it_recovers(self) -> None:
        self._die()
        await self._engine.close()
        self._boot()
        opening = self._spawn(self._open())
        for _ in range(self._deeds.pick(range(30))):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait({opening})
        await self._crash()

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
        if not asked.cancelled():
            asked.exception()  # nobody hears of it
        raise Gone

    # --- Clients, operators and participants that report ---

    async def _client(self, start: Start) -> None:
        """Start a saga, however often that must be asked for."""
        await asyncio.sleep(start.at_s)
        request = StartSagaRequest(saga_id=start.saga_id, definition=start.definition, input=text(start.text))
        if start.delay_s:
            request.start_time.CopyFrom(to_timestamp(self._true_clock.now_ns() + ns(start.delay_s)))
        while True:
            try:
                await self._ask(lambda engine: engine.start(request))
            except (JournalUnavailable, ShuttingDown, Gone):
                await asyncio.sleep(0.3)
            else:
                self.court.acknowledged(start.saga_id)
                return

    async def _ask_for(self, saga_id: str, wish: CancelRequested | Steering) -> None:
        if isinstance(wish, CancelRequested):
            await self._try(lambda engine: engine.cancel(saga_id, wish))
        else:
            await self._try(lambda engine: engine.steer(saga_id, wish))

    async def _try(self, ask: Callable[[Engine], Awaitable[None]]) -> None:
        """Whether it is done is not certain: it may be forbidden, or the journal or the coordinator may fail."""
        try:
            await self._ask(ask)
        except (Forbidden, JournalUnavailable, SagaNotFound, Gone):
            pass
        except ShuttingDown as error:
            if not self._draining:
                self.court.complain(error)
        except Exception as error:  # nothing else is an answer
            self.court.complain(error)

    def _accepted(self, accepted: Accepted) -> None:
        self._spawn(self._finish(accepted))

    async def _finish(self, accepted: Accepted) -> None:
        """The participant does what it accepted, and reports it; once only, as its polls say the same."""
        await asyncio.sleep(accepted.after_s)
        if await self._finished(accepted):
            self.counts["reports"] += 1
            self.court.note(f"{accepted.saga_id:16} {accepted.participant.name} reports {accepted.step}")
            reply = Done(output=text("out"))
            await self._try(lambda engine: engine.report(accepted.saga_id, accepted.step, accepted.key, reply))

    async def _finished(self, accepted: Accepted) -> bool:
        """Whether its effect stands; tried again where the participant's database is busy or its process died."""
        while True:
            try:
                return await accepted.participant.finish(accepted.saga_id, accepted.step)
            except CallError:
                await asyncio.sleep(1)

    # --- What goes wrong ---

    async def _moment(self) -> None:
        """Let time pass, or wait for the next call; and then let the event loop take some steps, but no time."""
        length_s = self._deeds.pick(PAUSES_S)
        if self._deeds.pick([False, True]):
            self._network.called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(length_s or 1):
                    await self._network.called.wait()
        else:
            await asyncio.sleep(length_s)
        for _ in range(self._deeds.pick(range(12))):
            await asyncio.sleep(0)

    async def _do(self, deed: str) -> None:
        self.court.note(f"--- {deed}")
        self.counts[f"deeds: {deed}"] += 1
        match deed:
            case "cancel" | "cancel a child" | "pause" | "resume" | "retry":
                self._meddle(deed)
            case "crash" | "restart" | "crash before it is durable" | "crash in an append" | "crash while it recovers":
                await self._end_a_process(deed)
            case "the journal is slow":
                self._journal.hold()
                asyncio.get_running_loop().call_later(self._deeds.pick([0.1, 2, 12]), self._journal.release)
            case "the journal fails" | "the journal fails and is durable":
                self._journal.fail_next(self._deeds.pick([1, 2, 3]), durable="durable" in deed)
            case "partition":
                names = [name for name in NAMES if self._deeds.pick([True, False])]
                self._network.partition(names, self._deeds.pick(OUTAGES_S))
            case "a participant dies":
                self._network.participants[self._deeds.pick(NAMES)].kill(self._deeds.pick([0, *OUTAGES_S]))
            case "a participant is slow":
                self._network.slow_down(self._deeds.pick(NAMES), self._deeds.pick(OUTAGES_S))
            case "the clock is set forward":
                await self._set_the_clock_forward(ns(self._deeds.pick(JUMPS_S)))
            case "the clock is set back":
                self._clocks.jump(-ns(self._deeds.pick(JUMPS_S)))

    async def _set_the_clock_forward(self, length_ns: int) -> None:
        """Only when every call that was dispatched has begun: the network must know whose deadline comes nearer."""
        await settled()
        self._clocks.jump(length_ns)
        self._network.jump(length_ns)

    async def _end_a_process(self, deed: str) -> None:
        match deed:
            case "crash":
                await self._crash()
            case "restart":
                await self._restart()
            case "crash before it is durable":
                self._journal.hold()
                await self._moment()
                await self._crash()
            case "crash in an append":
                self._journal.last_words = self._die
                await self._moment()
                await self._crash()
            case "crash while it recovers":
                await self._crash_while_it_recovers()

    def _meddle(self, deed: str) -> None:
        candidates = [each for each in self.court.sagas if ("/" in each) >= (deed == "cancel a child")]
        if candidates:
            saga_id = self._deeds.pick(candidates)
            self.court.note(f"--- {deed} {saga_id}")
            self._spawn(self._ask_for(saga_id, _WISHES[deed]))

    # --- And then all goes well ---

    async def _heal(self) -> None:
        """The wall clock stays as it is: nobody has to set it right for sagas to go on."""
        self.court.note("--- from here on all goes well")
        self._network.heal()
        self._journal.release()
        for _ in range(HEALED_ROUNDS_MAX):
            await asyncio.sleep(ROUND_S)
            self._look()
            if not await self._help():
                break
        else:
            raise Violation("G3: not all sagas end")
        if self._scene.starts[-1].saga_id == NEWCOMER:
            await self._check_a_newcomer_gets_every_key()
        await self._recovered()
        if self._engine.unfinished:
            raise Violation(f"{self._engine.unfinished} sagas are driven, and all have ended")

    async def _recovered(self) -> None:
        assert self._recovery is not None
        await self._recovery

    async def _help(self) -> bool:
        """An operator resumes what is paused, and retries what stands FAILED; whether anything is unfinished."""
        page = await self._journal.unfinished(None, 10_000)
        for index in page.items:
            if index.state == SAGA_STATE_FAILED:
                stated = index.failure is not None and index.needs_attention
                self.court.check_failed(index.saga_id, stated=stated)
                await self._ask_for(index.saga_id, _WISHES["retry"])
            if index.paused:
                await self._ask_for(index.saga_id, _WISHES["resume"])
        asked_for = {start.saga_id for start in self._scene.starts} - {NEWCOMER}
        return bool(page.items) or not asked_for <= self.court.sagas.keys()

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
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Anything]) -> None:
        """A task that failed and that nobody waits for must not go unseen."""
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, Exception)
            self.court.complain(error)
