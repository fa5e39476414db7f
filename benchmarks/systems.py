"""The systems that are measured: our coordinator, the floor, and the peers; how each is started, and its driver.

All of them call the same participants. This module must not measure.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench, Subject
from benchmarks.load import Load
from benchmarks.peers.install import DBOS, PEERS, RESTATE, TEMPORAL
from benchmarks.shape import Shape, dump, read
from benchmarks.stage import Driver, Stage, exchanges, get, starts_sagas
from sample_services.demo.processes import Server

OURS: Final = "ours"
FLOOR: Final = "floor"
UNARY: Final = "unary"
FAST: Final = "fast"
MEMORY: Final = "memory"
SQLITE: Final = "sqlite"


class NotThereError(Exception):
    """The system cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class System:
    """Something that runs sagas, over a lane, with participants that have a barrier."""

    name: str
    lane: str = UNARY
    barrier: str = MEMORY

    @property
    def subject(self) -> Subject:
        """How its samples name it."""
        return {"system": self.name, "lane": self.lane, "barrier": self.barrier}

    @property
    def title(self) -> str:
        """Its name for people."""
        peer = next((peer for peer in PEERS if peer.name == self.name), None)
        if peer is not None:
            return peer.title
        barrier = "" if self.barrier == MEMORY else f", {self.barrier} barrier"
        return f"{self.name}, {self.lane}{barrier}"

    @property
    def is_peer(self) -> bool:
        """Whether it is a product of others."""
        return self.name not in (OURS, FLOOR)

    async def up(self, bench: Bench, on: Stage) -> Driver:
        """Start it and its driver. Errors: `NotThereError`, `BenchmarkFailed`."""
        participants = await on.participants(self.barrier)
        if self.lane == FAST and not await exchanges(participants.address):
            raise NotThereError("the participants do not offer Exchange: the fast lane is left out")
        if self.is_peer:
            return await self._peer_up(bench.peers, on, participants)
        if self.name == FLOOR:
            server = await self._floor_up(await recorded(bench), on, participants)
        else:
            server = await on.coordinator(participants, fast_lane=self.lane == FAST)
        if self.lane == FAST and not await starts_sagas(server.address):
            raise NotThereError("the coordinator does not serve StartSagas: the fast lane is left out")
        driver = await on.saga_driver(server, "--lane", self.lane)
        if self.name == OURS and bench.shapes is None:
            bench.shapes = await _record(on, server, driver)
        return driver

    async def _floor_up(self, shapes: tuple[Shape, Shape], on: Stage, participants: Server) -> Server:
        file = on.folder / "shapes.json"
        file.write_text(dump(*shapes), encoding="utf-8")
        return await on.start(
            FLOOR,
            *(sys.executable, "-m", "benchmarks.floor", "--shape", str(file), "--journal", str(on.journal)),
            *("--participant", participants.address, "--lane", self.lane),
        )

    async def _peer_up(self, directory: Path | None, on: Stage, participants: Server) -> Driver:
        peer = next(peer for peer in PEERS if peer.name == self.name)
        if directory is None or not peer.is_installed(directory):
            raise NotThereError(f"{peer.title} is not installed (python -m benchmarks.peers): left out")
        module = (str(peer.interpreter(directory)), "-m", f"benchmarks.peers.{peer.name}")
        common = ("--participants", participants.address, "--folder", str(on.folder))
        if peer is RESTATE:
            program = peer.program(directory, "restate-server")
            ingress = await on.start("service", *module, *common, "--server", str(program))
            return await on.driver(sys.executable, "-m", "benchmarks.peers.restate_driver", "--target", ingress.address)
        return await on.driver(*module, *common, name="driver and worker")


async def recorded(bench: Bench) -> tuple[Shape, Shape]:
    """What our coordinator journals for a saga that completes, and for one that is compensated."""
    if bench.shapes is None:
        async with bench.stage() as on:
            await System(OURS).up(bench, on)
    assert bench.shapes is not None
    return bench.shapes


async def _record(on: Stage, coordinator: Server, driver: Driver) -> tuple[Shape, Shape]:
    shapes = []
    for refuse in (False, True):
        prefix = on.load_id()
        await driver.drive(Load(prefix, sagas=1, refuse=refuse))
        shapes.append(read(on.journal, await get(coordinator.address, f"{prefix}-{0:07}")))
    completed, compensated = shapes
    return completed, compensated


FEW: Final = (System(OURS), System(FLOOR), System(OURS, FAST, SQLITE), System(FLOOR, FAST))
"""Each kind once: enough to see whether the benchmarks run."""

ALL: Final = (
    System(OURS),
    System(FLOOR),
    System(OURS, FAST),
    System(FLOOR, FAST),
    System(RESTATE.name),
    System(OURS, UNARY, SQLITE),
    System(OURS, FAST, SQLITE),
    System(DBOS.name),
    System(TEMPORAL.name),
)
