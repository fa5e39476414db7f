"""Brings under way what is outstanding: calls, polls, and the timer.

It keeps only what can be lost: which calls are in flight, when each poll is due, when to wake. After a restart it
starts empty, and `outstanding` says the same things again.

This module must not be given anything that is not durable: whoever calls `dispatch` has appended the events that
justify it (G1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from coordinator.core.inputs import Accepted, Input, Replied, Reply, Unknown
from coordinator.core.outstanding import Call, Outstanding, Poll
from coordinator.core.state import Saga
from coordinator.dataflow.program import Program
from coordinator.engine.requests import request_of
from coordinator.engine.world import World
from coordinator.participants.call import Call as Request
from saga.v1.types_pb2 import FAILURE_KIND_UNAVAILABLE, OPERATION_EXECUTE, Failure

log = logging.getLogger(__name__)

_SECOND_NS: Final = 1_000_000_000


class Dispatcher:
    """The calls, polls and timer of one saga. `give` takes what comes of them."""

    def __init__(
        self,
        program: Program,
        world: World,
        give: Callable[[Input | None], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._program = program
        self._world = world
        self._give = give
        self._now_ns = now_ns
        self._calls: set[Call] = set()
        self._poll_timers: dict[str, asyncio.TimerHandle] = {}
        self._polling: set[str] = set()
        self._next_poll_ns: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.polled_until_ns: dict[str, int] = {}
        """The steps of which a poll of Execute may still be at work, and until when (G8)."""

    @property
    def busy(self) -> bool:
        """Whether a call or a poll is in flight."""
        return bool(self._calls or self._polling)

    def dispatch(self, saga: Saga, wanted: Outstanding, now_ns: int) -> None:
        """Make the calls that are not in flight yet, plan the polls, and wake up in time."""
        for call in wanted.calls:
            if call not in self._calls:
                self._calls.add(call)
                timeout_ns = max(call.deadline_ns - now_ns, 0)
                request = request_of(saga, self._program, call.step, call.operation, call.attempt, timeout_ns)
                self._world.tasks.spawn(self._call(call, request))
        self._plan_polls(saga, wanted.polls)
        self._wake_at(wanted.wake_ns, now_ns)

    def rest(self) -> None:
        """Plan nothing more. What is in flight comes back by itself."""
        self._wake_at(None, 0)
        for timer in self._poll_timers.values():
            timer.cancel()
        self._poll_timers.clear()

    # --- Calls ---

    async def _call(self, call: Call, request: Request) -> None:
        reply = await self._ask(request)
        self._calls.discard(call)
        self._give(Replied(call.step, call.operation, call.attempt, reply, self._world.jitter()))

    async def _ask(self, request: Request) -> Reply:
        try:
            return await self._world.caller.call(request)
        except Exception:  # a defect here must not leave the saga waiting for ever
            log.exception("a call of saga %s failed in the coordinator", request.context.saga_id)
            failure = Failure(
                kind=FAILURE_KIND_UNAVAILABLE,
                step=request.context.step,
                operation=request.operation,
                message="the coordinator failed to make the call",
            )
            return Unknown(failure, retryable=True, answered=False)

    # --- Polls ---

    def _plan_polls(self, saga: Saga, polls: list[Poll]) -> None:
        wanted = {poll.step: poll for poll in polls}
        for name in [name for name in self._poll_timers if name not in wanted]:
            self._poll_timers.pop(name).cancel()
        for name, poll in wanted.items():
            if name in self._poll_timers or name in self._polling:
                continue
            delay_ns = self._next_poll_ns.pop(name, poll.every_ns)
            self._poll_timers[name] = asyncio.get_running_loop().call_later(
                delay_ns / _SECOND_NS, self._start_poll, saga, poll
            )

    def _start_poll(self, saga: Saga, poll: Poll) -> None:
        del self._poll_timers[poll.step]
        self._polling.add(poll.step)
        if poll.operation == OPERATION_EXECUTE:
            self.polled_until_ns[poll.step] = self._now_ns() + poll.timeout_ns
        request = request_of(saga, self._program, poll.step, poll.operation, poll.attempt, poll.timeout_ns)
        self._world.tasks.spawn(self._poll(poll, request))

    async def _poll(self, poll: Poll, request: Request) -> None:
        reply = await self._ask(request)
        self._polling.discard(poll.step)
        if not isinstance(reply, Unknown) or reply.answered:
            self.polled_until_ns.pop(poll.step, None)
        if isinstance(reply, Accepted):
            self._next_poll_ns[poll.step] = reply.poll_after_ns
        self._give(Replied(poll.step, poll.operation, poll.attempt, reply, self._world.jitter()))

    # --- The timer ---

    def _wake_at(self, wake_ns: int | None, now_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_ns is not None:
            delay_s = max(wake_ns - now_ns, 0) / _SECOND_NS
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._give, None)
