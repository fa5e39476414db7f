"""ParticipantDirectoryService: shows the participants that the configuration names.

This module must not take a target from a client.
"""

from __future__ import annotations

from coordinator.api.rpc import Caller
from coordinator.api.validation import demand
from coordinator.core.definition import Problem
from coordinator.participants.directory import Directory
from saga.v1 import coordinator_pb2 as pb


class DirectoryService:
    """Implements saga.v1.ParticipantDirectoryService."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def ListParticipants(  # noqa: N802
        self, _request: pb.ListParticipantsRequest, _caller: Caller
    ) -> pb.ListParticipantsResponse:
        """List the participants, by name."""
        return pb.ListParticipantsResponse(participants=self._directory.participants())

    async def RefreshParticipant(  # noqa: N802
        self, request: pb.RefreshParticipantRequest, _caller: Caller
    ) -> pb.RefreshParticipantResponse:
        """Ask a participant to describe itself again."""
        if not request.name:
            demand([Problem("name", "no participant is named", "the name of a participant in the configuration")])
        return pb.RefreshParticipantResponse(participant=await self._directory.refresh(request.name))
