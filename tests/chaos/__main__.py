"""`python -m tests.chaos`: what `make chaos` runs. Exits 0 where nothing was lost, doubled or untrue.

Rounds are played one after the other, each on a new system and with the next seed, until the time is over. Processes
are real, so a seed does not make a round the same again: it makes the same wishes and the same plan of faults.
"""

import asyncio
import math
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from tests.chaos.report import Report
from tests.chaos.run import Round, play

_ROUND_MAX_S: Final = 120.0
_FAILED: Final = 1


def main(
    minutes: Annotated[float, typer.Option(min=0.1, max=10_000, help="How long things go wrong, all rounds.")] = 2,
    seed: Annotated[int, typer.Option(help="The first round's.")] = 1,
    accounts: Annotated[int, typer.Option(min=1, max=10_000, help="Customers of each bank.")] = 50,
    clients: Annotated[int, typer.Option(min=1, max=256, help="Programs that make transfers.")] = 100,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not tell what is done, only what it came to.")] = False,
) -> None:
    """Transfer money while everything fails, and check that none is lost or made."""
    rounds = math.ceil(minutes * 60 / _ROUND_MAX_S)
    total = Report()
    for number in range(rounds):
        round_ = Round(seed + number, minutes * 60 / rounds, accounts, clients)
        report = _play(round_, quiet=quiet)
        total += report
        if report.problems:
            break
    for line in total.lines():
        typer.echo(line)
    raise typer.Exit(_FAILED if total.problems else 0)


def _play(round_: Round, *, quiet: bool) -> Report:
    """Play a round in a directory of its own, which goes away where all was well."""
    directory = Path(tempfile.mkdtemp(prefix=f"saga-chaos-{round_.seed}-"))
    typer.echo(f"seed {round_.seed}, {round_.seconds:.0f} s, files in {directory}")
    with (directory / "chaos.log").open("w", encoding="utf-8") as file:

        def log(line: str) -> None:
            file.write(line + "\n")
            if not quiet:
                typer.echo(line)

        report = asyncio.run(play(round_, directory, log))
    if report.problems:
        typer.echo(f"seed {round_.seed}: something is wrong; the files stay, with what is known of it in chaos.log")
    else:
        shutil.rmtree(directory)
    return report


if __name__ == "__main__":
    typer.run(main)
