"""DefinitionService: keeps the versions of every definition.

This module must not check a definition; that is the dataflow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.api import validation
from coordinator.api.paging import fitting, page_size, place, token
from coordinator.api.rpc import Caller
from coordinator.api.validation import demand
from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.core.instants import to_timestamp
from coordinator.engine.definitions import Definitions
from coordinator.engine.loaded import LoadedDefinition
from coordinator.journal.port import DefinitionCursor, Journal
from saga.v1 import definition_pb2 as pb

_PLACE: Final = (str, int)


class DefinitionService:
    """Implements saga.v1.DefinitionService."""

    def __init__(self, definitions: Definitions, journal: Journal) -> None:
        self._definitions = definitions
        self._journal = journal

    async def RegisterDefinition(  # noqa: N802
        self, request: pb.RegisterDefinitionRequest, _caller: Caller
    ) -> pb.RegisterDefinitionResponse:
        """Check a definition and store it."""
        registered = await self._definitions.register(request.definition)
        return pb.RegisterDefinitionResponse(
            definition=registered.loaded.definition,
            metadata=await self._metadata(registered.loaded),
            created=registered.created,
        )

    async def ValidateDefinition(  # noqa: N802
        self, request: pb.ValidateDefinitionRequest, _caller: Caller
    ) -> pb.ValidateDefinitionResponse:
        """Check a definition; problems are the answer."""
        problems = await self._definitions.validate(request.definition)
        return pb.ValidateDefinitionResponse(problems=[_view_of_problem(problem) for problem in problems])

    async def GetDefinition(  # noqa: N802
        self, request: pb.GetDefinitionRequest, _caller: Caller
    ) -> pb.GetDefinitionResponse:
        """Show one version, with its types."""
        demand(_check_name(request.name))
        loaded = await self._definitions.get(request.name, request.version)
        return pb.GetDefinitionResponse(
            definition=loaded.definition,
            metadata=await self._metadata(loaded),
            descriptors=loaded.pinned.descriptors,
        )

    async def ListDefinitions(  # noqa: N802
        self, request: pb.ListDefinitionsRequest, _caller: Caller
    ) -> pb.ListDefinitionsResponse:
        """List versions by name, newest first."""
        demand(validation.check_page_size(request.page_size))
        after = place(request.page_token, request.name, _PLACE)
        cursor = DefinitionCursor(str(after[0]), int(after[1])) if after is not None else None
        size = page_size(request.page_size, limits.DEFINITIONS_PAGE_SIZE_DEFAULT)
        page = await self._journal.list_definitions(request.name, cursor, size)
        unfinished = await self._journal.count_unfinished()
        entries = []
        for stored in page.items:
            loaded = await self._definitions.load(stored)
            entries.append(
                pb.DefinitionEntry(definition=loaded.definition, metadata=_view_of_metadata(loaded, unfinished))
            )
        shown = entries[: fitting(entries)]
        more = page.next is not None or len(shown) < len(entries)
        rest = (shown[-1].definition.name, shown[-1].definition.version) if more else None
        return pb.ListDefinitionsResponse(definitions=shown, next_page_token=token(rest, request.name))

    async def DeprecateDefinition(  # noqa: N802
        self, request: pb.DeprecateDefinitionRequest, _caller: Caller
    ) -> pb.DeprecateDefinitionResponse:
        """Stop new sagas on a version."""
        problems = _check_name(request.name)
        if request.version == 0:
            problems.append(Problem("version", "no version is named", "the version to deprecate"))
        demand(problems)
        loaded = await self._definitions.deprecate(request.name, request.version)
        return pb.DeprecateDefinitionResponse(definition=loaded.definition, metadata=await self._metadata(loaded))

    async def _metadata(self, loaded: LoadedDefinition) -> pb.DefinitionMetadata:
        return _view_of_metadata(loaded, await self._journal.count_unfinished())


def _check_name(name: str) -> list[Problem]:
    return [] if name else [Problem("name", "no definition is named", "the name of a registered definition")]


def _view_of_metadata(loaded: LoadedDefinition, unfinished: Mapping[tuple[str, int], int]) -> pb.DefinitionMetadata:
    return pb.DefinitionMetadata(
        create_time=to_timestamp(loaded.stored.create_time_ns),
        deprecated=loaded.stored.deprecated,
        digest=loaded.stored.digest,
        unfinished_saga_count=unfinished.get((loaded.stored.name, loaded.stored.version), 0),
    )


def _view_of_problem(problem: Problem) -> pb.DefinitionProblem:
    return pb.DefinitionProblem(
        path=problem.path,
        line=problem.line,
        column=problem.column,
        message=problem.message,
        expected=problem.expected,
    )
