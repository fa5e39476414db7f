"""A short round with everything that goes wrong, and rounds with a flawed bank, which must not pass.

The long ones are `python -m tests.chaos`.
"""

import sys
from pathlib import Path

import pytest

from tests.chaos.broken_bank import Flaw
from tests.chaos.ledger import Wrong
from tests.chaos.participant_relay import Weather
from tests.chaos.run import Round, play

pytestmark = pytest.mark.e2e

SEED = 4
HARSH = Weather(doubled=0.2, repeated=0.4, request_lost=0.4)
NOTICED = {
    Flaw.FORGETFUL: {Wrong.DOUBLED},
    Flaw.UNBARRED: {Wrong.UNTRUE, Wrong.LOST},
    Flaw.KEEPING: {Wrong.LOST},
    Flaw.EMPTY_HANDED: {Wrong.LOST},
}


async def test_no_money_is_lost_or_made_while_everything_fails(tmp_path: Path) -> None:
    """G1-G10, G12."""
    report = await play(Round(SEED, 8), tmp_path, print)
    print("\n".join(report.lines()))
    assert report.problems == []
    assert report.sagas.keys() == {"COMPLETED", "COMPENSATED"}
    assert min(report.suppressed["relay"], report.suppressed["coordinator"], report.attempts["retries"]) > 0
    assert report.kills
    assert report.reads["at one instant"] > 0


@pytest.mark.parametrize("flaw", Flaw)
async def test_a_flawed_bank_is_noticed(tmp_path: Path, flaw: Flaw) -> None:
    """The chaos run can fail: the effect that a flaw has on the money is seen while the clients still work."""
    command = (sys.executable, "-m", "tests.chaos.broken_bank", f"--flaw={flaw}")
    report = await play(Round(SEED, 60, bank_command=command, weather=HARSH, faults=False), tmp_path, print)
    assert {problem.wrong for problem in report.problems if problem.transfer_id} & NOTICED[flaw], report.problems
