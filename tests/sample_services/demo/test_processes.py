"""The supervisor: servers become ready, die, come back on their port, and never outlive it."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from sample_services.demo import processes
from sample_services.demo.processes import Server, ServerFailed, Supervisor, is_free
from sample_services.demo.stage import SceneFailed

pytestmark = pytest.mark.e2e

SERVER = """
import signal, socket, sys
host, port = sys.argv[sys.argv.index("--listen") + 1].split(":")
listener = socket.create_server((host, int(port)))
if "--deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("starting")
if "--broken" in sys.argv:
    sys.exit("cannot go on")
if "--mute" not in sys.argv:
    print("listening on %s:%d" % listener.getsockname())
signal.pause()
"""


def command(*options: str) -> tuple[str, ...]:
    return (sys.executable, "-c", SERVER, *options)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def reached(address: str) -> bool:
    host, port = address.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_a_server_is_ready_once_it_listens(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        server = await supervisor.start("one", command())

        assert await reached(server.address)
        assert supervisor.servers == {"one": server}
        assert (tmp_path / "one.log").read_text() == f"starting\nlistening on {server.address}\n"


async def test_killed_it_is_gone_and_comes_back_on_its_port(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        server = await supervisor.start("one", command())
        address, pid = server.address, server.pid
        await server.kill()
        assert not lives(pid)
        assert not await reached(address)
        with pytest.raises(RuntimeError, match="does not run"):
            _ = server.pid

        await server.start()
        assert (server.address, server.pid != pid) == (address, True)
        assert await reached(address)


async def test_while_it_is_away_its_port_is_kept_for_it(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        server = await supervisor.start("one", command())
        await server.kill()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", int(server.address.rpartition(":")[2])))
        await server.start()
        assert await reached(server.address)
    assert is_free(server.address)


async def test_leaving_the_supervisor_ends_everything(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        pids = [(await supervisor.start(name, command())).pid for name in ("one", "two")]

    assert not any(map(lives, pids))


async def test_so_does_a_failure(tmp_path: Path) -> None:
    pids = []

    async def demo() -> None:
        async with Supervisor(tmp_path) as supervisor:
            pids.append((await supervisor.start("one", command())).pid)
            raise SceneFailed("it went wrong")

    with pytest.raises(SceneFailed):
        await demo()
    assert not any(map(lives, pids))


async def test_so_does_a_cancellation(tmp_path: Path) -> None:
    pids: list[int] = []

    async def demo() -> None:
        async with Supervisor(tmp_path) as supervisor:
            pids.append((await supervisor.start("one", command())).pid)
            ready.set()
            await asyncio.Event().wait()

    ready = asyncio.Event()
    task = asyncio.create_task(demo())
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not any(map(lives, pids))


async def test_a_server_that_does_not_want_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_MAX_S", 0.1)
    async with Supervisor(tmp_path) as supervisor:
        pid = (await supervisor.start("one", command("--deaf"))).pid

    assert not lives(pid)


async def test_a_server_that_ends_too_early_is_quoted(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ServerFailed, match="one ended before it was ready") as failed:
            await supervisor.start("one", command("--broken"))

    assert "cannot go on" in str(failed.value)


async def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "READY_MAX_S", 0.5)
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ServerFailed, match="one was not ready"):
            await supervisor.start("one", command("--mute"))


async def test_two_servers_of_one_name_and_a_second_start_are_mistakes(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        server = await supervisor.start("one", command())
        with pytest.raises(ValueError, match="one"):
            await supervisor.start("one", command())
        with pytest.raises(RuntimeError, match="runs already"):
            await server.start()


async def test_ending_a_server_that_does_not_run_does_nothing(tmp_path: Path) -> None:
    server = Server("one", command(), tmp_path / "one.log")
    await server.stop()
    await server.kill()


def test_an_address_in_use_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert not is_free(address)
    assert is_free(address)
