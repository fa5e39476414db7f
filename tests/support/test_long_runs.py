"""Ctrl-C ends a long run with what it has found so far, and leaves no process behind."""

import argparse
import os
import signal
import subprocess
import sys

import pytest

from tests.support.long_runs import INTERRUPTED, at_least_one

SIMULATION = (
    "import sys; from tests.simulation import __main__ as it; it.PROGRESS_S, it.CHUNK = 0, 5; sys.exit(it.main())"
)
EXPLORER = "import sys; from tests.coordinator.explore import __main__ as it; sys.exit(it.main())"


@pytest.mark.parametrize(
    ("program", "arguments", "counted"),
    [
        (SIMULATION, ("--minutes=5", "--jobs=2"), " seeds in "),
        (EXPLORER, ("--steps=4", "--jobs=2"), " definitions, "),
    ],
    ids=["simulation", "explorer"],
)
def test_an_interrupted_run_tells_what_it_has_counted(program: str, arguments: tuple[str, ...], counted: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()  # so it is under way
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate()
    assert (process.returncode, err) == (INTERRUPTED, "")
    last = out.splitlines()[-2:]
    assert last[-1].startswith("interrupted")
    assert any(counted in line for line in last)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize(
    "module", ["tests.simulation --seeds", "tests.simulation --jobs", "tests.coordinator.explore --jobs"]
)
def test_none_is_wrong_usage(module: str) -> None:
    name, option = module.split()
    command = [sys.executable, "-m", name, option, "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"argument {option}: `0` is not a number from 1" in ended.stderr


def test_a_count_is_a_number_from_one() -> None:
    assert at_least_one("12") == 12
    for wrong in ("0", "-1", "", "two", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError):
            at_least_one(wrong)
