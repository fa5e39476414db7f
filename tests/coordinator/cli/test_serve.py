"""`saga serve` hands its flags over; what they mean is tested with the configuration and with the real process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator import app as application
from coordinator.cli import app
from coordinator.cli.errors import ExitCode
from coordinator.config import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that were served with; nothing is started."""
    seen: list[Settings] = []

    async def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
        seen.append(settings)
        on_ready("127.0.0.1:7411")

    monkeypatch.setattr(application, "serve", serve)
    monkeypatch.setattr("coordinator.logs.set_up", lambda _level, _style: None)
    return seen


def test_it_runs_on_flags_alone_and_says_where_it_listens(served: list[Settings]) -> None:
    flags = "--listen 127.0.0.1:0 --journal a.db --log-level debug --log-format json"
    participants = "--participant inventory=127.0.0.1:50061 --participant payment=127.0.0.1:50062"
    result = CliRunner().invoke(app, ["serve", *flags.split(), *participants.split()])
    assert (result.exit_code, result.stdout) == (0, "listening on 127.0.0.1:7411\n")
    (settings,) = served
    assert settings.listen == "127.0.0.1:0"
    assert settings.journal == Path("a.db")
    assert settings.targets == {"inventory": "127.0.0.1:50061", "payment": "127.0.0.1:50062"}
    assert (settings.log_level, settings.log_format) == ("debug", "json")


def test_flags_win_over_the_environment_and_that_over_the_file(served: list[Settings], tmp_path: Path) -> None:
    file = tmp_path / "saga.toml"
    file.write_text('listen = "127.0.0.1:1"\njournal = "file.db"\nlog_level = "error"\n')
    environment = {"SAGA_JOURNAL": "environment.db", "SAGA_LISTEN": "127.0.0.1:2"}
    result = CliRunner().invoke(app, ["serve", "--config", str(file), "--listen", "127.0.0.1:3"], env=environment)
    assert result.exit_code == 0
    (settings,) = served
    assert (settings.listen, settings.journal, settings.log_level) == ("127.0.0.1:3", Path("environment.db"), "error")


def test_every_problem_of_the_configuration_in_a_line(served: list[Settings]) -> None:
    result = CliRunner().invoke(app, ["serve", "--listen", "nowhere", "--log-level", "loud"])
    assert result.exit_code == ExitCode.USAGE
    first, *problems = result.stderr.splitlines()
    assert first == "error: the configuration cannot be used"
    assert [problem.split(":")[0] for problem in problems] == ["  listen", "  log_level"]
    assert served == []


def test_a_participant_is_named_once(served: list[Settings]) -> None:
    arguments = ["serve", "--participant", "a=127.0.0.1:1", "--participant", "a=127.0.0.1:2"]
    assert CliRunner().invoke(app, arguments).exit_code == ExitCode.USAGE
    assert served == []


def test_a_coordinator_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
        raise application.StartupError(f"{settings.journal} is in use by another process")

    monkeypatch.setattr(application, "serve", serve)
    monkeypatch.setattr("coordinator.logs.set_up", lambda _level, _style: None)
    result = CliRunner().invoke(app, ["serve", "--journal", str(tmp_path / "a.db")])
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == f"error: {tmp_path / 'a.db'} is in use by another process\n"
