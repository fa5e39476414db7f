"""`make demo`, for real: every process, every scene, all kills, the sums, and the lines that it says can be pasted."""

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

from sample_services.demo.__main__ import SAMPLES

pytestmark = pytest.mark.e2e

DEMO = (sys.executable, "-m", "sample_services.demo")
SCRIPTS = Path(sys.executable).parent
WAIT_S = 120
STARTS = 18 + 1 + 5  # services, the coordinator, and what is started again after a kill
SCENES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("order-1001", "COMPLETED", ()),
    (
        "order-1002",
        "COMPENSATED, because of REJECTED ADDRESS_NOT_SERVED in step ship",
        (r"charge +COMPENSATABLE +compensate.*\n.*reserve +RESERVABLE +compensate",),
    ),
    ("order-1003", "COMPLETED", (r"charge +COMPENSATABLE +execute +[2-9]\d* +UNAVAILABLE +COMPLETED",)),
    ("order-1004", "COMPLETED", (r"charge +COMPENSATABLE +execute +[2-9]\d* +LOST +COMPLETED",)),
    ("trip-1001", "COMPLETED", tuple(rf"{step} +RESERVABLE +confirm" for step in ("flight", "hotel", "car"))),
    (
        "trip-1002",
        "COMPENSATED, because of REJECTED SOLD_OUT in step hotel",
        tuple(rf"{step} +RESERVABLE +compensate +\d+ +COMPENSATED" for step in ("flight", "car")),
    ),
    (
        "trip-1003",
        "COMPENSATED, because of REJECTED CARD_DECLINED in step payment",
        tuple(rf"{step} +RESERVABLE +compensate +\d+ +COMPENSATED" for step in ("flight", "hotel", "car")),
    ),
    ("trip-1004", "COMPLETED", (r"itinerary +RETRIABLE +execute +[2-9]\d* +UNAVAILABLE +COMPLETED",)),
    ("account-1001", "COMPLETED", ()),
    ("account-1002", "COMPENSATED, because of REJECTED EMAIL_TAKEN in step user", ()),
    (
        "account-1003",
        "COMPENSATED, because of REJECTED COUNTRY_NOT_SERVED in step wallet",
        (r"user +COMPENSATABLE +compensate +\d+ +COMPENSATED",),
    ),
    ("account-1004", "COMPLETED", ()),
    ("purchase-1001", "COMPLETED", ()),
    (
        "purchase-1002",
        "COMPENSATED, because of REJECTED OUT_OF_STOCK in step inventory",
        (r"credit +COMPENSATABLE +compensate.*\n.*debit +COMPENSATABLE +compensate",),
    ),
    ("transfer-1001", "COMPLETED", ()),
    (
        "transfer-1002",
        "COMPENSATED, because of REJECTED ACCOUNT_CLOSED in step credit",
        (r"debit +COMPENSATABLE +compensate +\d+ +COMPENSATED",),
    ),
    ("market-1001", "COMPLETED", tuple(rf"parcel_{n} +RESERVABLE +confirm" for n in (1, 2, 3))),
    *(
        (f"market-1001/parcel_{n}", "COMPLETED", (r"charge +COMPENSATABLE +execute +[2-9]\d* +LOST",))
        for n in (1, 2, 3)
    ),
    (
        "market-1002",
        "COMPENSATED, because of REJECTED OUT_OF_STOCK in step parcel_3",
        tuple(rf"parcel_{n} +RESERVABLE +compensate +\d+ +COMPENSATED" for n in (1, 2)),
    ),
    *((f"market-1002/parcel_{n}", "COMPENSATED", ()) for n in (1, 2, 3)),
    (
        "market-1003",
        "COMPENSATED, because of REJECTED PAYOUT_BLOCKED in step pay",
        tuple(rf"parcel_{n} +RESERVABLE +compensate +\d+ +COMPENSATED" for n in (1, 2, 3)),
    ),
    *(
        (
            f"market-1003/parcel_{n}",
            "COMPENSATED",
            (r"ship +COMPENSATABLE +compensate", r"reserve +RESERVABLE +compensate"),
        )
        for n in (1, 2, 3)
    ),
)
"""Every saga that is shown, how it ends, and what its timeline must have."""


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
                if sum(line.endswith("--follow") for line in lines) == len(SAMPLES):  # its last word
                    break
            yield demo, lines
        finally:
            demo.terminate()
            demo.wait(WAIT_S)


def test_every_scene_goes_well_and_the_sums_add_up() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=WAIT_S, check=False)
    shown = done.stdout

    assert done.returncode == 0, shown + done.stderr
    for saga_id, state, traces in SCENES:
        timeline = shown[shown.index(f"Saga {saga_id}:") :].split("\nSaga ")[0]
        assert timeline.startswith(f"Saga {saga_id}: {state}"), timeline
        for trace in traces:
            assert re.search(trace, timeline), f"{trace} is not in\n{timeline}"
    assert len(re.findall(r"^Saga ", shown, re.MULTILINE)) == len(SCENES)
    assert re.search(r"transfer-1101 +RUNNING +step credit", shown)
    assert re.search(r"transfer-1102 +PENDING .*account:ada@north after transfer-1101", shown)
    assert "All sums add up." in shown
    assert len(processes_of(shown)) == STARTS
    assert not any(map(lives, processes_of(shown)))


def test_the_lines_to_paste_work_and_interrupting_ends_everything() -> None:
    with kept_running() as (demo, lines):
        pasted = [line for line in lines if re.match(r"\S*saga --server ", line)]
        answers = [paste(line) for line in pasted]
        called = [call(line) for line in lines if line.startswith("grpcurl") and " -d " in line]
        demo.send_signal(signal.SIGINT)
        assert demo.wait(WAIT_S) == 0

    assert len(pasted) == 2 + len(SAMPLES)
    assert all("order-1001" in answer for answer in answers[:2])
    assert all("SagaCompleted" in answer for answer in answers[2:])
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
