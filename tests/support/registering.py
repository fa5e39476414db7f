"""Registers definitions from their files, without the command line: its start costs as much as a service's.

That `saga definition apply` does the same is what its own tests show.
"""

from pathlib import Path
from typing import Any

import grpc

from coordinator.dataflow.yamlform import load
from saga.v1.definition_pb2 import RegisterDefinitionRequest
from saga.v1.definition_pb2_grpc import DefinitionServiceStub

_PATIENCE_S = 60.0


async def register(address: str, *files: Path) -> None:
    """Register definitions in this order, at the coordinator that serves there. Errors: `AioRpcError`."""
    async with grpc.aio.insecure_channel(address) as channel:
        definitions: Any = DefinitionServiceStub(channel)  # Any: the stubs are annotated for the synchronous API
        for file in files:
            definition = load(file.read_text(encoding="utf-8"), file.name).definition
            await definitions.RegisterDefinition(RegisterDefinitionRequest(definition=definition), timeout=_PATIENCE_S)
