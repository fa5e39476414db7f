"""Servers of peers that run below an adapter's process.

This module must import nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

_END_MAX_S: Final = 5.0


def free_address() -> str:
    """An address of this machine that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    return f"{host}:{port}"


async def ended(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and kill it where that takes too long; returns when it is gone."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_END_MAX_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
