"""The network between the coordinator and its participants, and what it does to each message.

A call is lost, answered too late or twice delivered as a tape says. What is on its way stays on its way when the
coordinator dies. gRPC's rule holds for the `kiosk`, which has no barrier: a server drops a call whose deadline passed,
and nothing but a retry delivers an Execute twice. Participants with a barrier are spared neither: a request may arrive
long after its deadline, after a restart of either side and after the step's Compensate.

This module must not know what a saga is; what it hears of the coordinator's calls it passes on to the court.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

import grpc

from coordinator.core.inputs import Reply, Unknown
from coordinator.core.limits import SECOND_NS
from coordinator.participants import replies
from coordinator.participants.call import Call
from participant_sdk.errors import CallError
from saga.v1.types_pb2 import OPERATION_EXECUTE, STEP_KIND_RESERVABLE
from tests.coordinator.core.simulation import CHOICES
from tests.coordinator.core.test_properties import Tape
from tests.simulation.court import Court, operation_name
from tests.simulation.genealogy import Genealogy
from tests.simulation.participants import NAMES, UNBARRIERED, Accepted, Participant
from tests.support.virtual_time import LoopClock

PLAIN: Final = "plain"
CHOICES_OF_HANDLERS: Final = [each for each in CHOICES if each != "connection lost"]
# How a handler answers. "done" is likely, so that sagas get far before they fail.
ANSWERS: Final = ["done"] * 24 + ["refused", "pending", "pending, and reported", *CHOICES_OF_HANDLERS]
ANSWERS_TO_LAST_WORDS: Final = [each for each in ANSWERS if each != "refused"] * 2 + ["refused"]
"""To Compensate and Confirm: a refusal calls for an operator, and most sagas should end without one."""
# When a handler does what it does, and how long it goes on, as shares of the time that the call has.
MOMENTS: Final = ["0"] * 7 + ["0.02", "0.1", "0.3", "0.6", "0.9", "1.2"]
DELAYS: Final = (0.05, 0.3, 0.7, 0.98)
REPORTS_AFTER_S: Final = ("0.1", "1", "1.9", "7", "45")
LATER_S: Final = (0.0, 0.3, 5.0, 60.0, 900.0)


class _Silence(Exception):
    """The message is gone, and nobody hears of it."""


class Network:
    """Carries calls to participants. What it has in its hands outlives the coordinator."""

    def __init__(
        self, family: Genealogy, tape: Tape, clock: LoopClock, court: Court, accepted: Callable[[Accepted], None]
    ) -> None:
        self.participants = {
            name: Participant(name, court.effect, accepted, court.last_words_refused.add, clock.now_ns)
            for name in NAMES
        }
        self.called = asyncio.Event()
        self.healed = False
        self.counts: Counter[str] = Counter()
        self._family = family
        self._tape = tape
        self._clock = clock
        self._court = court
        self._passages = [PLAIN] * family.scene.calm + list(family.scene.passages)
        self._cut: dict[str, float] = {}
        self._slow: dict[str, float] = {}
        self._calls: dict[int, tuple[str, str, int]] = {}
        """Of each Execute call that may be at work the saga, the step, and until when."""
        self._number = 0
        self._under_way: set[asyncio.Task[bytes]] = set()

    # --- What the forest does to it ---

    def partition(self, names: list[str], length_s: float) -> None:
        """Nothing gets through to these, nor back, for a while."""
        until_s = asyncio.get_running_loop().time() + length_s
        self._cut |= dict.fromkeys(names, until_s)

    def slow_down(self, name: str, length_s: float) -> None:
        """Its handlers take most of each call's time for a while."""
        self._slow[name] = asyncio.get_running_loop().time() + length_s

    def heal(self) -> None:
        """From here on every message gets through, and every handler does as it is asked."""
        self.healed = True
        self._cut.clear()
        self._slow.clear()
        for participant in self.participants.values():
            participant.recover()

    def jump(self, length_ns: int) -> None:
        """The coordinator's clock was set forward: to it, every deadline is that much nearer."""
        self._calls = {key: (saga, step, until - length_ns) for key, (saga, step, until) in self._calls.items()}

    def at_work(self, saga_id: str) -> list[str]:
        """The steps of which, for all that the coordinator can know, an Execute may be at work (G8)."""
        now_ns = self._clock.now_ns()
        return [step for owner, step, until_ns in self._calls.values() if owner == saga_id and now_ns < until_ns]

    # --- Calls ---

    async def call(self, call: Call) -> Reply:
        """Make one call; however it ends is a reply."""
        self.called.set()
        self.counts[f"calls: {operation_name(call).lower()}"] += 1
        passage = PLAIN if self.healed else self._tape.pick(self._passages)
        orders = self._orders(call)
        if passage != PLAIN:
            self.counts[f"network: {passage}"] += 1
            self._court.note(f"{call.context.saga_id:16} {passage}")
        number = self._begin(call)
        reply = await self._replied(call, passage, orders)
        if not isinstance(reply, Unknown) or reply.answered:
            self._calls.pop(number, None)
        return reply

    def _begin(self, call: Call) -> int:
        self._number += 1
        if call.operation == OPERATION_EXECUTE:
            until_ns = self._clock.now_ns() + call.timeout_ns
            self._calls[self._number] = (call.context.saga_id, call.context.step, until_ns)
        return self._number

    def _orders(self, call: Call) -> dict[str, str]:
        """What the handler is told to do."""
        answers = ANSWERS if call.operation == OPERATION_EXECUTE else ANSWERS_TO_LAST_WORDS
        choice = "done" if self.healed else self._tape.pick(answers)
        before = behind = "0"
        if not self.healed and (moment := self._tape.pick(MOMENTS)) != "0":
            before, behind = (moment, "0") if self._tape.pick([True, False]) else ("0", moment)
        if self._lasts(self._slow, call.participant):
            before = "0.8"
        if choice != "done":
            self.counts[f"answer: {choice}"] += 1
            self._court.note(f"{call.context.saga_id:16} is to be answered: {choice}")
        timeout_s = call.timeout_ns / SECOND_NS
        orders = {"choice": choice.removesuffix(", and reported"), "idempotency-key": call.context.idempotency_key}
        orders["before"] = "0" if before == "0" else str(float(before) * timeout_s)
        orders["behind"] = "0" if behind == "0" else str(float(behind) * timeout_s)
        hold_ns = self._family.hold_ns(call.context.saga_id, call.context.step)
        if hold_ns is not None and call.context.kind == STEP_KIND_RESERVABLE:
            orders["hold_until_ns"] = str(self._clock.now_ns() + hold_ns)
        if choice.endswith("reported") and call.operation == OPERATION_EXECUTE:
            orders["report_after"] = self._tape.pick(REPORTS_AFTER_S)
        return orders

    async def _replied(self, call: Call, passage: str, orders: dict[str, str]) -> Reply:
        try:
            async with asyncio.timeout(call.timeout_ns / SECOND_NS):
                try:
                    body = await self._pass(call, passage, orders)
                except _Silence:
                    await asyncio.Event().wait()
        except TimeoutError:
            return replies.read_status(call, grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")
        except CallError as error:
            return replies.read_status(call, error.code, error.message, reason=error.reason)
        return replies.read_body(call, body, barriered=call.participant != UNBARRIERED)

    async def _pass(self, call: Call, passage: str, orders: dict[str, str]) -> bytes:
        if passage == "request lost":
            raise _reset()
        if passage == "request lost in silence":
            raise _Silence
        timeout_s = call.timeout_ns / SECOND_NS
        delay_s = timeout_s * self._tape.pick(DELAYS) if passage == "request delayed" else 0.0
        late = passage == "arrives after its deadline"
        if late:
            delay_s = timeout_s + self._tape.pick(LATER_S)
        delivery = self._deliver(call, orders, delay_s, late=late)
        if passage.startswith("delivered") and call.participant != UNBARRIERED:
            again_s = self._tape.pick(LATER_S) if passage == "delivered again later" else 0.0
            self._deliver(call, orders, again_s, late=passage == "delivered again later")
        if passage == "reset under way":
            raise _reset()
        body = await asyncio.shield(delivery)
        if passage == "reply lost":
            raise _reset()
        if passage == "reply lost in silence" or self._lasts(self._cut, call.participant):
            raise _Silence
        if passage == "reply delayed":
            await asyncio.sleep(timeout_s * self._tape.pick(DELAYS))
        return body

    # --- What is on its way ---

    def _deliver(self, call: Call, orders: dict[str, str], delay_s: float, *, late: bool) -> asyncio.Task[bytes]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + call.timeout_ns / SECOND_NS
        delivery = loop.create_task(self._delivered(call, orders, delay_s, None if late else until_s))
        self._under_way.add(delivery)
        delivery.add_done_callback(self._ended)
        return delivery

    async def _delivered(self, call: Call, orders: dict[str, str], delay_s: float, until_s: float | None) -> bytes:
        """`until_s`: the deadline that the participant honours; None: it does not care."""
        loop = asyncio.get_running_loop()
        if delay_s:
            await asyncio.sleep(delay_s)
        if self._lasts(self._cut, call.participant) or (until_s is None and call.participant == UNBARRIERED):
            raise _Silence
        timeout_s = None if until_s is None else until_s - loop.time()
        if timeout_s is not None and timeout_s <= 0:
            raise _Silence
        if delay_s:
            self._court.note(f"{call.context.saga_id:16} {call.context.step} {operation_name(call).lower()} arrives")
        return await self.participants[call.participant].answer(call.message(), orders, timeout_s)

    def _ended(self, delivery: asyncio.Task[bytes]) -> None:
        self._under_way.discard(delivery)
        if not delivery.cancelled():
            delivery.exception()  # of those that nobody waits for any more it is nobody's

    async def drained(self) -> None:
        """Return when nothing is on its way any more."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _lasts(self, until_s: dict[str, float], name: str) -> bool:
        return asyncio.get_running_loop().time() < until_s.get(name, 0.0)


def _reset() -> CallError:
    return CallError(grpc.StatusCode.UNAVAILABLE, "", "connection reset")
