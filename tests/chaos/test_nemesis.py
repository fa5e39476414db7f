"""Processes are stopped and killed as planned, and are well again afterwards, also where the round is broken off."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from sample_services.demo.processes import Server, Supervisor
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import Act, LinkFault, ProcessFault
from tests.chaos.tcp_relay import TcpRelay
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

SERVER = (sys.executable, "-c", "import time; print('listening on 127.0.0.1:1'); time.sleep(600)")
LONG_S = 600.0
SHORT_S = 0.2


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Supervisor(tmp_path) as supervisor:
        yield await supervisor.start("server", SERVER)


def is_stopped(server: Server) -> bool:
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def nemesis(server: Server, log: list[str]) -> Nemesis:
    return Nemesis({"server": server}, {"link": TcpRelay("127.0.0.1:1")}, Random(1), log.append)


@pytest.mark.parametrize("fault", [ProcessFault.KILL, ProcessFault.KILL_TWICE])
async def test_what_is_killed_is_another_process_afterwards(server: Server, fault: ProcessFault) -> None:
    before, log = server.pid, list[str]()
    killing = nemesis(server, log)
    await killing.play([[Act(0, "server", fault, SHORT_S)]])
    assert server.pid != before
    assert killing.kills == {"server": 1 if fault is ProcessFault.KILL else 2}
    assert [line.partition("s  ")[2] for line in log] == [f"server: {fault}, 0.200 s", "server: well again"]


@pytest.mark.parametrize("for_s", [SHORT_S, LONG_S])
async def test_what_is_stopped_goes_on_afterwards(server: Server, for_s: float) -> None:
    playing = asyncio.create_task(nemesis(server, []).play([[Act(0, "server", ProcessFault.STOP, for_s)]]))
    await until(lambda: is_stopped(server))
    if for_s == LONG_S:
        playing.cancel()
    await asyncio.wait([playing])
    assert not is_stopped(server)


async def test_targets_suffer_at_the_same_time(server: Server) -> None:
    log: list[str] = []
    begun = asyncio.get_running_loop().time()
    lines = [[Act(0, "link", LinkFault.FREEZE, 0.4)], [Act(0.2, "server", ProcessFault.STOP, 0.4)]]
    await nemesis(server, log).play(lines)
    assert asyncio.get_running_loop().time() - begun >= 0.6
    assert [line.partition("s  ")[2].partition(",")[0] for line in log] == [
        "link: frozen",
        "server: SIGSTOP",
        "link: well again",
        "server: well again",
    ]
