"""The full run: `python -m tests.coordinator.explore --steps 4 --jobs 2`. Prints what was explored."""

from __future__ import annotations

import argparse
import sys
import time

from coordinator.explore.world import UNBOUNDED, Allowance
from tests.coordinator.explore.exhaustive import Bound, Counts, explore_each
from tests.support.long_runs import INTERRUPTED, at_least_one

# Sagas of more steps have too many paths to walk all of them: fewer things may go wrong on one path.
BOUNDS = {
    1: Bound(Allowance(crashes=1, cancels=1, inputs=1, failures=UNBOUNDED)),
    2: Bound(Allowance(crashes=1, cancels=1, inputs=1, failures=UNBOUNDED)),
    3: Bound(Allowance(crashes=1, cancels=1, inputs=1, failures=2)),
    4: Bound(Allowance(crashes=1, cancels=0, inputs=0, failures=1), barriered=(True,)),
}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, choices=BOUNDS, default=3, help="definitions of up to so many steps")
    parser.add_argument("--only", action="store_true", help="definitions of exactly so many steps")
    parser.add_argument("--failures", type=int, help=f"on one path, in place of the default; {UNBOUNDED}: any number")
    parser.add_argument("--jobs", type=at_least_one, default=1)
    given = parser.parse_args()
    size, counts = 0, Counts()
    try:
        for size in range(given.steps if given.only else 1, given.steps + 1):
            bound, begun_s, counts = _bound(size, given.failures), time.monotonic(), Counts()
            for each in explore_each(size, bound, given.jobs):
                counts.add(each)
            print(f"{size} steps, {told(bound)}: {counts}, {time.monotonic() - begun_s:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; of {size} steps so far: {counts}")
        return INTERRUPTED
    return 0


def _bound(size: int, failures: int | None) -> Bound:
    bound = BOUNDS[size]
    return bound if failures is None else Bound(bound.allowance._replace(failures=failures), bound.barriered)


def told(bound: Bound) -> str:
    """What may go wrong, in words."""
    crashes, cancels, inputs, failures = bound.allowance
    most = "any number of failures" if failures == UNBOUNDED else f"failures up to {failures}"
    barrier = "with and without barrier" if len(bound.barriered) > 1 else "with barrier"
    return f"{most}, crashes up to {crashes}, cancels {cancels}, failing inputs {inputs}, {barrier}"


if __name__ == "__main__":
    sys.exit(main())
