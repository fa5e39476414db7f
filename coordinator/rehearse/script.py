"""What users demand after every path, as a command of their own: it can look into the services' databases.

It gets the saga as JSON on its standard input, and SAGA_ID, SAGA_STATE and SAGA_PATH in its environment. Exit code 0:
what it demands holds. This module must not read what the command writes in any other way than to show it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable
from typing import Final

from coordinator.rehearse.checks import state_name
from coordinator.rehearse.paths import Path
from saga.v1.coordinator_pb2 import Saga

TIMEOUT_S: Final = 60.0
SHOWN_MAX: Final = 2000
"""How much of what it writes to its standard error is shown, in characters."""


class NoSuchCommandError(ValueError):
    """The command cannot be run; the text says why."""


class Script:
    """A command that is run after each path. `to_json` writes a saga as the command is to see it."""

    def __init__(self, command: str, to_json: Callable[[Saga], str]) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise NoSuchCommandError(f"`{command}`: {error}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise NoSuchCommandError(f"`{command}`: there is no such command")
        self._command = command
        self._to_json = to_json

    async def violation(self, saga: Saga, path: Path) -> str | None:
        """What the command has to complain about."""
        environment = {"SAGA_ID": saga.saga_id, "SAGA_STATE": state_name(saga.state), "SAGA_PATH": path.name}
        process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | environment,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, complaint = await process.communicate(self._to_json(saga).encode())
        except TimeoutError:
            return f"check `{self._command}` did not end within {TIMEOUT_S:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return None
        said = complaint.decode(errors="replace").strip()[-SHOWN_MAX:]
        return f"check `{self._command}` ended with {process.returncode}" + (f": {said}" if said else "")
