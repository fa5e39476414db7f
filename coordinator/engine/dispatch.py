"""Brings under way what is outstanding: calls, polls, and the timer.

It keeps only what can be lost: which calls are in flight, when each poll is due, when to wake. After a restart it
starts empty, and `outstanding` says the same things again. While its saga rests, the polls' schedule is kept in a
`Rest`; nothing is in flight then.

This module must not be given anything that is not durable: whoever calls `dispatch` has appended the events that
justify it (G1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from coordinator import failpoints
from coordinator.core import limits
from coordinator.core.inputs import Accepted, Input, Replied, Reply, Unknown
from coordinator.core.instants import earliest
from coordinator.core.outstanding import Call, Outstanding, Poll
from coordinator.core.state import Saga
from coordinator.dataflow.program import Program
from coordinator.engine.requests import request_of
from coordinator.engine.resting import PlannedPoll, Rest
from coordinator.engine.world import World
from coordinator.failpoints import Failpoint
from coordinator.participants.call import Call as Request
from saga.v1.types_pb2 import FAILURE_KIND_UNAVAILABLE, OPERATION_EXECUTE, Failure

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Polling:
    """When an accepted operation is asked again."""

    due_ns: int
    every_ns: int
    in_flight: bool = False


class Dispatcher:
    """The calls, polls and timer of one saga. `give` takes what comes of them.

    Everything begins in `call` and `dispatch`, and nothing in a timer: a timer only asks for another look. So no poll
    goes out while an append is under way that may turn the saga back (G8).
    """

    def __init__(
        self,
        program: Program,
        world: World,
        give: Callable[[Input | None], None],
        now_ns: Callable[[], int],
        rest: Rest | None = None,
    ) -> None:
        kept = rest or Rest()
        self._program = program
        self._world = world
        self._give = give
        self._now_ns = now_ns
        self._made: set[Call] = set()
        """The calls that were made and whose outcome is not recorded: none of them is made twice."""
        self._in_flight = 0
        """Calls and polls that were made and have not come back, also those that nobody waits for any more."""
        self._polling = {each.poll: _Polling(each.due_ns, each.every_ns) for each in kept.polls}
        self._hastened = set(kept.hastened)
        """The steps whose next poll is due now, because there may be news."""
        self._timer: asyncio.TimerHandle | None = None
        self.wake_ns: int | None = None
        """When to look again if nothing happens before; None where only an input helps."""
        self.polled_until_ns = dict(kept.polled_until_ns)
        """The steps of which a poll of Execute may still be at work, and until when (G8)."""

    @property
    def busy(self) -> bool:
        """Whether a call or a poll is in flight."""
        return self._in_flight > 0

    def dispatch(self, saga: Saga, wanted: Outstanding, now_ns: int, *, news: bool = False) -> None:
        """Make the calls that were not made yet, poll what is due, and wake up in time.

        `news`: answers have come that are not taken in yet; they may make a poll needless, so none goes out.
        """
        self.call(saga, wanted.calls, now_ns)
        next_poll_ns = None if news else self._poll_what_is_due(saga, wanted.polls, now_ns)
        self.wake_ns = earliest(wanted.wake_ns, next_poll_ns)
        self.look_at(self.wake_ns, now_ns)

    def call(self, saga: Saga, calls: Sequence[Call], now_ns: int) -> None:
        """Make the calls that were not made yet."""
        self._made.intersection_update(calls)
        for call in calls:
            if call not in self._made:
                timeout_ns = max(call.deadline_ns - now_ns, 0)
                request = request_of(saga, self._program, call.step, call.operation, call.attempt, timeout_ns)
                self._made.add(call)
                self._in_flight += 1
                self._world.tasks.spawn(self._call(call, request))

    def hasten(self, step: str) -> None:
        """Poll the step at the next look, whenever it is due."""
        self._hastened.add(step)

    def look_no_more(self) -> None:
        """Ask for no other look. What is in flight comes back."""
        self.look_at(None, 0)

    def let_go(self) -> None:
        """Look no more, and give nothing: nobody drives the saga any longer.

        Its driver is not held either. Two that hold each other stay, with all payloads of the saga, until the garbage
        collector comes by.
        """
        self.look_no_more()
        self._give = _to_nobody
        self._now_ns = self._world.clock.now_ns

    def rest(self, skew_ns: int, now_ns: int) -> Rest:
        """Let go, and say what is to be kept until the saga is driven again. Nothing must be in flight."""
        self.let_go()
        return Rest(
            wake_ns=None if self.wake_ns is None else self.wake_ns - skew_ns,
            skew_ns=skew_ns,
            polls=tuple(PlannedPoll(poll, each.due_ns, each.every_ns) for poll, each in self._polling.items()),
            polled_until_ns=tuple((step, ns) for step, ns in self.polled_until_ns.items() if ns > now_ns),
            hastened=tuple(self._hastened),
        )

    # --- Calls ---

    async def _call(self, call: Call, request: Request) -> None:
        reply = await self._ask(request, Failpoint.DISPATCH_BEFORE_CALL, Failpoint.DISPATCH_AFTER_REPLY)
        self._in_flight -= 1
        self._give(Replied(call.step, call.operation, call.attempt, reply, self._world.jitter()))

    async def _ask(self, request: Request, before: Failpoint, after: Failpoint) -> Reply:
        try:
            await _reach(before, request)
            reply = await self._world.caller.call(request)
            await _reach(after, request)
            return reply
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

    def _poll_what_is_due(self, saga: Saga, polls: Sequence[Poll], now_ns: int) -> int | None:
        """Returns when the next poll is due."""
        self._polling = {poll: self._polling.get(poll) or _first(poll, now_ns) for poll in polls}
        for poll, polling in self._polling.items():
            if not polling.in_flight and (polling.due_ns <= now_ns or poll.step in self._hastened):
                self._hastened.discard(poll.step)
                self._start_poll(saga, poll, now_ns)
                polling.in_flight = True
        return earliest(*(polling.due_ns for polling in self._polling.values() if not polling.in_flight))

    def _start_poll(self, saga: Saga, poll: Poll, now_ns: int) -> None:
        request = request_of(saga, self._program, poll.step, poll.operation, poll.attempt, poll.timeout_ns)
        before_ns = self.polled_until_ns.get(poll.step, 0)
        if poll.operation == OPERATION_EXECUTE:
            self.polled_until_ns[poll.step] = max(before_ns, now_ns + poll.timeout_ns)
        self._in_flight += 1
        self._world.tasks.spawn(self._poll(poll, request, before_ns))

    async def _poll(self, poll: Poll, request: Request, before_ns: int) -> None:
        reply = await self._ask(request, Failpoint.POLL_BEFORE_CALL, Failpoint.POLL_AFTER_REPLY)
        self._in_flight -= 1
        if poll.operation == OPERATION_EXECUTE and (not isinstance(reply, Unknown) or reply.answered):
            self.polled_until_ns[poll.step] = before_ns  # an earlier poll that nobody answered still counts
        polling = self._polling.get(poll)
        if polling is not None:
            if isinstance(reply, Accepted):
                polling.every_ns = reply.poll_after_ns
            polling.due_ns = self._now_ns() + polling.every_ns
            polling.in_flight = False
        self._give(Replied(poll.step, poll.operation, poll.attempt, reply, self._world.jitter()))

    # --- The timer ---

    def look_at(self, instant_ns: int | None, now_ns: int) -> None:
        """Ask for another look at that instant, and at none that was said before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if instant_ns is not None:
            delay_s = max(instant_ns - now_ns, 0) / limits.SECOND_NS
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._give, None)


def _to_nobody(_given: Input | None) -> None:
    """What comes of a call when the saga has ended, or stands FAILED: the journal says already how."""


def _reach(point: Failpoint, request: Request) -> Awaitable[None]:
    context = request.context
    return failpoints.reached(point, sagas=(context.saga_id,), step=context.step, operation=request.operation)


def _first(poll: Poll, now_ns: int) -> _Polling:
    return _Polling(now_ns + poll.every_ns, poll.every_ns)
