"""Starts the order services and a coordinator as processes, kills them, and reads what is left in their databases."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from participant_sdk import CoordinatorClient
from saga.v1.coordinator_pb2 import Saga
from sample_services.demo.processes import Server, Supervisor
from sample_services.orders.demo import Orders
from sample_services.orders.v1.orders_pb2 import Address, Order, OrderLine
from tests.support.registering import register

DEFINITION_FILE = Path(__file__).parents[2] / "sample_services" / "orders" / "order_fulfillment.yaml"
DEFINITION = "order_fulfillment"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class OrderSystem:
    """The order services and a coordinator. `async with` starts them, registers the definition, and ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = directory / "journal.db"
        self.gateway_hold = directory / "card_gateway.hold"
        self._orders = Orders(directory)
        self._stack = AsyncExitStack()
        self._supervisor = Supervisor(directory)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._supervisor)
        try:
            for service in self._orders.services():
                await self._supervisor.start(service.name, (sys.executable, "-m", service.module, *service.options))
            await self._supervisor.start("coordinator", self.serve_command())
            await register(self.address, DEFINITION_FILE)
        except BaseException:
            await self._stack.aclose()
            raise
        self._orders.remember()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._stack.aclose()

    def serve_command(self) -> Sequence[str]:
        participants = [
            f"--participant={name}={server.address}"
            for name, server in self._supervisor.servers.items()
            if name != "coordinator"
        ]
        return (sys.executable, "-m", "coordinator.cli", "serve", f"--journal={self.journal}", *participants)

    @property
    def coordinator(self) -> Server:
        return self._supervisor.servers["coordinator"]

    @property
    def payment(self) -> Server:
        return self._supervisor.servers["payment"]

    @property
    def address(self) -> str:
        return self.coordinator.address

    def client(self) -> CoordinatorClient:
        return CoordinatorClient(self.address)

    async def saga(self, *arguments: str) -> Finished:
        """The command line, as a user runs it."""
        return await run(sys.executable, "-m", "coordinator.cli", "--server", self.address, *arguments)

    async def wait_all(self, saga_ids: Sequence[str]) -> list[Saga]:
        """Every saga at its end."""
        async with self.client() as sagas:
            waited = await asyncio.gather(*(sagas.wait(saga_id) for saga_id in saga_ids))
        return [saga for saga, _ended in waited]

    def select(self, service: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a query finds in a service's database."""
        with closing(sqlite3.connect(f"file:{self.directory / f'{service}.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(query, parameters).fetchall()

    def assert_sums_hold(self) -> None:
        """No piece and no cent is lost or made; no charge was made twice."""
        wrong = [(total.name, total.terms, total.expected) for total in self._orders.sums() if not total.adds_up]
        assert not wrong
        assert self.select("inventory", "SELECT * FROM reservations WHERE state = 'HELD'") == []


async def run(*command: str) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process brings about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.005)


def order(order_id: str, *, sku: str = "cup", quantity: int = 1, country: str = "NL", card: str = "tok_gold") -> Order:
    """An order; to country XX no carrier goes."""
    return Order(
        order_id=order_id,
        lines=[OrderLine(sku=sku, quantity=quantity)],
        card_token=card,
        destination=Address(
            recipient="Ada Lovelace", street="Dorpsstraat 1", city="1234 AB Delft", country_code=country
        ),
    )
