"""What the figures were taken with: versions, date, machine.

This module must not say where on the machine anything lies.
"""

from __future__ import annotations

import platform
import sqlite3
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import psutil

from benchmarks.peers.install import PEERS

_PACKAGES: Final = ("grpcio", "protobuf", "uvloop", "aiosqlite")
_ROOT: Final = Path(__file__).parents[1]


def environment(arguments: str, peers: Path | None) -> Mapping[str, str]:
    """What a reader needs to judge a figure, by what it is."""
    return {
        "command": f"python -m benchmarks {arguments}".strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{psutil.cpu_count()} cores ({_processor()}), {round(psutil.virtual_memory().total / 2**30)} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "SQLite": sqlite3.sqlite_version,
        "peers": "; ".join(
            f"{peer.title}: {peer.versions}" for peer in PEERS if peers is not None and peer.is_installed(peers)
        )
        or "none",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name where Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
