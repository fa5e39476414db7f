"""The full run: `python -m tests.coordinator.explore --steps 4 --jobs 2`. Prints what was explored."""

from __future__ import annotations

import argparse
import time

from coordinator.explore.world import UNBOUNDED, Allowance
from tests.coordinator.explore.exhaustive import Bound, explore_all

# How many failures a path has at most; sagas of more steps have too many paths to walk all of them.
FAILURES = {1: UNBOUNDED, 2: 3, 3: 1, 4: 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, choices=FAILURES, default=3, help="definitions of up to so many steps")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--failures", type=int, help=f"on one path; {UNBOUNDED}: any number")
    parser.add_argument("--cancels", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=1, help="how many inputs fail on the saga's data, on one path")
    parser.add_argument("--only", action="store_true", help="definitions of exactly so many steps")
    given = parser.parse_args()
    for size in range(given.steps if given.only else 1, given.steps + 1):
        failures = FAILURES[size] if given.failures is None else given.failures
        bound = Bound(Allowance(1, given.cancels, given.inputs, failures), (True, False) if size < 4 else (True,))
        begun = time.monotonic()
        counts = explore_all(size, bound, given.jobs)
        most = "any number of failures" if failures == UNBOUNDED else f"up to {failures} failures"
        print(f"{size} steps, {most}: {counts}, {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
