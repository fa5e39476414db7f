"""`make demo`, for real: every process, every scene, both kills, the sums, and the lines that it says can be pasted."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

DEMO = (sys.executable, "-m", "sample_services.demo")
SCRIPTS = Path(sys.executable).parent
WAIT_S = 120


def processes_of(output: str) -> list[int]:
    """Return the processes that the demo says it has started."""
    return [int(pid) for pid in re.findall(r"process (\d+)", output)]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def kept_running() -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """Yield a demo that has shown everything and keeps running, and what it has printed."""
    with subprocess.Popen((*DEMO, "--keep"), stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line.strip())
                if lines[-1].endswith("--follow"):  # its last word
                    break
            yield demo, lines
        finally:
            demo.terminate()
            demo.wait(WAIT_S)


def test_every_scene_goes_well_and_the_sums_add_up() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=WAIT_S, check=False)
    shown = done.stdout

    assert done.returncode == 0, shown + done.stderr
    scenes = {number: shown[shown.index(f"Saga order-{number}:") :] for number in (1001, 1002, 1003, 1004)}
    assert scenes[1001].startswith("Saga order-1001: COMPLETED")
    assert scenes[1002].startswith("Saga order-1002: COMPENSATED, because of REJECTED ADDRESS_NOT_SERVED in step ship")
    assert re.search(r"charge +COMPENSATABLE +compensate.*\n.*reserve +RESERVABLE +compensate", scenes[1002])
    assert scenes[1003].startswith("Saga order-1003: COMPLETED")
    assert re.search(r"charge +COMPENSATABLE +execute +[2-9]\d* +UNAVAILABLE +COMPLETED", scenes[1003])
    assert scenes[1004].startswith("Saga order-1004: COMPLETED")
    assert re.search(r"charge +COMPENSATABLE +execute +[2-9]\d* +LOST +COMPLETED", scenes[1004])
    assert "All sums add up." in shown
    assert len(processes_of(shown)) == 6
    assert not any(map(lives, processes_of(shown)))


def test_the_lines_to_paste_work_and_interrupting_ends_everything() -> None:
    with kept_running() as (demo, lines):
        pasted = [line for line in lines if re.match(r"\S*saga --server ", line)]
        answers = [paste(line) for line in pasted]
        called = [call(line) for line in lines if line.startswith("grpcurl") and " -d " in line]
        demo.send_signal(signal.SIGINT)
        assert demo.wait(WAIT_S) == 0

    assert len(pasted) == 3
    assert all("order-1001" in answer for answer in answers[:2])
    assert "SagaCompleted" in answers[2]
    got, _, waited = called
    assert '"@type": "type.googleapis.com/sample_services.orders.v1.Order"' in got
    assert '"state": "SAGA_STATE_COMPLETED"' in waited
    assert not any(map(lives, processes_of("\n".join(lines))))


def paste(line: str) -> str:
    """Run a line as a shell would, and return what it prints."""
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def call(line: str) -> str:
    """Do what a grpcurl line says, by reflection, with buf: a tool of this project's own that does the same."""
    words = shlex.split(line)
    address, method = words[-2:]
    data = words[words.index("-d") + 1]
    curl = (SCRIPTS / "buf", "curl", "--protocol=grpc", "--http2-prior-knowledge", "--reflect", "--data", data)
    done = subprocess.run(
        (*curl, f"http://{address}/{method}"), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout
