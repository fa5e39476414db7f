"""A short round with everything that goes wrong, and rounds with a flawed bank, which must not pass.

The long ones are `python -m tests.chaos`.
"""

import asyncio
import sys
from pathlib import Path

import pytest

from sample_services.demo.stage import COORDINATOR
from tests.chaos.broken_bank import Flaw
from tests.chaos.ledger import Wrong
from tests.chaos.participant_relay import Weather
from tests.chaos.run import Round, play

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SEED = 28  # its plan has nearly every fault in a few seconds, and the coordinator's share is large
ROUND_S = 8
FLAW_SHOWS_WITHIN_S = 60
HARSH = Weather(doubled=0.2, repeated=0.4, request_lost=0.4)
NOTICED = {
    Flaw.FORGETFUL: {Wrong.DOUBLED},
    Flaw.UNBARRED: {Wrong.LOST},
    Flaw.KEEPING: {Wrong.LOST},
    Flaw.EMPTY_HANDED: {Wrong.LOST},
}


async def test_no_money_is_lost_or_made_while_everything_fails(tmp_path: Path) -> None:
    """G1-G10, G12."""
    report = await play(Round(SEED, ROUND_S), tmp_path, print)
    print("\n".join(report.lines()))
    assert report.problems == []
    assert report.sagas.keys() == {"COMPLETED", "COMPENSATED"}
    assert min(report.suppressed.total(), report.attempts["retries"]) > 0
    assert min(report.kills[COORDINATOR], report.stops.total(), report.faults.total()) > 0
    assert report.reads["at one instant"] > 0


async def test_each_flawed_bank_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The chaos run can fail: what a flaw does to the money is seen while the clients still work."""
    noticed = dict(
        zip(
            Flaw,
            await asyncio.gather(*(wrongs_with(flaw, tmp_path_factory.mktemp(flaw)) for flaw in Flaw)),
            strict=True,
        )
    )
    assert {flaw: wrongs & NOTICED[flaw] for flaw, wrongs in noticed.items()} == NOTICED, noticed


async def wrongs_with(flaw: Flaw, directory: Path) -> set[Wrong]:
    """What is wrong with transfers where both banks have that flaw."""
    command = (sys.executable, "-m", "tests.chaos.broken_bank", f"--flaw={flaw}")
    round_ = Round(SEED, FLAW_SHOWS_WITHIN_S, clients=25, bank_command=command, weather=HARSH, faults=False)
    report = await play(round_, directory, print)
    return {problem.wrong for problem in report.problems if problem.transfer_id}
