"""The participant as a process of our own: started by its author's command, killed, started again, and always ended.

The command runs in a session of its own, so that exactly what it started can be ended: no other process is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from typing import IO

from coordinator.conform import limits
from coordinator.conform.commands import CommandFailed, Surroundings


class ParticipantProcess:
    """One participant, over all its starts. `is_ready` says whether it answers."""

    def __init__(self, command: str, surroundings: Surroundings, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._command = command
        self._surroundings = surroundings
        self._is_ready = is_ready
        self._process: asyncio.subprocess.Process | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this object

    async def start(self) -> None:
        """Starts it and returns when it answers. Errors: `CommandFailed`."""
        if await self._is_ready():
            raise CommandFailed("the address answers already, before the participant was started there")
        self._process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            self._command,
            cwd=self._surroundings.directory,
            env=self._surroundings.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limits.READY_MAX_S):
                while not await self._is_ready():
                    if self._process.returncode is not None:
                        raise CommandFailed(f"the participant ended before it answered; {self._last_words()}")
                    await asyncio.sleep(limits.READY_LOOK_S)
        except TimeoutError:
            raise CommandFailed(
                f"the participant does not answer {limits.READY_MAX_S:.0f} s after its start; {self._last_words()}"
            ) from None

    async def kill(self) -> None:
        """Ends it as `kill -9` does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Asks it to end; where that takes too long, it is killed."""
        try:
            async with asyncio.timeout(limits.STOP_MAX_S):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            pass
        finally:
            await self._end(signal.SIGKILL)
            self._output.close()

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            os.killpg(process.pid, number)  # the group is the session that was made for it
        await process.wait()
        if number == signal.SIGKILL:
            self._process = None

    def _last_words(self) -> str:
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - limits.SHOWN_BYTES_MAX))
        return f"it printed: {self._output.read().decode(errors='replace').strip() or 'nothing'}"


def free_port(host: str) -> int:
    """A port of this host that nobody has now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
