"""The author's own means to look into a participant, or to move it: shell commands, and queries on SQLite files.

They get the step that they are about as variables: commands in their environment, queries as named parameters. What
they are for is for those who call them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from string import Template

from coordinator.conform import limits
from coordinator.conform.examples import EffectsSource


class CommandFailed(Exception):
    """What the author wrote cannot be carried out: that says nothing about the participant."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where commands run, and what all of them are told: ADDRESS, and DIRECTORY, which is empty at first."""

    directory: Path
    variables: Mapping[str, str]

    def environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a process."""
        return {**os.environ, **self.variables, **(variables or {})}


async def run(command: str, surroundings: Surroundings, variables: Mapping[str, str]) -> str:
    """What a shell command prints. Errors: `CommandFailed` where it fails, or takes too long."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        cwd=surroundings.directory,
        env=surroundings.environment(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limits.COMMAND_MAX_S):
            out, err = await process.communicate()
    except TimeoutError:
        raise CommandFailed(f"`{command}` takes longer than {limits.COMMAND_MAX_S:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        printed = (err or out)[-limits.SHOWN_BYTES_MAX :].decode(errors="replace").strip()
        raise CommandFailed(f"`{command}` ended with code {process.returncode}: {printed or 'it printed nothing'}")
    return out.decode(errors="replace")


async def count(source: EffectsSource, surroundings: Surroundings, variables: Mapping[str, str]) -> int:
    """How many effects a step has now. Errors: `CommandFailed`."""
    if source.command:
        return _number(await run(source.command, surroundings, variables), f"`{source.command}`")
    file = Template(source.sqlite).safe_substitute(surroundings.environment())
    return await asyncio.to_thread(_queried, surroundings.directory / file, source.query, variables)


def _queried(file: Path, query: str, variables: Mapping[str, str]) -> int:
    parameters = {name.lower(): value for name, value in variables.items()}
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=limits.COMMAND_MAX_S)) as connection:
            row = connection.execute(query, parameters).fetchone()
    except (sqlite3.Error, ValueError) as error:
        raise CommandFailed(f"the query on {file} fails: {error}") from None
    if row is None or len(row) != 1:
        raise CommandFailed(f"the query on {file} does not yield one number")
    return 0 if row[0] is None else _number(str(row[0]), f"the query on {file}")  # a sum of nothing is NULL


def _number(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        shown = text.strip()[: limits.SHOWN_BYTES_MAX]
        raise CommandFailed(f"{what} yields `{shown}`, and not a number") from None
