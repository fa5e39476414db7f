"""`saga conform` as it is typed: what it takes, what it shows, what it writes, and how it ends."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.cli.errors import ExitCode
from coordinator.conform.checks import CHECKS
from coordinator.conform.process import free_port
from tests.coordinator.conform.suite import TEXT
from tests.coordinator.conform.wrong_participant import serving

FAULT = "confirms-anything"
SHOWN = """\
wrong at {target}

ACTION  LANE   CHECK                    RESULT   WHY
-       -      describe                 passed   -
Hold    unary  execute                  passed   -
Hold    unary  confirm-first            failed   expected a refusal: there is no hold; came confirmed
Note    unary  execute                  passed   -
Note    unary  confirm-first            skipped  the action is not RESERVABLE

Hold unary confirm-first failed
  expected: a refusal: there is no hold
  came: confirmed
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conform")
    (path / "examples.yaml").write_text(TEXT.replace("DIRECTORY", str(path)))
    return path


@pytest.fixture(scope="module")
def target(directory: Path) -> Iterator[str]:
    """A participant with a fault, served beside the test: the command has an event loop of its own."""
    served: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(directory / "wrong.db", FAULT) as address:
            served.append(address)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield served[0]
    stop.set()
    thread.join()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["conform", *map(str, arguments)])


def chosen(directory: Path) -> tuple[str, ...]:
    return (
        f"--examples={directory / 'examples.yaml'}",
        "--lane=unary",
        *(f"--only={check}" for check in ("describe", "execute", "confirm-first")),
    )


def test_a_failure_is_shown_with_what_is_needed_to_look_into_it(directory: Path, target: str) -> None:
    result = run(target, *chosen(directory))
    assert (result.exit_code, result.stderr) == (ExitCode.REFUSED, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    wanted = [" ".join(line.split()) for line in SHOWN.format(target=target).splitlines()]
    assert lines[: len(wanted)] == wanted
    request, key, blank, counts = lines[len(wanted) :]
    assert request.startswith("request: grpcurl -plaintext -H 'idempotency-key: ")
    assert request.endswith(f"{target} saga.v1.ParticipantService/Confirm")
    assert key.startswith("key: ")
    assert (blank, counts) == ("", "3 passed, 0 warned, 1 failed, 1 skipped")


def test_as_json(directory: Path, target: str) -> None:
    result = run(target, *chosen(directory), "--action=Note", "-o", "json")
    assert result.exit_code == ExitCode.OK
    assert json.loads(result.stdout)["counts"] == {"passed": 2, "warned": 0, "failed": 0, "skipped": 1}


def test_as_junit(directory: Path, target: str) -> None:
    result = run(target, *chosen(directory), "--action=Note", "-o", "junit")
    assert result.exit_code == ExitCode.OK
    assert ElementTree.fromstring(result.stdout).tag == "testsuites"


@pytest.mark.parametrize(("lane", "lanes"), [("unary", {"unary"}), ("fast", {"fast"}), ("both", {"unary", "fast"})])
def test_the_lane_is_chosen(directory: Path, target: str, lane: str, lanes: set[str]) -> None:
    arguments = (f"--examples={directory / 'examples.yaml'}", "--only=execute", "--action=Note", "-o", "json")
    result = run(target, *arguments, f"--lane={lane}")
    assert result.exit_code == ExitCode.OK
    assert {tried["lane"] for tried in json.loads(result.stdout)["results"]} == lanes


def test_a_table_and_a_junit_file_in_one_run(directory: Path, target: str, tmp_path: Path) -> None:
    file = tmp_path / "conformance.xml"
    result = run(target, *chosen(directory), f"--junit={file}")
    assert (result.exit_code, "1 failed" in result.stdout) == (ExitCode.REFUSED, True)
    [suite] = ElementTree.parse(file).getroot()
    assert [(case.get("classname"), case.get("name")) for case in suite if case.find("failure") is not None] == [
        ("wrong.Hold", "confirm-first")
    ]


def test_the_checks_are_listed() -> None:
    result = run("--list")
    assert result.exit_code == ExitCode.OK
    rows = result.stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [check.id for check in CHECKS]
    assert "input, compensate, start" in next(row for row in rows if row.startswith("kill-barred"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "is missing"),
        (("nowhere",), "is no address"),
        (("127.0.0.1:1", "--only=nothing"), "there is no check `nothing`"),
        (("127.0.0.1:1", "--skip=nothing"), "there is no check `nothing`"),
        (("127.0.0.1:0",), "port 0 is for a participant that is started here: it needs --examples with `start`"),
        (("127.0.0.1:0", "--running"), "port 0 and --running exclude each other"),
        (("127.0.0.1:1", "--examples=nowhere.yaml"), "nowhere.yaml cannot be read"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_file_that_is_wrong_is_wrong_usage(target: str, tmp_path: Path) -> None:
    file = tmp_path / "examples.yaml"
    file.write_text("actions: {Hold: {inputs: 5}}\n")
    result = run(target, f"--examples={file}")
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    problem = f"{file}:1:26: actions.Hold.inputs: a number `5`; expected a list"
    assert result.stderr == f"error: the examples cannot be used\n  {problem}\n"
    file.write_text("actions: {Hold: {inputs: [{amont: 5}]}}\n")
    assert 'no field named "amont"' in run(target, f"--examples={file}").stderr
    file.write_text("effects: {command: 'exit 3'}\nactions: {Hold: {inputs: [{account_id: ok}]}}\n")
    result = run(target, f"--examples={file}", "--only=execute")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "error: `exit 3` ended with code 3: it printed nothing\n"


@pytest.mark.parametrize("name", ["Nope", "hold"])
def test_an_action_that_is_not_there_is_wrong_usage(target: str, name: str) -> None:
    result = run(target, "--action=Hold", f"--action={name}")
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert result.stderr == f"error: there is no action `{name}`; the participant describes: Hold, Note\n"


def test_where_nobody_answers() -> None:
    target = f"127.0.0.1:{free_port('127.0.0.1')}"
    result = run(target)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr.startswith(
        f"error: no participant answers at {target}: Describe ended with status UNAVAILABLE"
    )


def test_a_report_that_cannot_be_written_is_said(directory: Path, target: str, tmp_path: Path) -> None:
    result = run(target, *chosen(directory), f"--junit={tmp_path / 'none' / 'x.xml'}")
    assert result.exit_code == ExitCode.USAGE
    assert "error: the report cannot be written" in result.stderr
