"""Two banks and a coordinator as processes, each connection between them through relays, and the definitions.

    clients -> TcpRelay -> coordinator -> TcpRelay -> ParticipantRelay -> bank

It must not know what is transferred, nor what goes wrong.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import Random
from typing import Any, Final, Self

import yaml

from sample_services.demo.processes import Server, Supervisor
from sample_services.demo.stage import COORDINATOR, COORDINATOR_COMMAND, select
from sample_services.transfer.bank import Bank
from sample_services.transfer.demo import Transfers
from tests.chaos.participant_relay import ParticipantRelay
from tests.chaos.tcp_relay import TcpRelay
from tests.chaos.transfers import CURRENCY, OPENING_MINOR, UNKEYED, account_ids
from tests.e2e.system import Finished, run
from tests.support.registering import register

CLIENTS: Final = "clients"
"""The link between the clients and the coordinator; the others are named after the bank that they lead to."""

BANK_COMMAND: Final = (sys.executable, "-m", "sample_services.transfer.bank")

# Short, so that a round sees many deadlines pass; and no compensation ever gives up, for all faults heal.
_EXECUTE: Final = {"timeout": "1s", "max_backoff": "1s"}
_COMPENSATE: Final = {"timeout": "1s", "max_backoff": "1s", "max_attempts": 0}
_OPEN: Final = """
    INSERT INTO accounts (account_id, owner, currency, opening_minor, balance_minor)
    VALUES (?, 'CUSTOMER', ?, ?, ?)"""


class ChaosSystem:
    """The processes and relays of a round. `async with` starts them, registers the definitions, and ends them."""

    def __init__(
        self, directory: Path, chance: Random, accounts: int, bank_command: tuple[str, ...] = BANK_COMMAND
    ) -> None:
        self.directory = directory
        self.journal = directory / "journal.db"
        self.databases = {bank: directory / f"bank_{bank}.db" for bank in Bank}
        self.links: dict[str, TcpRelay] = {}
        self.participants: dict[str, ParticipantRelay] = {}
        self._chance = chance
        self._accounts = accounts
        self._bank_command = bank_command
        self._supervisor = Supervisor(directory)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._supervisor)
        try:
            await asyncio.gather(*(self._start_bank(bank) for bank in Bank))
            for bank in Bank:
                await self._relay_to(bank)
            await self._start_coordinator()
            await self._register()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        try:
            # Nobody has to drain: where something is wrong, calls may be in flight that are never answered.
            await asyncio.gather(*(server.kill() for server in self.servers.values()))
        finally:
            await self._stack.aclose()

    @property
    def servers(self) -> Mapping[str, Server]:
        """The processes, by name."""
        return self._supervisor.servers

    @property
    def address(self) -> str:
        """Where clients reach the coordinator."""
        return self.links[CLIENTS].address

    async def saga(self, *arguments: str) -> Finished:
        """The command line, past all relays."""
        return await run(*COORDINATOR_COMMAND, f"--server={self.servers[COORDINATOR].address}", *arguments)

    def select(self, service: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a query finds in a bank's database, or in the journal."""
        return select(self.directory / f"{service}.db", query, parameters)

    async def _start_bank(self, bank: Bank) -> None:
        database = self.databases[bank]
        command = (*self._bank_command, f"--bank={bank}", f"--database={database}")
        await self._supervisor.start(f"bank_{bank}", command)
        with closing(sqlite3.connect(database)) as connection, connection:
            rows = [(each, CURRENCY, OPENING_MINOR, OPENING_MINOR) for each in account_ids(bank, self._accounts)]
            connection.executemany(_OPEN, rows)

    async def _relay_to(self, bank: Bank) -> None:
        name = f"bank_{bank}"
        relay = ParticipantRelay(self.servers[name].address, Random(self._chance.random()))
        self.participants[name] = await self._stack.enter_async_context(relay)
        self.links[name] = await self._stack.enter_async_context(TcpRelay(relay.address))

    async def _start_coordinator(self) -> None:
        participants = [f"--participant={name}={link.address}" for name, link in self.links.items()]
        serve = (*COORDINATOR_COMMAND, "serve", f"--journal={self.journal}", *participants)
        server = await self._supervisor.start(COORDINATOR, serve)
        self.links[CLIENTS] = await self._stack.enter_async_context(TcpRelay(server.address))

    async def _register(self) -> None:
        """Register the sample's own definitions, with shorter times, and each once more without its keys."""
        files = []
        for file in Transfers(self.directory).definitions():
            definition = yaml.safe_load(file.read_text(encoding="utf-8"))
            for step in definition["steps"]:
                step["execute"] = {**step.get("execute", {}), **_EXECUTE}
                step["compensate"] = _COMPENSATE
            unkeyed = {key: value for key, value in definition.items() if key != "exclusive_keys"}
            for each in (definition, {**unkeyed, "name": definition["name"] + UNKEYED}):
                files.append(self.directory / f"{each['name']}.yaml")
                files[-1].write_text(yaml.safe_dump(each, sort_keys=False), encoding="utf-8")
        await register(self.servers[COORDINATOR].address, *files)
