"""`python -m tests.simulation`: many seeds on several processes, or one with its transcript.

Exit code 1 where a seed failed; it is named with how to reproduce it. 130 where the run was interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import active_children

from tests.simulation.seeds import Run, run, without_collections
from tests.support.long_runs import INTERRUPTED, at_least_one, interrupts_held_back

CHUNK = 100
PROGRESS_S = 5.0


@dataclass
class Chunk:
    """What came of some seeds."""

    seeds: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    """The complaint of each seed that failed."""
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Chunk) -> None:
        """Both together."""
        self.seeds += other.seeds
        self.failed |= other.failed
        self.counts += other.counts


def chunk(first: int, length: int) -> Chunk:
    """The runs of so many seeds."""
    made = Chunk()
    with without_collections():
        for seed in range(first, first + length):
            result = run(seed)
            made.seeds += 1
            made.counts += result.counts
            if result.complaint:
                made.failed[seed] = result.complaint
    return made


def many(first: int, seeds: int | None, minutes: float | None, jobs: int, total: Chunk) -> None:
    """Seeds until there are enough, or the time is over, or one fails. `total` has at any time what came so far."""
    began_s = time.monotonic()
    until_s = began_s + 60 * minutes if minutes is not None else float("inf")
    rest = _chunks(first, seeds)
    shown_s = began_s
    pool = ProcessPoolExecutor(jobs)
    try:
        under_way: set[Future[Chunk]] = set()
        while True:
            goes_on = not total.failed and time.monotonic() < until_s
            while goes_on and len(under_way) < 2 * jobs and (next_chunk := next(rest, None)) is not None:
                with interrupts_held_back():  # the first one starts the workers
                    under_way.add(pool.submit(chunk, *next_chunk))
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for each in done:
                total.add(each.result())
            if time.monotonic() - shown_s >= PROGRESS_S:
                shown_s = time.monotonic()
                print(f"{total.seeds} seeds, {total.seeds / (shown_s - began_s):.0f}/s", flush=True)
    except KeyboardInterrupt:
        for worker in active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(first: int, seeds: int | None) -> Iterator[tuple[int, int]]:
    end = None if seeds is None else first + seeds
    for start in count(first, CHUNK):
        if end is not None and start >= end:
            return
        yield start, CHUNK if end is None else min(CHUNK, end - start)


def show(total: Chunk, took_s: float) -> None:
    """The counts, and what failed."""
    for name, number in sorted(total.counts.items()):
        print(f"  {name:42} {number:>12,}")
    rate = total.seeds / max(took_s, 0.001)
    print(f"{total.seeds:,} seeds in {took_s:.0f} s ({rate:.0f}/s), {len(total.failed)} failed")
    for seed, complaint in sorted(total.failed.items()):
        print(f"seed {seed}: {complaint}\n  reproduce: python -m tests.simulation --seed {seed}")


def one(seed: int) -> Run:
    """One seed, with its transcript, whatever came of it."""
    result = run(seed)
    print(result.transcript)
    print(f"seed {seed}: {result.complaint or 'everything held'}")
    return result


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=at_least_one, help="how many (1000 where no time is said)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--seed", type=int, help="this one alone, with its transcript")
    parser.add_argument("--minutes", type=float, help="for how long")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="processes")
    given = parser.parse_args()
    if given.seed is not None:
        return 1 if one(given.seed).complaint else 0
    seeds = given.seeds if given.seeds is not None or given.minutes is not None else 1000
    began_s = time.monotonic()
    total, is_interrupted = Chunk(), False
    try:
        many(given.first, seeds, given.minutes, given.jobs, total)
    except KeyboardInterrupt:
        is_interrupted = True
    show(total, time.monotonic() - began_s)
    if is_interrupted:
        print("interrupted; these are the counts so far")
        return INTERRUPTED
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
