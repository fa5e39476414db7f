"""What each failure means on the way: what the participant is sent, and what the engine is told."""

import asyncio
from collections.abc import Sequence

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.core.limits import SECOND_NS
from coordinator.participants.call import Call
from coordinator.rehearse.caller import POLL_AFTER_MAX_NS, InjectingCaller, key_of
from coordinator.rehearse.faults import parse_injection
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import (
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    Failure,
    Operation,
)

EXECUTE, COMPENSATE = OPERATION_EXECUTE, OPERATION_COMPENSATE
DONE = Done()
BUSY = Unknown(Failure(kind=FAILURE_KIND_UNAVAILABLE), retryable=True, answered=True)


class Outside:
    """Participants that give the replies in turn, the last one for ever; `gate` holds them back."""

    def __init__(self, *replies: Reply) -> None:
        self.sent: list[Call] = []
        self.arrived = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self._replies = list(replies) or [DONE]

    async def call(self, call: Call) -> Reply:
        self.sent.append(call)
        self.arrived.release()
        await self.gate.wait()
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def call(operation: Operation.ValueType = EXECUTE, attempt: int = 1, saga_id: str = "s", step: str = "a") -> Call:
    context = StepContext(saga_id=saga_id, step=step, attempt=attempt)
    return Call("shop", operation, context, Any(), SECOND_NS, "", lambda _output: None)


def caller(outside: Outside, *failures: str) -> InjectingCaller:
    async def cancel() -> None:
        outside.sent.append(call(step="cancelled"))

    return InjectingCaller(outside, "s", [parse_injection(text) for text in failures], cancel)


def steps(outside: Outside) -> Sequence[str]:
    return [sent.context.step for sent in outside.sent]


@pytest.mark.parametrize(
    ("failure", "sent", "retryable"),
    [("request-lost", 0, True), ("reply-lost", 1, True), ("given-up", 1, False), ("late", 0, False)],
)
async def test_what_is_lost_is_unknown_and_over(failure: str, sent: int, retryable: bool) -> None:
    outside = Outside()
    reply = await caller(outside, f"a.execute#1={failure}").call(call())
    assert isinstance(reply, Unknown)
    assert (len(outside.sent), reply.retryable, reply.answered) == (
        sent,
        retryable,
        True,
    )  # answered: G8 holds nobody up


async def test_a_failure_happens_to_its_own_call_and_once() -> None:
    outside = Outside()
    injecting = caller(outside, "a.execute#2=refused")
    assert await injecting.call(call()) == DONE
    assert await injecting.call(call(saga_id="s/child", attempt=2)) == DONE
    assert await injecting.call(call(step="b", attempt=2)) == DONE
    assert [str(each) for each in injecting.not_reached] == ["a.execute#2=refused"]
    assert isinstance(await injecting.call(call(attempt=2)), Refused)
    assert await injecting.call(call(attempt=2)) == DONE
    assert (len(outside.sent), injecting.not_reached) == (4, ())


async def test_a_duplicate_is_under_way_at_the_same_time() -> None:
    outside = Outside(BUSY, DONE)
    outside.gate.clear()
    answered = asyncio.create_task(caller(outside, "a.execute#1=duplicated").call(call()))
    for _ in range(2):
        await outside.arrived.acquire()
    outside.gate.set()
    assert await answered == DONE  # whichever of the two knows


async def test_a_late_request_arrives_when_its_compensate_is_done() -> None:
    outside = Outside(BUSY, DONE, Refused("BARRED"))
    injecting = caller(outside, "a.execute#1=late")
    await injecting.call(call())
    assert await injecting.call(call(COMPENSATE)) == BUSY
    assert [sent.operation for sent in outside.sent] == [COMPENSATE]
    assert await injecting.call(call(COMPENSATE, attempt=2)) == DONE
    assert [sent.operation for sent in outside.sent] == [COMPENSATE, COMPENSATE, EXECUTE]
    assert [exchange.reply for exchange in injecting.exchanges] == [BUSY, DONE, Refused("BARRED")]


async def test_a_cancel_comes_before_the_answer_is_known() -> None:
    outside = Outside()
    assert await caller(outside, "a.execute#1=cancelled").call(call()) == DONE
    assert steps(outside) == ["a", "cancelled"]


@pytest.mark.parametrize(("failure", "sent"), [("crash-before", 0), ("crash-after", 1)])
async def test_a_crash_answers_nobody(failure: str, sent: int) -> None:
    outside = Outside()
    injecting = caller(outside, f"a.execute#1={failure}")
    asking = asyncio.create_task(injecting.call(call()))
    await injecting.crashed.wait()
    assert (len(outside.sent), asking.done()) == (sent, False)
    asking.cancel()


async def test_a_call_that_nobody_waits_for_any_more_goes_on_and_is_waited_for() -> None:
    outside = Outside()
    outside.gate.clear()
    injecting = caller(outside)
    asking = asyncio.create_task(injecting.call(call()))
    await outside.arrived.acquire()
    asking.cancel()
    settling = asyncio.create_task(injecting.settle())
    await asyncio.sleep(0)
    assert not settling.done()
    outside.gate.set()
    await settling
    assert [exchange.reply for exchange in injecting.exchanges] == [DONE]


async def test_what_is_pending_is_asked_again_soon() -> None:
    assert await caller(Outside(Accepted(30 * SECOND_NS))).call(call()) == Accepted(POLL_AFTER_MAX_NS)
    assert await caller(Outside(Accepted(1))).call(call()) == Accepted(1)


async def test_a_repeat_insists_while_nobody_knows() -> None:
    outside = Outside(BUSY, BUSY, DONE)
    assert await caller(outside).repeat(call()) == DONE
    assert len(outside.sent) == 3
    outside = Outside(BUSY)
    assert await caller(outside).repeat(call()) == BUSY
    assert len(outside.sent) == 5


async def test_the_last_call_of_each_key_is_kept_also_if_it_was_never_sent() -> None:
    injecting = caller(Outside(), "a.execute#2=request-lost")
    for attempt in (1, 2):
        await injecting.call(call(attempt=attempt))
    assert {key: last.context.attempt for key, last in injecting.last_calls.items()} == {key_of(call()): 2}
