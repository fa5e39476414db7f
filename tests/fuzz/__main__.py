"""`python -m tests.fuzz [--minutes N | --examples N] [--seed S]`: the fuzz at length, new requests in every round.

Each round draws from a seed of its own, one higher than the last; a failure names it, with the request, and
`--seed S --examples N` draws the same choices again. Uids, page tokens and what time does are the new run's own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tests.support.long_runs import INTERRUPTED

_TESTS = Path(__file__).parent


def main(
    minutes: Annotated[float, typer.Option(help="Begin no further round after so many minutes; 0: one round.")] = 0,
    examples: Annotated[int, typer.Option(min=1, help="How many requests each test of a round draws.")] = 200,
    seed: Annotated[int | None, typer.Option(help="The first round's seed; a new one where none is given.")] = None,
) -> None:
    """Fuzz every RPC, definitions, expressions, participants' answers and the command line's JSON."""
    first = seed if seed is not None else random.SystemRandom().randrange(1 << 31)
    end = time.monotonic() + minutes * 60
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        chosen = first + rounds
        print(f"seed {chosen}, {examples} requests for each test", flush=True)
        environment = {**os.environ, "SAGA_PROPERTY_EXAMPLES": str(examples), "SAGA_FUZZ_SEED": str(chosen)}
        try:
            code = _round(environment)
        except KeyboardInterrupt:
            print(f"interrupted; {rounds} whole rounds from seed {first} on: nothing was found")
            raise typer.Exit(INTERRUPTED) from None
        if code:
            print(f"again: python -m tests.fuzz --seed {chosen} --examples {examples}")
            raise typer.Exit(code)
        rounds += 1
    print(f"{rounds} rounds with the seeds {first} to {first + rounds - 1}: nothing was found")


def _round(environment: dict[str, str]) -> int:
    """Runs the tests once and returns pytest's exit code. Interrupted, it lets pytest end its servers first."""
    # In a session of its own: pytest must hear of Ctrl-C once only, or it leaves the tests' clean-up half done.
    process = subprocess.Popen([sys.executable, "-m", "pytest", str(_TESTS)], env=environment, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


if __name__ == "__main__":
    typer.run(main)
