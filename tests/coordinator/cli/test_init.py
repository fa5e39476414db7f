import subprocess
import sys

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from saga.v1 import coordinator_pb2 as pb
from tests.coordinator.cli.fake import FakeCoordinator

COMMANDS = [
    ["serve"],
    ["definition", "apply"],
    ["definition", "validate"],
    ["definition", "list"],
    ["definition", "show"],
    ["definition", "deprecate"],
    ["start"],
    ["get"],
    ["list"],
    ["watch"],
    ["events"],
    ["cancel"],
    ["pause"],
    ["resume"],
    ["retry"],
    ["resolve"],
    ["complete"],
    ["participants"],
    ["participants", "refresh"],
    ["journal", "verify"],
    ["journal", "export"],
    ["journal", "import"],
    ["journal", "backup"],
    ["journal", "retire"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"Usage: saga {' '.join(command)}" in result.stdout


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != ["serve"]], ids=" ".join)
def test_every_answer_can_be_json(command: list[str]) -> None:
    assert "--output" in CliRunner().invoke(app, [*command, "--help"]).stdout


def test_the_server_comes_from_the_environment_too(fake: FakeCoordinator) -> None:
    fake.answers["ListParticipants"] = pb.ListParticipantsResponse()
    assert CliRunner().invoke(app, ["participants"], env={"SAGA_SERVER": fake.address}).exit_code == 0
    assert len(fake.requests["ListParticipants"]) == 1


def test_the_module_is_the_command_and_loads_no_coordinator() -> None:
    """Talking to a coordinator must not need one in this process."""
    script = (
        "import sys, coordinator.cli\n"
        "heavy = ('coordinator.engine', 'coordinator.journal', 'cel_expr_python')\n"
        "sys.exit(any(name.startswith(heavy) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "coordinator.cli", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert "Usage: saga " in shown
    assert "--install-completion" in shown
