"""The driver of Restate: posts to the ingress over connections that are kept.

    python -m benchmarks.peers.restate_driver --target HOST:PORT

This module must import nothing of Restate's.
"""

from __future__ import annotations

import argparse

from benchmarks.load import run_fast, serve
from benchmarks.peers.http import Http


async def drive(target: str) -> None:
    """Answer loads, until the standard input ends."""
    http = Http(target)

    async def run_saga(saga_id: str, refuse: bool) -> bool:
        return bool(await http.post("/Saga/run", {"saga_id": saga_id, "refuse": refuse}))

    await serve(run_saga)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--target", required=True)
    run_fast(drive(parser.parse_args().target))


if __name__ == "__main__":
    main()
