"""What the processes of all sample services have in common: how they are started, and how they name their rows.

This module must not know any one sample.
"""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from participant_sdk import Participant, Step

Listen: TypeAlias = Annotated[str, typer.Option(help="Where to serve, as HOST:PORT. Port 0 picks a free one.")]
Database: TypeAlias = Annotated[Path, typer.Option(help="The service's SQLite file, made on the first start.")]

KEY_RETENTION: Final = timedelta(days=400)
"""How long each service promises to remember idempotency keys; none of them ever deletes one."""


def serve(participant: Participant, listen: str) -> None:
    """Serve until SIGTERM or SIGINT. Prints `listening on HOST:PORT` once calls are taken."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(participant.serve(listen, on_ready=lambda address: typer.echo(f"listening on {address}")))


def reference(step: Step) -> str:
    """Name what a step of a saga writes: the same in Execute, Compensate and Confirm, and never used twice.

    A business key such as an order number would not do: a second saga may be started for the same order.
    """
    return f"{step.saga_uid}/{step.name}"
