"""How the wrong participant is tried: its author's file, and runs of it in this process."""

import json
from pathlib import Path

from coordinator.conform.examples import Examples, load
from coordinator.conform.report import Report
from coordinator.conform.runner import Chosen, conform
from tests.coordinator.conform.wrong_participant import serving

TEXT = """\
effects:
  sqlite: DIRECTORY/wrong.db
  query: SELECT coalesce(sum(count), 0) FROM effects WHERE key = :saga_uid || '/' || :step
actions:
  Hold:
    inputs:
      - {transfer_id: "${unique}", account_id: ok, amount: {minor_units: 5}}
    refused:
      - {input: {transfer_id: "${unique}", account_id: refused}, reason: REFUSED}
      - input: {transfer_id: "${unique}", account_id: refused}
        reason: REFUSED
        lifted_by: touch "lifted-$UNIQUE"
    pending:
      - {input: {transfer_id: "${unique}", account_id: slow}, completes_within: 2s}
  Note:
    inputs:
      - {transfer_id: "${unique}"}
"""


def examples(directory: Path, *, start: str = "", text: str = TEXT) -> Examples:
    """The file for a wrong participant whose database is in this directory."""
    begun = f"start: {json.dumps(start)}\n" if start else ""
    return load(begun + text.replace("DIRECTORY", str(directory)), "wrong.yaml", directory)


async def tried(directory: Path, fault: str, chosen: Chosen, *, timeout_s: float = 5.0) -> Report:
    """A run against a wrong participant in this process."""
    async with serving(directory / "wrong.db", fault) as address:
        return await conform(address, examples(directory), chosen, timeout_s=timeout_s)
