"""`make demo`, for real: every process, every scene, all kills, the sums, and the lines that it says can be pasted."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from saga.v1.participant_pb2 import DescribeRequest
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from saga.v1.types_pb2 import STEP_KIND_RETRIABLE
from sample_services.demo.__main__ import SAMPLES
from sample_services.demo.stage import COORDINATOR

pytestmark = pytest.mark.e2e

DEMO = (sys.executable, "-m", "sample_services.demo")
_OF_ONE_SAMPLE = """
import typer
from sample_services.demo import __main__ as demo
demo.SAMPLES = (demo.Accounts,)
typer.run(demo.main)
"""
DEMO_OF_ONE_SAMPLE = (sys.executable, "-c", _OF_ONE_SAMPLE)
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
def kept_running() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield a demo that has shown everything and keeps running, and what it has printed."""
    with subprocess.Popen((*DEMO, "--keep"), stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if sum(line.endswith("--follow\n") for line in lines) == len(SAMPLES):  # its last word
                    break
            yield demo, "".join(lines)
        finally:
            demo.terminate()
            demo.wait(WAIT_S)


@pytest.mark.long
def test_every_scene_goes_well_the_lines_to_paste_work_and_interrupting_ends_everything() -> None:
    with kept_running() as (demo, shown):
        assert_every_scene_went_well(shown)
        assert len(processes_of(shown)) == STARTS
        assert_each_service_describes_itself(shown)
        assert_the_lines_can_be_pasted([line.strip() for line in shown.splitlines()])
        demo.send_signal(signal.SIGINT)
        assert demo.wait(WAIT_S) == 0
    assert not any(map(lives, processes_of(shown)))


def test_without_keep_it_ends_by_itself() -> None:
    """With one of its samples."""
    done = subprocess.run(DEMO_OF_ONE_SAMPLE, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All sums add up." in done.stdout
    assert processes_of(done.stdout)
    assert not any(map(lives, processes_of(done.stdout)))


def assert_every_scene_went_well(shown: str) -> None:
    for saga_id, state, traces in SCENES:
        timeline = shown[shown.index(f"Saga {saga_id}:") :].split("\nSaga ")[0]
        assert timeline.startswith(f"Saga {saga_id}: {state}"), timeline
        for trace in traces:
            assert re.search(trace, timeline), f"{trace} is not in\n{timeline}"
    assert len(re.findall(r"^Saga ", shown, re.MULTILINE)) == len(SCENES)
    assert re.search(r"transfer-1101 +RUNNING +step credit", shown)
    assert re.search(r"transfer-1102 +PENDING .*account:ada@north after transfer-1101", shown)
    assert "All sums add up." in shown


def assert_each_service_describes_itself(shown: str) -> None:
    """It is the one that it is registered as, keeps the barrier's rules, and says what can be refused."""
    servers = dict(re.findall(r"^(\w+) listens on (\S+),", shown, re.MULTILINE))
    del servers[COORDINATOR]
    assert servers.keys() == {service.name for sample in SAMPLES for service in sample(Path()).services()}
    for name, address in servers.items():
        with grpc.insecure_channel(address) as channel:
            described = ParticipantServiceStub(channel).Describe(DescribeRequest(), timeout=WAIT_S)
        assert described.participant == name
        assert described.barriered
        assert described.actions
        for action in described.actions:
            assert action.description
            assert bool(action.rejection_reasons) == (list(action.kinds) != [STEP_KIND_RETRIABLE])


def assert_the_lines_can_be_pasted(lines: Sequence[str]) -> None:
    pasted = [line for line in lines if re.match(r"\S*saga --server ", line)]
    answers = [paste(line) for line in pasted]
    called = [call(line) for line in lines if line.startswith("grpcurl") and " -d " in line]
    assert len(pasted) == 2 + len(SAMPLES)
    assert all("order-1001" in answer for answer in answers[:2])
    assert all("SagaCompleted" in answer for answer in answers[2:])
    got, _, waited = called
    assert '"@type": "type.googleapis.com/sample_services.orders.v1.Order"' in got
    assert '"state": "SAGA_STATE_COMPLETED"' in waited


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
