"""The coordinator of one saga: it crashes, comes back later, and takes up what is journaled."""

import asyncio

from coordinator.core.inputs import Done, Reply
from coordinator.core.limits import SECOND_NS
from coordinator.engine.clock import SystemClock
from coordinator.engine.definitions import Definitions
from coordinator.journal.memory import MemoryJournal
from coordinator.participants.call import Call
from coordinator.rehearse.stage import Stage, either
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.types_pb2 import OPERATION_EXECUTE, SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SAGA_STATE_RUNNING
from tests.coordinator.engine.bench import definition, descriptions, done, step, text

REQUEST = StartSagaRequest(saga_id="s", definition="order", input=text("in"))


class Held:
    """A participant that answers once it may."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def call(self, call: Call) -> Reply:
        self.calls.append(call)
        self.asked.set()
        await self.may_answer.wait()
        return done() if call.operation == OPERATION_EXECUTE else Done()


async def stage(caller: Held) -> Stage:
    definitions = Definitions(MemoryJournal(), descriptions, SystemClock())
    await definitions.register(definition(step("a"), step("b")))
    return Stage(definitions, caller)


async def test_it_comes_back_with_what_is_journaled_when_the_time_of_its_attempts_is_over() -> None:
    held = Held()
    staged = await stage(held)
    await staged.start(REQUEST)
    await held.asked.wait()
    await staged.crash()
    held.may_answer.set()
    await staged.come_back(10 * SECOND_NS)
    await staged.cancel("s", "enough")  # it need not wait for the attempt that it lost (G8)
    async with asyncio.timeout(5):
        await staged.end("s")
    assert await staged.read("s", lambda saga: saga.state) == SAGA_STATE_COMPENSATED
    events = await staged.events("s")
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert any(event.HasField("attempt_lost") for event in events)
    await staged.close()


async def test_a_cancel_that_is_refused_is_no_error() -> None:
    held = Held()
    held.may_answer.set()
    staged = await stage(held)
    await staged.start(REQUEST)
    await staged.end("s")
    await staged.cancel("s", "too late")
    assert await staged.read("s", lambda saga: saga.state) == SAGA_STATE_COMPLETED
    await staged.close()


async def test_what_is_closed_is_driven_no_longer() -> None:
    held = Held()
    staged = await stage(held)
    await staged.start(REQUEST)
    await held.asked.wait()
    await staged.close()
    held.may_answer.set()
    assert await staged.read("s", lambda saga: saga.state) == SAGA_STATE_RUNNING


async def test_the_first_of_two_ends_the_wait_for_both() -> None:
    never, now = asyncio.Event(), asyncio.Event()
    now.set()
    waits = [asyncio.create_task(event.wait()) for event in (never, now)]
    await either(*waits)
    assert [task.cancelled() for task in waits] == [True, False]
