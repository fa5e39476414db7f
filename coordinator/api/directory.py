"""ParticipantDirectoryService: shows the participants that the configuration names.

This module must not take a target from a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from coordinator.api.rpc import Caller
from coordinator.api.validation import demand
from coordinator.core.definition import Problem
from coordinator.participants.directory import Directory
from saga.v1 import coordinator_pb2 as pb

Problems = Callable[[], Awaitable[Mapping[str, Sequence[str]]]]


class DirectoryService:
    """Implements saga.v1.ParticipantDirectoryService.

    `problems` tells, by participant, what is wrong as others see it, beside what the directory knows of itself.
    """

    def __init__(self, directory: Directory, problems: Problems) -> None:
        self._directory = directory
        self._problems = problems

    async def ListParticipants(  # noqa: N802
        self, _request: pb.ListParticipantsRequest, _caller: Caller
    ) -> pb.ListParticipantsResponse:
        """List the participants, by name."""
        problems = await self._problems()
        participants = self._directory.participants()
        for participant in participants:
            participant.problems.extend(problems.get(participant.name, ()))
        return pb.ListParticipantsResponse(participants=participants)

    async def RefreshParticipant(  # noqa: N802
        self, request: pb.RefreshParticipantRequest, _caller: Caller
    ) -> pb.RefreshParticipantResponse:
        """Ask a participant to describe itself again."""
        if not request.name:
            demand([Problem("name", "no participant is named", "the name of a participant in the configuration")])
        participant = await self._directory.refresh(request.name)
        participant.problems.extend((await self._problems()).get(participant.name, ()))
        return pb.RefreshParticipantResponse(participant=participant)
