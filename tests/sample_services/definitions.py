"""Checks a sample's definition as the coordinator does when it is registered."""

from collections.abc import Sequence
from pathlib import Path

from coordinator.dataflow import yamlform
from coordinator.dataflow.check import check
from participant_sdk import Participant


def problems(path: Path, participants: Sequence[Participant]) -> list[str]:
    """What is wrong with a definition, given what the participants describe."""
    text = yamlform.load(path.read_text(encoding="utf-8"), path.name)
    checked = check(text.definition, {each.name: each.description for each in participants})
    return [str(text.locate(problem)) for problem in checked.problems]
