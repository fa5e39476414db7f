"""ParticipantDirectoryService: shows the participants that the configuration names, and the coordinator itself.

This module must not take a target from a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from coordinator.api.rpc import Caller
from coordinator.api.validation import demand
from coordinator.core.definition import BUILT_IN, Problem
from coordinator.engine.definitions import Definitions
from coordinator.participants import limited
from coordinator.participants.description import without_descriptors
from coordinator.participants.directory import Directory
from saga.v1 import coordinator_pb2 as pb

Problems = Callable[[], Awaitable[Mapping[str, Sequence[str]]]]


class DirectoryService:
    """Implements saga.v1.ParticipantDirectoryService.

    `problems` tells, by participant, what is wrong as others see it, beside what the directory knows of itself.
    """

    def __init__(self, directory: Directory, problems: Problems, definitions: Definitions) -> None:
        self._directory = directory
        self._problems = problems
        self._definitions = definitions

    async def ListParticipants(  # noqa: N802
        self, _request: pb.ListParticipantsRequest, _caller: Caller
    ) -> pb.ListParticipantsResponse:
        """List the participants, by name."""
        problems = await self._problems()
        participants = self._directory.participants()
        for participant in participants:
            participant.problems.extend(problems.get(participant.name, ()))
        participants.append(await self._built_in())
        return pb.ListParticipantsResponse(participants=sorted(participants, key=lambda each: each.name))

    async def RefreshParticipant(  # noqa: N802
        self, request: pb.RefreshParticipantRequest, _caller: Caller
    ) -> pb.RefreshParticipantResponse:
        """Ask a participant to describe itself again."""
        if not request.name:
            demand([Problem("name", "no participant is named", "the name of a participant in the configuration")])
        if request.name == BUILT_IN:
            return pb.RefreshParticipantResponse(participant=await self._built_in())
        participant = await self._directory.refresh(request.name)
        participant.problems.extend((await self._problems()).get(participant.name, ()))
        return pb.RefreshParticipantResponse(participant=participant)

    async def _built_in(self) -> pb.Participant:
        """The coordinator itself, whose actions are its definitions."""
        offer = await self._definitions.offered()
        return pb.Participant(
            name=BUILT_IN,
            state=pb.PARTICIPANT_STATE_READY,
            description=without_descriptors(offer.description),
            problems=limited.problems(offer.problems),
        )
