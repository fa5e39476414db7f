"""The participant's process: ready when it answers, gone when it is killed, and nothing of it left at the end."""

import asyncio
import os
from pathlib import Path

import pytest

from coordinator.conform import limits
from coordinator.conform.commands import CommandFailed, Surroundings
from coordinator.conform.process import ParticipantProcess, free_port

MARK = "pid"


class Started:
    """A command that is ready once it has written its pid; `exec`ed or as the child of a shell."""

    def __init__(self, directory: Path, command: str = 'echo $$ > "$DIRECTORY/pid"; sleep 60; true') -> None:
        self._mark = directory / MARK
        surroundings = Surroundings(directory, {"DIRECTORY": str(directory)})
        self.process = ParticipantProcess(command, surroundings, self._is_ready)

    @property
    def pid(self) -> int:
        return int(self._mark.read_text())

    async def _is_ready(self) -> bool:
        return self._mark.exists() and bool(self._mark.read_text().strip())

    def forget(self) -> None:
        self._mark.unlink(missing_ok=True)


def lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(group: int) -> bool:
    """Whoever is left of a killed group is the system's to bury."""
    async with asyncio.timeout(60):
        while lives(group):  # noqa: ASYNC110 - the system brings it about
            await asyncio.sleep(0.01)
    return True


async def test_it_is_started_killed_with_its_children_and_started_again(tmp_path: Path) -> None:
    started = Started(tmp_path)
    await started.process.start()
    first = started.pid
    assert lives(first)
    await started.process.kill()
    assert await gone(first)
    started.forget()
    await started.process.start()
    assert started.pid != first
    await started.process.stop()
    assert await gone(started.pid)


async def test_an_address_that_answers_already_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("1")
    started = Started(tmp_path)
    with pytest.raises(CommandFailed, match="answers already"):
        await started.process.start()
    await started.process.stop()


async def test_what_ends_before_it_answers_leaves_its_last_words(tmp_path: Path) -> None:
    started = Started(tmp_path, "echo no such database >&2; exit 1")
    with pytest.raises(CommandFailed, match="ended before it answered; it printed: no such database"):
        await started.process.start()
    await started.process.stop()


async def test_what_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READY_MAX_S", 0.2)
    started = Started(tmp_path, "exec sleep 60")
    with pytest.raises(CommandFailed, match="does not answer 0 s after its start; it printed: nothing"):
        await started.process.start()
    await started.process.stop()


async def test_what_does_not_obey_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STOP_MAX_S", 0.1)
    started = Started(tmp_path, "trap '' TERM; " + 'echo $$ > "$DIRECTORY/pid"; while true; do sleep 1; done')
    await started.process.start()
    await started.process.stop()
    assert await gone(started.pid)


def test_a_free_port_can_be_had() -> None:
    assert 0 < free_port("127.0.0.1") < 65_536
