"""Mixed sagas among faults, from numbers; and that a number decides everything (G1-G8, G10, G12, rules 6, 9, 11).

`python -m tests.simulation --seeds 100000` goes on for longer; SAGA_SIMULATION_SEEDS says how many are run here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.__main__ import chunk
from tests.simulation.scenes import DEEDS, PASSAGES
from tests.simulation.seeds import run

SEEDS = int(os.environ.get("SAGA_SIMULATION_SEEDS", "500"))
REPEATED = range(15)

_PRINT = "import sys; from tests.simulation.seeds import run; print(*(run(int(s)).transcript for s in sys.argv[1:]))"


@pytest.mark.long
def test_everything_holds_on_every_seed() -> None:
    found = chunk(0, SEEDS)
    assert not found.failed, "\n".join(
        f"seed {seed}: {complaint}\n{run(seed).transcript}" for seed, complaint in found.failed.items()
    )
    check_that_everything_happened(found.counts)


def check_that_everything_happened(counts: Counter[str]) -> None:
    """A simulation in which nothing goes wrong proves nothing."""
    for deed in DEEDS:
        assert counts[f"deeds: {deed}"], deed
    for passage in PASSAGES:
        assert counts[f"network: {passage}"], passage
    for what in ("sagas: completed", "sagas: compensated", "sagas: failed for a while", "crashes", "reports", "rests"):
        assert counts[what], what
    for operation in ("execute", "compensate", "confirm"):
        assert counts[f"calls: {operation}"], operation


def test_a_number_decides_everything_whatever_ran_before_and_however_strings_are_hashed() -> None:
    first = [transcript(seed, "0") for seed in (REPEATED, REPEATED[::-1])]
    assert transcript(REPEATED, "1") == first[0]
    alone = [run(seed).transcript for seed in REPEATED]
    assert first[0] == "".join(f"{' ' if number else ''}{text}" for number, text in enumerate(alone)) + "\n"
    assert first[1] == "".join(f"{' ' if number else ''}{text}" for number, text in enumerate(alone[::-1])) + "\n"


def transcript(seeds: range, hash_seed: str) -> str:
    """What those runs write in a process of their own."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", _PRINT, *map(str, seeds)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout
