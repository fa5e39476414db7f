"""All participants that the configuration names, what they offer, and the way to call them.

A client can never make the coordinator dial an address: targets come from the configuration alone. That one participant
is down stops neither the others nor the start.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from coordinator.core import limits
from coordinator.core.descriptors import WELL_KNOWN, Merged, merge
from coordinator.core.inputs import Reply
from coordinator.participants import limited, replies
from coordinator.participants.call import Call
from coordinator.participants.channel import Connect, insecure
from coordinator.participants.member import Member
from saga.v1.coordinator_pb2 import Participant
from saga.v1.participant_pb2 import DescribeResponse

_ALL: Final = ""  # the view of all participants, beside those of each


class UnknownParticipantError(Exception):
    """The configuration names no such participant."""


class DescribeFailedError(Exception):
    """The participant did not describe itself, or not in a way that can be used; the text says why."""


class Directory:
    """The participants by name; `async with` starts it and closes it.

    `targets` maps names to gRPC targets. `shared` are the files of message types that the coordinator itself brings:
    what participants mean by the same names is compared with them. `calls_max` says how many calls some of them take at
    a time, others than usual. `fast_lane` as of `Member`.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        shared: FileDescriptorSet = WELL_KNOWN,
        connect: Connect = insecure,
        calls_max: Mapping[str, int] | None = None,
        fast_lane: bool = True,
    ) -> None:
        self._targets = dict(sorted(targets.items()))
        self._shared = shared
        self._connect = connect
        self._calls_max = calls_max or {}
        self._fast_lane = fast_lane
        self._members: dict[str, Member] = {}
        self._listeners: list[Callable[[], None]] = []
        self._views: dict[str, Merged] = {}

    async def start(self) -> None:
        """Connects to all and asks each for its description, at most for the time that Describe may take."""
        for name, target in self._targets.items():
            calls_max = self._calls_max.get(name, limits.CALLS_PER_PARTICIPANT_MAX)
            self._members[name] = Member(
                name, target, self._connect, self._changed, calls_max=calls_max, fast_lane=self._fast_lane
            )
        async with asyncio.TaskGroup() as group:
            for member in self._members.values():
                group.create_task(member.start())

    async def close(self) -> None:
        """Ends all connections. Calls in flight end unknown."""
        await asyncio.gather(*(member.close() for member in self._members.values()))

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def participants(self) -> list[Participant]:
        """All participants as they are now, by name."""
        return [self.participant(name) for name in self._members]

    def participant(self, name: str) -> Participant:
        """A participant as it is now, without its descriptors.

        Raises:
            UnknownParticipantError: the configuration does not name it.
        """
        snapshot = self._member(name).snapshot()
        clashes = [str(clash) for clash in self.types().clashes if name in (clash.owner, clash.holder)]
        snapshot.problems.extend(limited.problems(clashes))
        return snapshot

    def descriptions(self) -> Mapping[str, DescribeResponse | None]:
        """What each participant last said of itself that can be used; None for one that has not yet."""
        return {name: member.description for name, member in self._members.items()}

    def types(self) -> Merged:
        """The shared types and those of all participants, as far as they agree."""
        return self._view(_ALL, list(self._members))

    def types_of(self, name: str) -> Merged:
        """The shared types and those of one participant, which may be none yet.

        Raises:
            UnknownParticipantError: the configuration does not name it.
        """
        return self._view(self._member(name).name, [name])

    def on_change(self, listener: Callable[[], None]) -> None:
        """Has `listener` called, at once and often, after a participant's description has become another."""
        self._listeners.append(listener)

    async def refresh(self, name: str) -> Participant:
        """Asks a participant to describe itself now.

        Raises:
            UnknownParticipantError: the configuration does not name it.
            DescribeFailedError: it did not, or not in a way that can be used.
        """
        member = self._member(name)
        if not await member.describe():
            raise DescribeFailedError(member.last_failure)
        return self.participant(name)

    def behind_s(self, name: str) -> float:
        """For how long the first of the calls that wait for a place of the participant does; 0 where none waits."""
        member = self._members.get(name)
        return 0.0 if member is None else member.behind_s

    async def call(self, call: Call) -> Reply:
        """Makes a call; whatever happens is a reply."""
        member = self._members.get(call.participant)
        if member is None:
            message = f"the configuration names no participant `{call.participant}`"
            return replies.read_status(call, grpc.StatusCode.UNAVAILABLE, message)
        return await member.call(call)

    def _member(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            raise UnknownParticipantError(f"the configuration names no participant `{name}`") from None

    def _view(self, key: str, names: list[str]) -> Merged:
        if key not in self._views:
            described = {name: self._members[name].description for name in names}
            sets = {name: given.descriptors for name, given in described.items() if given is not None}
            self._views[key] = merge(sets, self._shared)
        return self._views[key]

    def _changed(self) -> None:
        self._views.clear()
        for listener in self._listeners:
            listener()
