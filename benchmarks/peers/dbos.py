"""DBOS on SQLite: a library, so that driver and worker are one process.

    python -m benchmarks.peers.dbos --participants HOST:PORT --folder FOLDER

This module runs in DBOS's environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from benchmarks.load import run_fast, serve
from benchmarks.peers.steps import Participants, Refused, run_steps


async def drive(participants: Participants) -> None:
    """Register the steps and the saga, then answer loads."""

    async def execute_step(saga_id: str, number: int, refuse: bool) -> str:
        return await participants.execute(saga_id, number, refuse)

    async def compensate_step(saga_id: str, number: int, receipt: str) -> None:
        await participants.compensate(saga_id, number, receipt)

    execute, compensate = DBOS.step()(execute_step), DBOS.step()(compensate_step)

    async def saga(saga_id: str, refuse: bool) -> bool:
        return await run_steps(
            lambda number: execute(saga_id, number, refuse),
            lambda number, receipt: compensate(saga_id, number, receipt),
            Refused,
        )

    durable = DBOS.workflow()(saga)

    async def run_saga(saga_id: str, refuse: bool) -> bool:
        with SetWorkflowID(saga_id):
            return bool(await durable(saga_id, refuse))

    DBOS.launch()
    await serve(run_saga)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--participants", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    url = f"sqlite:///{asked.folder / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    try:
        run_fast(drive(Participants(asked.participants)))
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
