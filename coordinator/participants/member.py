"""One participant as the directory holds it: its connection, and what it last said of itself.

A participant that is down is no error here: it is asked again when its connection comes up, and until it has given a
description that can be used.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import grpc

from coordinator.core import limits
from coordinator.core.inputs import Reply
from coordinator.core.instants import to_duration, to_timestamp
from coordinator.participants import limited, replies
from coordinator.participants.breaker import Breaker
from coordinator.participants.call import Call
from coordinator.participants.channel import CallEndedError, Connect, ParticipantChannel, end
from coordinator.participants.description import InvalidDescriptionError, read_description, without_descriptors
from coordinator.participants.exchange import NotSentError
from coordinator.participants.lane import Lane
from saga.v1.coordinator_pb2 import (
    PARTICIPANT_STATE_READY,
    PARTICIPANT_STATE_UNDESCRIBED,
    PARTICIPANT_STATE_UNREACHABLE,
    Participant,
    ParticipantState,
    ParticipantTraffic,
)
from saga.v1.participant_pb2 import DescribeResponse

_DESCRIBE_BACKOFF_MAX_S: Final = limits.CONNECT_BACKOFF_MAX_NS / limits.SECOND_NS
_DESCRIBE_BACKOFF_S: Final = 0.1  # doubled with every failure


class Member:
    """One participant. `on_change` is called whenever its description has become another.

    `fast_lane`: its calls go over Exchange, where it offers that and while a stream is up. To be made in the event loop
    that it is used in: it connects at once.
    """

    def __init__(
        self,
        name: str,
        target: str,
        connect: Connect,
        on_change: Callable[[], None],
        *,
        calls_max: int = limits.CALLS_PER_PARTICIPANT_MAX,
        fast_lane: bool = True,
    ) -> None:
        self.name = name
        self.target = target
        self.description: DescribeResponse | None = None
        self.problems: tuple[str, ...] = ()
        self.last_failure = ""
        self._describe_time_ns: int | None = None
        self._on_change = on_change
        self._channel = ParticipantChannel(connect(target), calls_max)
        self._breaker = Breaker(name, self._channel.is_up)
        self._lane = Lane(name, self._channel.exchange) if fast_lane else None
        self._keeper: asyncio.Task[None] | None = None
        self._describing = asyncio.Lock()

    async def start(self) -> None:
        """Asks for a description once, for a limited time; from then on whenever it is due."""
        described = await self.describe()
        self._keeper = asyncio.create_task(self._keep_described(described))

    async def close(self) -> None:
        """Ends the connection. Calls in flight end unknown."""
        try:
            if self._keeper is not None:
                await end(self._keeper)
        finally:
            if self._lane is not None:
                await self._lane.close()
            await self._channel.close()

    @property
    def state(self) -> ParticipantState.ValueType:
        """Whether it can be used now."""
        if self.description is None:
            return PARTICIPANT_STATE_UNDESCRIBED
        return PARTICIPANT_STATE_READY if self._channel.is_up() else PARTICIPANT_STATE_UNREACHABLE

    def snapshot(self) -> Participant:
        """What an operator is shown, without descriptors."""
        described_ns = self._describe_time_ns
        return Participant(
            name=self.name,
            target=self.target,
            state=self.state,
            description=without_descriptors(self.description) if self.description else None,
            describe_time=None if described_ns is None else to_timestamp(described_ns),
            last_failure=self.last_failure,
            problems=self.problems,
            fast_lane=self._lane is not None and self._lane.stream is not None,
            traffic=self._traffic(),
        )

    @property
    def behind_s(self) -> float:
        """For how long the first of the calls that wait for a place does; 0 where none waits."""
        return self._channel.places.behind_s

    def _traffic(self) -> ParticipantTraffic:
        places, breaker = self._channel.places, self._breaker
        until_ns = breaker.open_until_ns
        return ParticipantTraffic(
            calls_max=places.most,
            calls_in_flight=places.taken,
            calls_waiting=places.waiting,
            behind=to_duration(int(places.behind_s * limits.SECOND_NS)),
            breaker=breaker.state,
            calls_held=breaker.held,
            open_until=None if until_ns is None else to_timestamp(until_ns),
            unanswered_calls=breaker.unanswered,
        )

    async def describe(self) -> bool:
        """Asks for a description now, one question at a time; whether the answer can be used.

        A description that cannot be used leaves the earlier one standing.
        """
        async with self._describing:
            try:
                description = read_description(await self._channel.describe())
            except grpc.aio.AioRpcError as error:
                self.last_failure = _text(error)
            except CallEndedError as error:
                self.last_failure = limited.message(f"{error.code.name}: {error.message}")
            except InvalidDescriptionError as error:
                self.problems = error.problems
                self.last_failure = limited.message(f"its description cannot be used: {error}")
            else:
                self._take(description)
                return True
            return False

    async def call(self, call: Call) -> Reply:
        """Makes the call, once it may go out; whatever happens is a reply."""
        return await self._breaker.through(call, self._make)

    async def _make(self, call: Call) -> Reply:
        try:
            return await self._channel.in_place(call.timeout_ns, partial(self._send, call))
        except grpc.aio.AioRpcError as error:
            if not self._channel.is_up():
                self.last_failure = _text(error)
            return replies.read_error(call, error)
        except CallEndedError as error:
            if error.code is grpc.StatusCode.UNAVAILABLE and not self._channel.is_up():
                self.last_failure = limited.message(f"{error.code.name}: {error.message}")
            return replies.read_status(call, error.code, error.message)

    async def _send(self, call: Call, deadline_s: float) -> Reply:
        """Over the fast lane; where that does not take the call, by a unary one."""
        barriered = self.description is not None and self.description.barriered
        stream = None if self._lane is None else self._lane.stream
        if stream is not None:
            with suppress(NotSentError):
                return replies.read_answer(call, await stream.post(call, deadline_s), barriered=barriered)
        body = await self._channel.call(call.method, call.request(), deadline_s=deadline_s, metadata=call.headers)
        return replies.read_body(call, body, barriered=barriered)

    def _take(self, description: DescribeResponse) -> None:
        self.problems = ()
        self.last_failure = ""
        self._describe_time_ns = time.time_ns()
        if self._lane is not None:
            self._lane.offer(description.exchange if description.HasField("exchange") else None)
        if description != self.description:
            self.description = description
            self._on_change()

    async def _keep_described(self, described: bool) -> None:
        """Asks again on every new connection; where that failed, also after a while."""
        seen = self._channel.observe() if described else 0
        wait_s = None if described else _DESCRIBE_BACKOFF_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    seen = await self._channel.came_up(after=seen)
            if await self.describe():
                wait_s = None
            else:
                wait_s = min(2 * wait_s, _DESCRIBE_BACKOFF_MAX_S) if wait_s else _DESCRIBE_BACKOFF_S


def _text(error: grpc.aio.AioRpcError) -> str:
    return limited.message(f"{error.code().name}: {error.details()}")
