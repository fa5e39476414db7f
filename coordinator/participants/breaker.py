"""Holds calls back from a participant that does not answer; one at a time goes out to see whether it does again.

Calls that nobody answers tie up places and time, theirs and those of whoever waits behind them. After so many of them
in a row, calls are held back. Once a pause is over, one goes out; the pauses grow while such probes find nobody. Any
answer, whatever it says, lets all go on.

A call that is held back waits, for as long as it may take in all, instead of failing at once: its attempt is journaled
and counts, so failing would spend the step's budget faster than a refused connection does, and turn back sagas that
only had to wait. This module must not read what an answer says.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import grpc

from coordinator.core import limits, retry
from coordinator.core.inputs import Reply, Unknown
from coordinator.participants import replies
from coordinator.participants.call import Call
from saga.v1.coordinator_pb2 import BREAKER_STATE_CLOSED, BREAKER_STATE_HALF_OPEN, BREAKER_STATE_OPEN, BreakerState

log = logging.getLogger(__name__)

_PAUSES: Final = retry.pauses(limits.PROBE_BACKOFF_INITIAL_NS, limits.PROBE_BACKOFF_MAX_NS)
_DEADLINE_EXCEEDED: Final = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
_LOST: Final = (grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.CANCELLED.value[0])


class Breaker:
    """Before the calls to one participant, by its name in the log. `is_up`: whether its connection is."""

    def __init__(self, name: str, is_up: Callable[[], bool], jitter: Callable[[], float] = random.random) -> None:
        self._name = name
        self._is_up = is_up
        self._jitter = jitter
        self.unanswered = 0
        """How many calls in a row were not answered."""
        self.held = 0
        """How many calls are held back now."""
        self._until_s: float | None = None
        self._pauses = 0
        self._probing = False
        self._news = asyncio.Event()

    async def through(self, call: Call, make: Callable[[Call], Awaitable[Reply]]) -> Reply:
        """The reply of `make`, once the call may go out; where it may not in its time, that it was not sent."""
        left_ns, probes = call.timeout_ns, False
        if self._until_s is not None:
            deadline_s = _now_s() + call.timeout_ns / limits.SECOND_NS
            try:
                async with asyncio.timeout_at(deadline_s):
                    probes = await self._wait()
            except TimeoutError:
                return self._not_sent(call)
            left_ns = max(int((deadline_s - _now_s()) * limits.SECOND_NS), 0)
        try:
            reply = await make(call if left_ns == call.timeout_ns else replace(call, timeout_ns=left_ns))
        except BaseException:
            if probes:
                self._pause()
            raise
        self._note(reply, probes=probes)
        return reply

    @property
    def state(self) -> BreakerState.ValueType:
        """Whether calls go out."""
        if self._until_s is None:
            return BREAKER_STATE_CLOSED
        return BREAKER_STATE_HALF_OPEN if self._probing else BREAKER_STATE_OPEN

    @property
    def open_until_ns(self) -> int | None:
        """Until when no call goes out; None where calls do, or one of them."""
        if self._until_s is None or self._probing:
            return None
        return time.time_ns() + max(int((self._until_s - _now_s()) * limits.SECOND_NS), 0)

    async def _wait(self) -> bool:
        """Returns when the call may go out; whether it is to probe."""
        self.held += 1
        try:
            while self._until_s is not None:
                if not self._probing and _now_s() >= self._until_s:
                    self._probing = True
                    return True
                await self._until_news(None if self._probing else self._until_s)
            return False
        finally:
            self.held -= 1

    async def _until_news(self, until_s: float | None) -> None:
        news = self._news
        try:
            async with asyncio.timeout_at(until_s):
                await news.wait()
        except TimeoutError:
            return

    def _note(self, reply: Reply, *, probes: bool) -> None:
        if not self._is_unanswered(reply):
            self.unanswered = 0
            if self._until_s is not None:
                self._pauses, self._until_s, self._probing = 0, None, False
                self._tell()
                log.info("a participant answers again", extra={"participant": self._name, "calls": self.held})
            return
        self.unanswered += 1
        if self._until_s is None and self.unanswered >= limits.UNANSWERED_CALLS_MAX:
            about = {"participant": self._name, "calls": self.unanswered}
            log.warning("a participant does not answer: calls are held back until it does", extra=about)
            self._pause()
        elif probes:
            self._pause()

    def _pause(self) -> None:
        self._pauses += 1
        self._probing = False
        self._until_s = _now_s() + _PAUSES.backoff_ns(self._pauses, self._jitter()) / limits.SECOND_NS
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _is_unanswered(self, reply: Reply) -> bool:
        """Whether the time was over, or the connection is: a status over a connection that is up is an answer."""
        if not isinstance(reply, Unknown):
            return False
        code = reply.failure.grpc_code
        return code == _DEADLINE_EXCEEDED or (code in _LOST and not self._is_up())

    def _not_sent(self, call: Call) -> Unknown:
        message = f"it was not sent: the last {self.unanswered} calls to the participant were not answered"
        return replies.read_status(call, grpc.StatusCode.DEADLINE_EXCEEDED, message)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
