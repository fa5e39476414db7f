"""Recorded scenarios: what the coordinator does, step by step, as text that people can read.

A change of behaviour is a diff here that must be explained. SAGA_REWRITE_TRANSCRIPTS=1 rewrites the recordings.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.coordinator.core.transcript import play

RECORDINGS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_the_scenario_goes_as_recorded(recording: Path) -> None:
    recorded = recording.read_text()
    played = play(recorded)
    if os.environ.get("SAGA_REWRITE_TRANSCRIPTS"):
        recording.write_text(played)
    else:
        assert played.splitlines() == recorded.splitlines()


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_says_what_it_is_about(recording: Path) -> None:
    prose = [line for line in recording.read_text().partition("\n\n")[0].splitlines() if line.startswith("# ")]
    assert re.search(r"\bG\d+\b|\brule \d+\b", " ".join(prose))


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) >= 12
