"""ParticipantService: a coordinator is a participant too, whose actions are its definitions (rule 9).

Whoever runs a saga elsewhere can have one of this coordinator as a step of it. This module must not know what a child
does; that is the engine's.
"""

from __future__ import annotations

from coordinator.api import validation
from coordinator.api.rpc import Caller
from coordinator.api.validation import demand
from coordinator.engine.children import Children
from coordinator.engine.definitions import Definitions
from saga.v1 import participant_pb2 as pb


class ParticipantService:
    """Implements saga.v1.ParticipantService, without the fast lane."""

    def __init__(self, children: Children, definitions: Definitions) -> None:
        self._children = children
        self._definitions = definitions

    async def Execute(self, request: pb.ExecuteRequest, _caller: Caller) -> pb.ExecuteResponse:  # noqa: N802
        """Start a saga as a step of another, or say how it stands."""
        demand(validation.check_step_request(request))
        return await self._children.execute(request)

    async def Compensate(self, request: pb.CompensateRequest, _caller: Caller) -> pb.CompensateResponse:  # noqa: N802
        """Have it go back."""
        demand(validation.check_step_request(request))
        return await self._children.compensate(request)

    async def Confirm(self, request: pb.ConfirmRequest, _caller: Caller) -> pb.ConfirmResponse:  # noqa: N802
        """Make its holds final."""
        demand(validation.check_step_request(request))
        return await self._children.confirm(request)

    async def Describe(self, _request: pb.DescribeRequest, _caller: Caller) -> pb.DescribeResponse:  # noqa: N802
        """Name the definitions that take new sagas."""
        return (await self._definitions.offered()).description
