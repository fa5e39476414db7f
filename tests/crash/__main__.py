"""The whole crash matrix, with a line of progress, and a table at the end: `python -m tests.crash`."""

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.crash.line import Counts
from tests.crash.pieces import all_pieces
from tests.crash.stage import play


def main(
    lines: Annotated[int, typer.Option(min=1, help="How many coordinators run at a time.")] = (os.cpu_count() or 1) + 1,
) -> None:
    console, begun, pieces = Console(), time.monotonic(), list(all_pieces())
    console.print(f"{len(pieces)} pieces on {lines} lines")
    with tempfile.TemporaryDirectory() as directory, console.status("") as status:
        counts = asyncio.run(play(Path(directory), pieces, lines, lambda counts: status.update(str(counts))))
    for violation in counts.violations:
        console.print(violation, markup=False, highlight=False)
    console.print(_table(counts, time.monotonic() - begun))
    sys.exit(1 if counts.violations or not counts.kills else 0)


def _table(counts: Counts, seconds: float) -> Table:
    table = Table("crash matrix", "count")
    for name, value in asdict(counts).items():
        table.add_row(name, str(len(value) if isinstance(value, list) else value))
    table.add_row("seconds", f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    typer.run(main)
