"""The participants of all systems, one process: three actions written with the SDK, with either barrier.

    python -m benchmarks.participants --barrier memory|sqlite [--database FILE] --listen 127.0.0.1:0

The actions have no business of their own, so that what is measured is the barrier and the transport. SIGUSR1 holds
every call back until SIGUSR2. When it ends it says how many calls were under way at most. Nothing here may know who
calls.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.load import run_fast
from benchmarks.v1.workload_pb2 import Order, Receipt
from benchmarks.workload import PARTICIPANT
from participant_sdk import Action, MemoryBarrier, Participant, Rejected, SqliteBarrier, Step
from participant_sdk.barrier.base import Barrier
from participant_sdk.call import Call

AT_MOST: Final = "calls under way at most: "


class _Reversible(Action[Order, Receipt]):
    """A step that can be compensated."""

    async def execute(self, _request: Order, step: Step) -> Receipt:
        return Receipt(reference=step.key)

    async def compensate(self, _request: Order, _output: Receipt | None, _step: Step) -> None:
        return None


class Reserve(_Reversible):
    """The first step."""


class Charge(_Reversible):
    """The second step."""


class Ship(_Reversible):
    """The third step, which is refused where the order says so."""

    rejections: ClassVar = {"REFUSED": "The order says so."}

    async def execute(self, request: Order, step: Step) -> Receipt:
        if request.refuse:
            raise Rejected("REFUSED")
        return await super().execute(request, step)


class Counted(Barrier):
    """Another barrier, whose calls are counted and can be held back before it sees them."""

    keeps_rules = True

    def __init__(self, barrier: Barrier) -> None:
        self.at_most = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._barrier = barrier
        self._under_way = 0

    async def open(self) -> None:
        await self._barrier.open()

    async def close(self) -> None:
        await self._barrier.close()

    async def answer(self, call: Call) -> bytes:
        self._under_way += 1
        self.at_most = max(self.at_most, self._under_way)
        try:
            await self.flowing.wait()
            return await self._barrier.answer(call)
        finally:
            self._under_way -= 1


async def serve(barrier: Barrier, listen: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    counted = Counted(barrier)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, counted.flowing.clear)
    loop.add_signal_handler(signal.SIGUSR2, counted.flowing.set)
    participant = Participant(PARTICIPANT, [Reserve(), Charge(), Ship()], counted)
    await participant.serve(listen, on_ready=lambda address: print(f"listening on {address}", flush=True))
    print(f"{AT_MOST}{counted.at_most}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--barrier", choices=["memory", "sqlite"], default="memory")
    parser.add_argument("--database", type=Path, default=Path("participants.db"))
    asked = parser.parse_args()
    barrier = MemoryBarrier() if asked.barrier == "memory" else SqliteBarrier(asked.database)
    run_fast(serve(barrier, asked.listen))


if __name__ == "__main__":
    main()
