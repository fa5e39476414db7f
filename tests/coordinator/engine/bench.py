"""An engine on a bench: real definitions, the journal in memory, participants that do what a test says, virtual time.

On every call the participants check G1: that the attempt which is being made is on stable storage.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any as Anything
from typing import TypeAlias

from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.core.instants import to_duration
from coordinator.core.state import Saga
from coordinator.engine.changes import Changes
from coordinator.engine.definitions import Definitions
from coordinator.engine.engine import Engine
from coordinator.engine.world import Tasks, World
from coordinator.journal.errors import JournalUnavailable
from coordinator.journal.memory import MemoryJournal
from coordinator.journal.port import JournalReader
from coordinator.participants.call import Call
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.definition_pb2 import STEP_ORDER_GRAPH, AttemptPolicy, SagaDefinition, StepDefinition
from saga.v1.event_pb2 import ParentStep, SagaEvent
from saga.v1.participant_pb2 import Action, DescribeResponse
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Failure,
    Operation,
    SagaState,
    StepKind,
)
from tests.coordinator.core.protos import files, proto
from tests.support.virtual_time import LoopClock, elapsed_s

TEXT = "shop.Text"
_SHOP = files(proto("shop.proto", "shop", {"Text": ["text"], "Other": ["text"]}))

EXECUTE, COMPENSATE, CONFIRM = OPERATION_EXECUTE, OPERATION_COMPENSATE, OPERATION_CONFIRM

UNAVAILABLE = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE, message="lost"), retryable=True, answered=False)
ABORTED = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE, message="aborted"), retryable=True, answered=True)
INVALID = Unknown(Failure(kind=FAILURE_KIND_CALL_REFUSED, message="invalid"), retryable=False, answered=True)
REFUSED = Refused("NO", "not today", covers_earlier=True)

Script: TypeAlias = Reply | Callable[[Call], Awaitable[Reply]]


def ns(seconds: float) -> int:
    return round(seconds * limits.SECOND_NS)


def text(value: str, prefix: str = "type.googleapis.com/") -> Any:
    """A payload of the shop."""
    data = value.encode()
    return Any(type_url=f"{prefix}{TEXT}", value=b"\n" + bytes([len(data)]) + data if data else b"")


def done(value: str = "out", hold_until_ns: int | None = None) -> Done:
    return Done(output=text(value), hold_until_ns=hold_until_ns)


def accepted(poll_after: float) -> Accepted:
    """Pending; asked again after so many seconds."""
    return Accepted(ns(poll_after), "in the queue")


def descriptions() -> dict[str, DescribeResponse | None]:
    kinds = [kind for kind in StepKind.values() if kind]
    act = Action(name="Act", input_type=TEXT, output_type=TEXT, kinds=kinds)
    return {"shop": DescribeResponse(participant="shop", actions=[act], descriptors=_SHOP)}


def policy(most: int | None = None, timeout: float = 10, backoff: float = 1) -> AttemptPolicy:
    """An attempt policy; durations in seconds."""
    return AttemptPolicy(max_attempts=most, timeout=to_duration(ns(timeout)), initial_backoff=to_duration(ns(backoff)))


def step(name: str, kind: str = "COMPENSATABLE", *after: str, **fields: Anything) -> StepDefinition:
    """A step that passes the saga's input on."""
    usual: dict[str, Anything] = {"participant": "shop", "action": "Act", "input": "input"}
    usual |= {"execute": policy(), "compensate": policy(), "confirm": policy()}
    return StepDefinition(name=name, kind=StepKind.Value(f"STEP_KIND_{kind}"), after=after, **usual | fields)


def definition(*steps: StepDefinition, graph: bool = False, **fields: Anything) -> SagaDefinition:
    """A definition, called `order` where nothing else is said."""
    if graph:
        fields["order"] = STEP_ORDER_GRAPH
    return SagaDefinition(**{"name": "order", "input_type": TEXT, "steps": steps} | fields)


class Participants:
    """A Caller that answers as it was told: `script` by step and operation, success where nothing was said.

    The last answer of a script is given again and again. `held` calls wait until the test lets go of them.
    """

    def __init__(self, journal: JournalReader) -> None:
        self.journal = journal
        self.calls: list[Call] = []
        self.polls = 0
        self._scripts: dict[tuple[str, Operation.ValueType], deque[Script]] = {}
        self._waiting: dict[tuple[str, Operation.ValueType], deque[asyncio.Future[Reply]]] = {}

    def script(self, step_name: str, operation: Operation.ValueType, *answers: Script) -> None:
        self._scripts[step_name, operation] = deque(answers)

    def hold(self, step_name: str, operation: Operation.ValueType = EXECUTE) -> None:
        """Answer no such call before `answer` does; after a time-out it comes back unknown, as gRPC would have it."""
        waiting = self._waiting.setdefault((step_name, operation), deque())

        async def wait(call: Call) -> Reply:
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            waiting.append(answer)
            try:
                async with asyncio.timeout(call.timeout_ns / limits.SECOND_NS):
                    return await answer
            except TimeoutError:
                return UNAVAILABLE

        self.script(step_name, operation, wait)

    def answer(self, step_name: str, reply: Reply, operation: Operation.ValueType = EXECUTE) -> None:
        """Answer the oldest call that is held."""
        self._waiting[step_name, operation].popleft().set_result(reply)

    def made(self) -> list[str]:
        """The calls so far: `reserve execute 1`."""
        return [f"{c.context.step} {_word(c.operation)} {c.context.attempt}" for c in self.calls]

    async def call(self, call: Call) -> Reply:
        await self._is_durable(call)
        self.calls.append(call)
        script = self._scripts.get((call.context.step, call.operation))
        if script is None:
            return done() if call.operation == EXECUTE else Done()
        answer = script.popleft() if len(script) > 1 else script[0]
        return await answer(call) if callable(answer) else answer

    async def _is_durable(self, call: Call) -> None:
        """G1: the journal has the attempt, with the idempotency key's uid."""
        events = await self.journal.read(call.context.saga_id)
        started = [event.attempt_started for event in events if event.HasField("attempt_started")]
        attempts = [(attempt.step, attempt.operation, attempt.attempt) for attempt in started]
        assert (call.context.step, call.operation, call.context.attempt) in attempts, "G1"
        uid = events[0].saga_created.uid
        assert call.context.idempotency_key == f"{uid}/{call.context.step}/{_word(call.operation)}", "G2"


