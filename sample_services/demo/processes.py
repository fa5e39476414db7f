"""Server processes: start them, wait until they are ready, kill them, start them again, and always end them.

A server is a command that takes `--listen HOST:PORT` and prints `listening on HOST:PORT` once it takes calls. It first
gets a free port; started again it gets the same one, which nobody else is given meanwhile. Servers run in sessions of
their own, so that Ctrl-C on the terminal reaches only the supervisor, which then ends them in good order.

This module must not know what the servers do.
"""

import asyncio
import os
import re
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

READY_MAX_S: Final = 30.0
STOP_MAX_S: Final = 10.0
_FREE_PORT: Final = ("127.0.0.1", 0)
_LISTENING: Final = re.compile(r"\blistening on (\S+:[1-9][0-9]*)\s*$")
_LINE_BYTES_MAX: Final = 1 << 20
_TAIL_LINES: Final = 20


def is_free(address: str) -> bool:
    """Whether a server can listen there now."""
    try:
        _reserve(address).close()
    except OSError:
        return False
    return True


def _reserve(address: str = "") -> socket.socket:
    """Bind an address, or a free one, without listening: a server can still listen there, and nobody else is given it.

    Errors: `OSError` where somebody listens there.
    """
    host, _, port = address.rpartition(":")
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, int(port)) if address else _FREE_PORT)
    except OSError:
        place.close()
        raise
    return place


class ServerFailed(Exception):
    """A server ended, or did not become ready in time; the text has the last lines that it printed."""


async def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command to its end, and return its exit code and what it printed. Cancelled, it is killed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return await process.wait(), output.decode(errors="replace").strip()


class Server:
    """One server, over all of its starts. What it prints goes to the file `log`."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.address = ""
        """Where it serves, once it was started; set before, where it is to serve."""
        self._command = command
        self._log = log
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._place: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process. Errors: `RuntimeError` where it does not run."""
        if self._process is None or self._process.returncode is not None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def last_words(self) -> str:
        """What it printed last."""
        return "".join(self._tail)

    async def start(self) -> None:
        """Start it, and return when it is ready. Errors: `ServerFailed`."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already")
        if self._place is None:
            self._place = _reserve(self.address)
            host, port = self._place.getsockname()
            self.address = f"{host}:{port}"
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            "--listen",
            self.address,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES_MAX,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._output = asyncio.create_task(self._read(self._process.stdout, ready))
        try:
            async with asyncio.timeout(READY_MAX_S):
                self.address = await ready
        except TimeoutError:
            raise ServerFailed(self._report(f"was not ready after {READY_MAX_S:.0f} s")) from None

    async def kill(self) -> None:
        """End it as `kill -9` does, and return when it is gone. It can be started again."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, and return when it is gone. Where that takes too long, or this is cancelled, it is killed."""
        try:
            async with asyncio.timeout(STOP_MAX_S):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            pass
        finally:
            await self._end(signal.SIGKILL)

    def give_up(self) -> None:
        """Send the last signal without waiting for what follows, and leave its address to others."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        if self._place is not None:
            self._place.close()
            self._place = None

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._output is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.wait()
        await self._output
        self._process = self._output = None

    async def _read(self, output: asyncio.StreamReader, ready: asyncio.Future[str]) -> None:
        """Copy what it prints to the log, to the end, and find out when it is ready."""
        with self._log.open("a", encoding="utf-8") as log:
            async for line in output:
                text = line.decode(errors="replace")
                log.write(text)
                log.flush()
                self._tail.append(text)
                if (found := _LISTENING.search(text)) and not ready.done():
                    ready.set_result(found[1])
        if not ready.done():
            ready.set_exception(ServerFailed(self._report("ended before it was ready")))

    def _report(self, what: str) -> str:
        return f"{self.name} {what}; its last words:\n{self.last_words}"


class Supervisor(AbstractAsyncContextManager["Supervisor"]):
    """Starts servers, and ends all that still run when its `async with` is left, however it is left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[str, Server] = {}

    async def __aexit__(self, *_exception: object) -> None:
        try:
            await asyncio.gather(*(server.stop() for server in self._servers.values()))
        finally:
            for server in self._servers.values():
                server.give_up()

    @property
    def servers(self) -> Mapping[str, Server]:
        """All servers, by name."""
        return self._servers

    async def start(self, name: str, command: Sequence[str], preferred: str = "") -> Server:
        """Start a server and return it once it is ready; at the address `preferred`, if that is free.

        Errors: `ServerFailed`.
        """
        if name in self._servers:
            raise ValueError(f"there is a server {name} already")
        server = self._servers[name] = Server(name, command, self._directory / f"{name}.log")
        if preferred and is_free(preferred):
            server.address = preferred
        await server.start()
        return server
