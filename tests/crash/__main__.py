"""The crash matrix, with a line of progress now and then, and a table at the end: `python -m tests.crash`."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tests.crash.line import Counts
from tests.crash.pieces import all_pieces
from tests.crash.stage import play

_TELL_EVERY_S: Final = 10.0


class _Progress:
    """Tells how far it is, every few seconds."""

    def __init__(self, console: Console, pieces: int) -> None:
        self.begun = time.monotonic()
        self._console = console
        self._pieces = pieces
        self._played = 0
        self._told = self.begun

    def __call__(self, counts: Counts) -> None:
        self._played += 1
        if time.monotonic() - self._told > _TELL_EVERY_S:
            self._told = time.monotonic()
            self._console.print(f"{self._played} of {self._pieces} pieces: {counts}", highlight=False, soft_wrap=True)


def main(
    lines: Annotated[int, typer.Option(min=1, help="How many coordinators run at a time.")] = (os.cpu_count() or 1) + 1,
    times: Annotated[int, typer.Option(min=1, help="Kill at the first so many times that a point is reached.")] = 100,
    unary: Annotated[bool, typer.Option("--unary", help="Call the participant by unary calls alone.")] = False,
) -> None:
    """Play every failpoint × every shape that reaches it × kill, raise and delay. Exits with 1 where one goes wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no process is left behind
    console, pieces = Console(), list(all_pieces(times, fast_lane=not unary))
    progress = _Progress(console, len(pieces))
    with tempfile.TemporaryDirectory() as directory:
        counts = asyncio.run(play(Path(directory), pieces, lines, progress, fast_lane=not unary))
    for violation in counts.violations:
        console.print(violation, markup=False, highlight=False)
    console.print(_table(counts, time.monotonic() - progress.begun))
    sys.exit(1 if counts.violations or not counts.kills else 0)


def _table(counts: Counts, seconds: float) -> Table:
    table = Table("crash matrix", "count")
    for name, value in asdict(counts).items():
        table.add_row(name, str(len(value) if isinstance(value, list) else value))
    table.add_row("seconds", f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    typer.run(main)
