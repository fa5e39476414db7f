"""Each broken twin is caught, by name; and what the command says of a seed that fails."""

from __future__ import annotations

import sys
from unittest.mock import patch

import pytest

from tests.simulation.__main__ import main
from tests.simulation.twins import TWINS, Twin


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_a_broken_twin_is_caught(twin: Twin) -> None:
    caught = twin.caught()
    assert caught is not None, "no seed finds it"
    _, run = caught
    assert run.complaint.startswith(tuple(f"Violation: {complaint}" for complaint in twin.complaints)), run.transcript


def test_the_command_names_the_seed_that_failed_and_how_to_run_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    twin = TWINS[0]
    with twin.broken(), patch.object(sys, "argv", ["simulation", "--seed", "0"]):
        assert main() == 1
    shown = capsys.readouterr().out
    assert "!!! " in shown
    assert "seed 0: Violation: G1" in shown


def test_the_command_counts_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    with patch.object(sys, "argv", ["simulation", "--from", "100", "--seeds", "3", "--jobs", "1"]):
        assert main() == 0
    shown = capsys.readouterr().out
    assert "calls: execute" in shown
    assert "3 seeds in " in shown
