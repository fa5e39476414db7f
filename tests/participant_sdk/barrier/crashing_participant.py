"""Started by test_sqlite_store as a process of its own: enters a handler, says so, and waits to be killed."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Step
from tests.participant_sdk.support import External, Scripted, Stores, struct


async def main(path: Path, kind: str, name: str) -> None:
    stores = Stores(kind, path.parent)
    action = External() if name == "External" else Scripted()

    async def stops(step: Step[Any]) -> StringValue:
        if name == "Scripted":
            await stores.write(step.transaction, "half")
        print("inside the handler", flush=True)
        await asyncio.Event().wait()
        raise AssertionError

    action.on_execute = stops
    async with stores.harness(action) as harness:
        await harness.execute(struct(sku="book"), saga_uid="u")


asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
