"""Calls that nobody answers, in virtual time. Pauses are without jitter: half of 0.5 s, of 1 s, of 2 s, …"""

import asyncio
import logging
from collections.abc import Awaitable

import grpc
import pytest

from coordinator.core import limits
from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.participants import replies
from coordinator.participants.breaker import Breaker
from coordinator.participants.call import Call
from saga.v1.coordinator_pb2 import BREAKER_STATE_CLOSED, BREAKER_STATE_HALF_OPEN, BREAKER_STATE_OPEN
from tests.coordinator.participants.fakes import call
from tests.support.virtual_time import elapsed_s, in_virtual_time, settled

FIRST_PAUSE_S = limits.PROBE_BACKOFF_INITIAL_NS / limits.SECOND_NS / 2


def status(code: grpc.StatusCode) -> Unknown:
    return replies.read_status(call(), code, "")


LOST = status(grpc.StatusCode.UNAVAILABLE)
LATE = status(grpc.StatusCode.DEADLINE_EXCEEDED)


class Line:
    """A participant behind a breaker: it replies with `reply`, after `takes_s`."""

    def __init__(self) -> None:
        self.is_up = False
        self.reply: Reply = LOST
        self.takes_s = 0.0
        self.sent: list[float] = []
        self.timeouts_ns: list[int] = []
        self.breaker = Breaker("shop", lambda: self.is_up, lambda: 0.0)

    async def _make(self, given: Call) -> Reply:
        self.sent.append(round(elapsed_s(), 3))
        self.timeouts_ns.append(given.timeout_ns)
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        return self.reply

    def call(self, timeout_s: float = 10) -> Awaitable[Reply]:
        return self.breaker.through(call(timeout_ns=int(timeout_s * limits.SECOND_NS)), self._make)

    async def opened(self) -> None:
        """Have so many calls go unanswered that it opens."""
        for _ in range(limits.UNANSWERED_CALLS_MAX):
            assert self.breaker.state == BREAKER_STATE_CLOSED
            await self.call()
        assert self.breaker.state == BREAKER_STATE_OPEN
        self.sent.clear()
        self.timeouts_ns.clear()


@pytest.mark.parametrize("unanswered", [LOST, LATE, status(grpc.StatusCode.CANCELLED)], ids=["lost", "late", "cut"])
def test_calls_that_nobody_answers_open_it(unanswered: Reply) -> None:
    @in_virtual_time
    async def run() -> None:
        line = Line()
        line.reply = unanswered
        await line.opened()
        assert line.breaker.unanswered == limits.UNANSWERED_CALLS_MAX
        assert line.breaker.open_until_ns is not None

    run()


@pytest.mark.parametrize(
    "answer",
    [Done(), Refused("NO"), Accepted(1), status(grpc.StatusCode.RESOURCE_EXHAUSTED), status(grpc.StatusCode.UNKNOWN)],
    ids=lambda answer: type(answer).__name__,
)
def test_any_answer_keeps_it_closed(answer: Reply) -> None:
    @in_virtual_time
    async def run() -> None:
        line = Line()
        for _ in range(3):
            line.reply = LOST
            for _ in range(limits.UNANSWERED_CALLS_MAX - 1):
                await line.call()
            line.reply = answer
            assert await line.call() == answer
            assert (line.breaker.state, line.breaker.unanswered) == (BREAKER_STATE_CLOSED, 0)

    run()


@in_virtual_time
async def test_a_participant_that_says_unavailable_itself_has_answered() -> None:
    line = Line()
    line.is_up = True
    for _ in range(2 * limits.UNANSWERED_CALLS_MAX):
        await line.call()
    assert line.breaker.state == BREAKER_STATE_CLOSED


@in_virtual_time
async def test_while_it_is_open_calls_wait_and_one_at_a_time_probes_ever_less_often() -> None:
    line = Line()
    await line.opened()
    calls = [asyncio.ensure_future(line.call(timeout_s=60)) for _ in range(8)]
    await settled()
    assert (line.sent, line.breaker.held) == ([], 8)
    await asyncio.wait(calls)
    gaps = [round(later - earlier, 3) for earlier, later in zip([0.0, *line.sent], line.sent, strict=False)]
    assert gaps == [0.25, 0.5, 1, 2, 2.5, 2.5, 2.5, 2.5]
    assert line.breaker.state == BREAKER_STATE_OPEN


