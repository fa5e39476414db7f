"""The Temporal dev server on a SQLite file, with driver and worker in one process.

    python -m benchmarks.peers.temporal --participants HOST:PORT --folder FOLDER

The server is a process below this one. Polls and slots are set for load, and the sandbox that re-imports workflow code
is off, which is faster. This module runs in Temporal's environment.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.load import serve
from benchmarks.peers.processes import ended, free_address
from benchmarks.peers.steps import Participants, Refused, run_steps

_QUEUE: Final = "bench"
_POLLS: Final = 10
_SLOTS: Final = 200
_READY_MAX_S: Final = 60.0
_LOOK_S: Final = 0.2
_STEP: Final[Any] = {
    "start_to_close_timeout": timedelta(seconds=60),
    "retry_policy": RetryPolicy(maximum_attempts=1),
}


class Activities:
    """The steps, as activities of the worker."""

    def __init__(self, participants: Participants) -> None:
        self._participants = participants

    @activity.defn
    async def execute(self, saga_id: str, number: int, refuse: bool) -> str:
        try:
            return await self._participants.execute(saga_id, number, refuse)
        except Refused as refused:
            raise ApplicationError(str(refused), non_retryable=True) from None

    @activity.defn
    async def compensate(self, saga_id: str, number: int, receipt: str) -> None:
        await self._participants.compensate(saga_id, number, receipt)


@workflow.defn
class Saga:
    """The saga, as a workflow."""

    @workflow.run
    async def run(self, saga_id: str, refuse: bool) -> bool:
        return await run_steps(
            lambda number: workflow.execute_activity_method(
                Activities.execute, args=[saga_id, number, refuse], **_STEP
            ),
            lambda number, receipt: workflow.execute_activity_method(
                Activities.compensate, args=[saga_id, number, receipt], **_STEP
            ),
            FailureError,
        )


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Client]:
    """The dev server, as long as the context is open."""
    address = free_address()
    host, _, port = address.rpartition(":")
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "temporal"), "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", host, "--port", port, "--db-filename", str(folder / "temporal.db")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "DO_NOT_TRACK": "1"},
    )
    try:
        yield await _connected(address)
    finally:
        await ended(process)


async def _connected(target: str) -> Client:
    """A client, once the default namespace is there: a little later than the port."""
    async with asyncio.timeout(_READY_MAX_S):
        while True:
            try:
                client = await Client.connect(target)
                async for _ in client.list_workflows():
                    pass
            except (RPCError, RuntimeError):
                await asyncio.sleep(_LOOK_S)
            else:
                return client


async def drive(participants: Participants, folder: Path) -> None:
    """Run server and worker, and answer loads."""
    activities = Activities(participants)
    async with (
        server(folder) as client,
        Worker(
            client,
            task_queue=_QUEUE,
            workflows=[Saga],
            activities=[activities.execute, activities.compensate],
            max_concurrent_activities=_SLOTS,
            max_concurrent_workflow_tasks=_SLOTS,
            max_concurrent_activity_task_polls=_POLLS,
            max_concurrent_workflow_task_polls=_POLLS,
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):

        async def run_saga(saga_id: str, refuse: bool) -> bool:
            ended = await client.execute_workflow(Saga.run, args=[saga_id, refuse], id=saga_id, task_queue=_QUEUE)
            return bool(ended)

        await serve(run_saga)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--participants", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the SDK logs a traceback for each refused activity
    asyncio.run(drive(Participants(asked.participants), asked.folder))


if __name__ == "__main__":
    main()