def _word(operation: Operation.ValueType) -> str:
    return Operation.Name(operation).removeprefix("OPERATION_").lower()


class Bench:
    """One coordinator's engine."""

    def __init__(
        self,
        journal: MemoryJournal | None = None,
        clock: LoopClock | None = None,
        unfinished_max: int = 1000,
        rest_after_ns: int = limits.REST_AFTER_NS,
    ) -> None:
        self.journal = journal or MemoryJournal()
        self.clock = clock or LoopClock()
        self.participants = Participants(self.journal)
        self.descriptions = descriptions()
        self.changes = Changes()
        self.tasks = Tasks()
        self.behind_s: dict[str, float] = {}
        world = World(
            self.journal,
            self.participants,
            self.clock,
            self.changes,
            self.tasks,
            lambda: 0.0,
            rest_after_ns=rest_after_ns,
            behind_s=lambda participant: self.behind_s.get(participant, 0.0),
        )
        self._rest_after_ns = rest_after_ns
        self.definitions = Definitions(self.journal, lambda: self.descriptions, self.clock)
        self.engine = Engine(world, self.definitions, unfinished_max)

    async def register(self, *steps: StepDefinition, **fields: Anything) -> int:
        """Register a definition; returns its version."""
        registered = await self.definitions.register(definition(*steps, **fields))
        return registered.loaded.definition.version

    async def start(self, saga_id: str = "s", value: str = "in", **fields: Anything) -> bool:
        """Start a saga; whether it was created."""
        return (await self.engine.start(request(saga_id, value, **fields))).created

    async def ended(self, saga_id: str = "s", timeout_s: float = 1e6) -> str:
        """Wait until the saga stands COMPLETED, COMPENSATED or FAILED, though the journal may fail; returns which."""
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    assert await self.engine.wait(saga_id, timeout_s)
                    return await self.state(saga_id)
                except JournalUnavailable:
                    await asyncio.sleep(0.01)

    async def state(self, saga_id: str = "s") -> str:
        state: SagaState.ValueType = await self.engine.read(saga_id, lambda saga: saga.state)
        return SagaState.Name(state).removeprefix("SAGA_STATE_")

    async def look(self, saga_id: str = "s") -> Saga:
        return await self.engine.read(saga_id, lambda saga: saga)

    async def journaled(self, saga_id: str = "s") -> list[str]:
        """What is on stable storage: `attempt_started reserve 1`."""
        return [brief(event) for event in await self.journal.read(saga_id)]

    def news(self, saga_id: str, step_name: str) -> None:
        """Tell the saga that there may be news of its child."""
        self.engine._drivers.tell_parent(ParentStep(saga_id=saga_id, step=step_name))

    def rests(self, saga_id: str = "s") -> bool:
        """Whether the saga is unfinished, and nobody drives it."""
        return saga_id in self.engine._drivers._resting

    async def crash(self) -> "Bench":
        """Kill this engine, and put another one on what was durable."""
        journal = self.journal.reopen()
        await self.engine.close()
        again = Bench(journal, self.clock, rest_after_ns=self._rest_after_ns)
        await again.engine.open()
        return again


@asynccontextmanager
async def bench(**options: Anything) -> AsyncGenerator[Bench, None]:
    """A bench that is closed in the end, and must not leave anybody behind who follows a saga."""
    made = Bench(**options)
    await made.engine.open()
    try:
        yield made
    finally:
        await made.engine.close()
        assert made.engine.unfinished == 0


@asynccontextmanager
async def restarted(first: Bench) -> AsyncGenerator[Bench, None]:
    """Another coordinator on what the first one left."""
    second = await first.crash()
    try:
        yield second
    finally:
        await second.engine.close()


def request(saga_id: str = "s", value: str = "in", **fields: Anything) -> StartSagaRequest:
    given: dict[str, Anything] = {"saga_id": saga_id, "definition": "order", "input": text(value)}
    return StartSagaRequest(**given | fields)


def brief(event: SagaEvent) -> str:
    name: str = event.WhichOneof("event") or ""
    fact = getattr(event, name)
    known = fact.DESCRIPTOR.fields_by_name
    parts = [name]
    if "step" in known:
        parts.append(fact.step)
    if "operation" in known and fact.operation != EXECUTE:
        parts.append(_word(fact.operation))
    if "attempt" in known:
        parts.append(str(fact.attempt))
    return " ".join(parts)


def attempts_of(lines: Iterable[str], step_name: str) -> Sequence[str]:
    """Those of one step, among `made` or `journaled`."""
    return [line for line in lines if step_name in line.split()]


def instants(b: Bench) -> dict[str, list[float]]:
    """When each kind of call is made, in seconds; filled while sagas run."""
    times: dict[str, list[float]] = {}
    original = b.participants.call

    async def call(call: Call) -> Reply:
        key = f"{call.context.step} {call.method.rpartition('/')[2]}"
        times.setdefault(key, []).append(round(elapsed_s(), 3))
        return await original(call)

    b.participants.call = call  # type: ignore[method-assign]  # the test listens in
    return times
