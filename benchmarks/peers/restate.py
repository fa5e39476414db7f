"""Restate: its server, and the service that it calls, which calls the participants.

    python -m benchmarks.peers.restate --server PROGRAM --participants HOST:PORT --folder FOLDER --listen HOST:PORT

This process is the service; the server is a process below it. It says `listening on` with the address of the server's
ingress once a saga has run through it. Two partitions are the better setting for two cores (the default is 24). This
module runs in Restate's environment; its driver is `restate_driver`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from benchmarks.load import run_fast
from benchmarks.peers.http import Http, HttpError
from benchmarks.peers.processes import ended, free_address
from benchmarks.peers.steps import Participants, Refused, run_steps

PARTITIONS: Final = "2"
_READY_MAX_S: Final = 60.0
_LOOK_S: Final = 0.2
_STREAMS_MAX: Final = 2048


def application(participants: Participants) -> Any:
    """The service, as an ASGI application."""

    async def run(ctx: restate.Context, request: dict[str, Any]) -> bool:
        saga_id, refuse = request["saga_id"], request["refuse"]

        async def execute(number: int) -> str:
            async def step() -> str:
                try:
                    return await participants.execute(saga_id, number, refuse)
                except Refused as refused:
                    raise restate.TerminalError(str(refused)) from None

            return str(await ctx.run_typed(f"execute-{number}", step))

        async def compensate(number: int, receipt: str) -> None:
            async def step() -> None:
                await participants.compensate(saga_id, number, receipt)

            await ctx.run_typed(f"compensate-{number}", step)

        return await run_steps(execute, compensate, restate.TerminalError)

    service = restate.Service("Saga")
    service.handler()(run)
    return restate.app([service])


@asynccontextmanager
async def server(program: Path, folder: Path, ingress: str, admin: str) -> AsyncIterator[None]:
    """The server, as long as the context is open."""
    settings = {
        "RESTATE_INGRESS__BIND_ADDRESS": ingress,
        "RESTATE_ADMIN__BIND_ADDRESS": admin,
        "RESTATE_BIND_ADDRESS": free_address(),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DEFAULT_NUM_PARTITIONS": PARTITIONS,
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        "DO_NOT_TRACK": "1",
        "HOME": str(folder),
    }
    process = await asyncio.create_subprocess_exec(
        *(str(program), "--no-logo", "--base-dir", str(folder / "restate"), "--node-name", "bench"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, **settings},
    )
    try:
        yield
    finally:
        await ended(process)


async def answered(http: Http, path: str, body: object) -> None:
    """Returns once a request has been answered well. Errors: `TimeoutError`."""
    async with asyncio.timeout(_READY_MAX_S):
        while True:
            try:
                await http.post(path, body)
            except (OSError, EOFError, HttpError):
                await asyncio.sleep(_LOOK_S)
            else:
                return


async def run(asked: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    own, admin, ingress = free_address(), free_address(), asked.listen
    if ingress.endswith(":0"):
        ingress = free_address()
    config = Config()
    config.bind = [own]
    config.accesslog = config.errorlog = None
    config.h2_max_concurrent_streams = _STREAMS_MAX
    serving = asyncio.create_task(
        serve(application(Participants(asked.participants)), config, shutdown_trigger=stop.wait)
    )
    async with server(asked.server, asked.folder, ingress, admin):
        await answered(Http(admin), "/deployments", {"uri": f"http://{own}"})
        await answered(Http(ingress), "/Saga/run", {"saga_id": "first", "refuse": False})
        # Only now: the SDK has put its own handler there, which would drain for minutes.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print(f"listening on {ingress}", flush=True)
        await stop.wait()
    await serving


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--participants", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--listen", default="127.0.0.1:0")
    run_fast(run(parser.parse_args()))


if __name__ == "__main__":
    main()