def test_that_it_opens_and_closes_is_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coordinator.participants.breaker")

    @in_virtual_time
    async def run() -> None:
        line = Line()
        await line.opened()
        await line.call(timeout_s=FIRST_PAUSE_S * 5)  # a probe that is not answered either
        line.reply = Done()
        await line.call(timeout_s=60)
        await line.call()

    run()
    said = [(record.levelname, record.message, vars(record)["participant"]) for record in caplog.records]
    assert said == [
        ("WARNING", "a participant does not answer: calls are held back until it does", "shop"),
        ("INFO", "a participant answers again", "shop"),
    ]


@in_virtual_time
async def test_the_first_answer_lets_all_go_on() -> None:
    line = Line()
    await line.opened()
    line.reply, line.takes_s = Done(), 1.0
    calls = [asyncio.ensure_future(line.call()) for _ in range(5)]
    await asyncio.sleep(FIRST_PAUSE_S + 0.5)
    assert (line.breaker.state, len(line.sent), line.breaker.held) == (BREAKER_STATE_HALF_OPEN, 1, 4)
    assert line.breaker.open_until_ns is None
    assert await asyncio.gather(*calls) == [Done()] * 5
    assert (line.breaker.state, line.breaker.held, line.breaker.unanswered) == (BREAKER_STATE_CLOSED, 0, 0)
    assert len(line.sent) == 5
    left_s = 10 - FIRST_PAUSE_S
    assert line.timeouts_ns[0] == pytest.approx(left_s * limits.SECOND_NS)  # one deadline for waiting and call
    assert line.timeouts_ns[1] == pytest.approx((left_s - 1) * limits.SECOND_NS)


@in_virtual_time
async def test_a_held_call_spends_no_attempt_faster_than_its_time_and_says_that_it_was_not_sent() -> None:
    line = Line()
    await line.opened()
    line.takes_s = 1e4  # the probe goes nowhere
    probe = asyncio.ensure_future(line.call(timeout_s=1e5))
    await asyncio.sleep(FIRST_PAUSE_S + 0.01)
    begun_s = elapsed_s()
    reply = await line.call(timeout_s=7)
    assert elapsed_s() - begun_s == pytest.approx(7)
    assert isinstance(reply, Unknown)
    assert (reply.retryable, reply.failure.grpc_code) == (True, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert "not sent" in reply.failure.message
    assert len(line.sent) == 1
    assert line.breaker.unanswered == limits.UNANSWERED_CALLS_MAX  # nobody failed to answer it
    probe.cancel()


@in_virtual_time
async def test_a_probe_that_is_given_up_is_followed_by_another() -> None:
    line = Line()
    await line.opened()
    line.takes_s = 1e6
    probe = asyncio.ensure_future(line.call(timeout_s=1e9))
    await asyncio.sleep(FIRST_PAUSE_S + 0.01)
    assert line.breaker.state == BREAKER_STATE_HALF_OPEN
    probe.cancel()
    line.reply, line.takes_s = Done(), 0
    assert await line.call() == Done()
    assert line.breaker.state == BREAKER_STATE_CLOSED


@in_virtual_time
async def test_calls_that_were_under_way_when_it_opened_change_nothing_unless_they_are_answered() -> None:
    line = Line()
    line.takes_s = 5
    early = [asyncio.ensure_future(line.call()) for _ in range(2)]
    await settled()
    line.takes_s = 0
    await line.opened()
    until_ns = line.breaker.open_until_ns
    assert until_ns is not None
    await asyncio.wait(early)
    assert line.breaker.state == BREAKER_STATE_OPEN
    assert line.breaker.unanswered == limits.UNANSWERED_CALLS_MAX + 2
    line.reply = Done()
    assert await line.call() == Done()
    assert line.sent == [5.0]  # the pause had not been made longer
