"""All sample services and a coordinator, each a process of its own on loopback sockets, to be killed at will.

It must not know what sagas are started.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from participant_sdk import CoordinatorClient
from sample_services.demo.__main__ import SAMPLES
from sample_services.demo.processes import Server, Supervisor
from sample_services.demo.sample import Sample
from sample_services.demo.stage import COORDINATOR, Stage, select
from sample_services.marketplace.demo import Marketplace
from sample_services.orders.demo import Orders
from sample_services.purchase.demo import Purchases
from sample_services.travel.demo import Travel


class SampleSystem:
    """The services of all samples and a coordinator that knows their definitions. `async with` starts and ends them."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal.db"
        self._directory = directory
        self._samples: Sequence[Sample] = [sample(directory) for sample in SAMPLES]
        self._services = {service.name: service for sample in self._samples for service in sample.services()}
        self._stack = AsyncExitStack()
        self._supervisor = Supervisor(directory)
        self._stage = Stage(self._supervisor, directory, Console(quiet=True))

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._supervisor)
        try:
            await self._stage.start_services(self._services.values())
            await self._stage.start_coordinator()
            await self._stage.register(dict.fromkeys(each for sample in self._samples for each in sample.definitions()))
        except BaseException:
            await self._stack.aclose()
            raise
        for sample in self._samples:
            if isinstance(
                sample, Orders | Travel | Purchases | Marketplace
            ):  # what the others began with is in their rows
                sample.remember()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        if kind is not None:
            print(f"{COORDINATOR}, last words:\n{self.coordinator.last_words}")
        await self._stack.aclose()

    @property
    def service_names(self) -> Sequence[str]:
        return tuple(self._services)

    @property
    def coordinator(self) -> Server:
        return self._stage.coordinator

    def client(self) -> CoordinatorClient:
        return CoordinatorClient(self.coordinator.address)

    async def kill(self, names: Sequence[str]) -> None:
        """`kill -9`, in this order, before any of them is gone."""
        await asyncio.gather(*(self._stage.servers[name].kill() for name in names))

    async def start(self, names: Sequence[str]) -> None:
        """Start them again, where they were."""
        await asyncio.gather(*(self._stage.servers[name].start() for name in names))

    def select(self, service: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a query finds in a service's database, or in the journal."""
        return select(self._directory / f"{service}.db", query, parameters)

    def wrong_sums(self) -> list[str]:
        """Every sum of every sample that does not add up, in words."""
        return [
            f"{sample.name}: {each.name} {each.terms}, not {each.expected} {each.expected_as}"
            for sample in self._samples
            for each in sample.sums()
            if not each.adds_up
        ]
