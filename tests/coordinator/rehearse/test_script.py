"""A user's own command as a check: what it is told, and what its end means."""

import shlex
import sys

import pytest

from coordinator.rehearse import script
from coordinator.rehearse.paths import Path
from coordinator.rehearse.script import NoSuchCommandError, Script
from saga.v1.coordinator_pb2 import Saga
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED

SAGA = Saga(saga_id="s-1", state=SAGA_STATE_COMPLETED)
PATH = Path((), (), frozenset())


def python(code: str) -> Script:
    return Script(shlex.join([sys.executable, "-c", code]), lambda saga: f'{{"sagaId": "{saga.saga_id}"}}')


async def test_it_is_told_of_the_saga_and_the_path() -> None:
    told = python(
        "import json, os, sys; e = os.environ;"
        "sys.exit([e['SAGA_ID'], e['SAGA_STATE'], e['SAGA_PATH'], json.load(sys.stdin)['sagaId']]"
        " != ['s-1', 'COMPLETED', 'no-failure', 's-1'])"
    )
    assert await told.violation(SAGA, PATH) is None


async def test_any_other_exit_code_is_a_violation_and_shows_what_it_said() -> None:
    violation = await python("import sys; print('noise'); sys.exit('one cent is missing')").violation(SAGA, PATH)
    assert violation is not None
    assert violation.endswith("ended with 1: one cent is missing")


async def test_it_need_not_read_what_it_is_given() -> None:
    assert await Script("true", lambda _saga: "x" * 1_000_000).violation(SAGA, PATH) is None


async def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "TIMEOUT_S", 0.2)
    violation = await python("import threading; threading.Event().wait()").violation(SAGA, PATH)
    assert violation is not None
    assert violation.endswith("did not end within 0.2 s")


@pytest.mark.parametrize("command", ["", "no-such-command-anywhere --flag", "true 'unclosed"])
def test_a_command_that_cannot_be_run_is_refused_at_once(command: str) -> None:
    with pytest.raises(NoSuchCommandError):
        Script(command, lambda _saga: "")
