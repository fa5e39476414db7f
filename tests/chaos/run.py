"""A round: a system of its own, clients on it, everything that goes wrong, reads all along, and the verdict in the end.

The first problem ends a round: what follows from it would only hide it. Then its evidence is written down, and its
files are kept by whoever gave the directory.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from saga.v1.types_pb2 import SagaState
from tests.chaos import aftermath, plan, verdict
from tests.chaos.audit import Auditor
from tests.chaos.clients import Clients
from tests.chaos.ledger import Ledger, Problem, Wrong
from tests.chaos.nemesis import Nemesis
from tests.chaos.observations import Observations
from tests.chaos.participant_relay import CALM, ROUGH, Weather
from tests.chaos.report import Report, evidence
from tests.chaos.system import BANK_COMMAND, ChaosSystem
from tests.chaos.transfers import wishes

_READ_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Round:
    """What makes a round. `bank_command` starts a bank, `weather` is what befalls its calls; `faults` says whether
    anything befalls processes and connections.
    """

    seed: int
    seconds: float
    accounts: int = 50
    clients: int = 100
    bank_command: tuple[str, ...] = BANK_COMMAND
    weather: Weather = ROUGH
    faults: bool = True


class _Violated(Exception):
    """Something is wrong; the observations and the report say what."""


async def play(round_: Round, directory: Path, log: Callable[[str], object]) -> Report:
    """Play a round with its files in a directory, and return what it came to. `log` is told what goes on, in lines."""
    chance = Random(round_.seed)
    async with ChaosSystem(directory, chance, round_.accounts, round_.bank_command) as system:
        return await _Play(round_, system, chance, log).play()


class _Play:
    def __init__(self, round_: Round, system: ChaosSystem, chance: Random, log: Callable[[str], object]) -> None:
        self._round = round_
        self._system = system
        self._log = log
        self._known = Observations()
        self._ledger = Ledger(self._known.wanted)
        self._auditor = Auditor(system.databases)
        self._lines = (
            plan.acts(chance, tuple(system.servers), tuple(system.links), round_.seconds) if round_.faults else []
        )
        self._nemesis = Nemesis(system.servers, system.links, chance, log)
        self._clients = Clients(system.address, wishes(chance, round_.accounts), self._known)
        self._report = Report()

    async def play(self) -> Report:
        try:
            await self._rage()
            await self._read()
            await self._judge()
        except* _Violated:
            pass
        self._count()
        if self._report.problems:
            self._show_evidence()
        return self._report

    async def _rage(self) -> None:
        """Let the clients work while everything goes wrong; afterwards let them, and all sagas, come to their ends."""
        is_over, is_settled = asyncio.Event(), asyncio.Event()
        self._set_weather(self._round.weather)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_until(is_settled))
            clients = [group.create_task(self._clients.work(is_over)) for _ in range(self._round.clients)]
            await asyncio.gather(self._nemesis.play(self._lines), asyncio.sleep(self._round.seconds))
            self._set_weather(CALM)
            is_over.set()
            self._log("everything is well again: the sagas that are left come to their ends")
            await aftermath.settle(self._system, clients)
            is_settled.set()

    def _set_weather(self, weather: Weather) -> None:
        for participant in self._system.participants.values():
            participant.weather = weather

    async def _read_until(self, is_settled: asyncio.Event) -> None:
        while not is_settled.is_set():
            await self._read()
            await asyncio.sleep(_READ_EVERY_S)

    async def _read(self) -> None:
        """Read the books at an instant, and see whether they are right. Errors: `_Violated`."""
        ended = dict(self._known.ended)
        books = await asyncio.to_thread(self._auditor.read)
        self._report.reads["not to be had: a bank was stopped as it wrote" if books is None else "at one instant"] += 1
        if books is not None:
            self._report.problems.extend(self._ledger.problems(books, ended))
        self._report.problems.extend(self._known.problems)
        self._known.problems.clear()
        self._raise_problems()

    async def _judge(self) -> None:
        left = await aftermath.collect(self._system, self._known)
        self._report.attempts = verdict.counts_of_attempts(left)
        self._report.sagas = Counter(SagaState.Name(saga.state).removeprefix("SAGA_STATE_") for saga in left.sagas)
        self._report.problems.extend(verdict.problems(left, self._ledger, self._known))
        self._report.problems.extend(self._known.problems)
        for participant in self._system.participants.values():
            self._report.problems.extend(Problem(Wrong.DOUBLED, "", text) for text in participant.deliveries.problems)

    def _raise_problems(self) -> None:
        if self._report.problems:
            raise _Violated

    def _count(self) -> None:
        self._report.clients = self._clients.counts
        self._report.kills = self._nemesis.kills
        self._report.stops = self._nemesis.stops
        self._report.faults = self._nemesis.faults
        for link in self._system.links.values():
            self._report.connections.update(link.counts)
        for participant in self._system.participants.values():
            self._report.calls.update(participant.counts)
            self._report.suppressed.update(participant.deliveries.suppressed)

    def _show_evidence(self) -> None:
        """Write down, of each transfer that is wrong, what every place has to say."""
        journal = aftermath.events(self._system)
        for transfer_id in {problem.transfer_id: None for problem in self._report.problems if problem.transfer_id}:
            self._log(f"evidence, {transfer_id}")
            for title, rows in (
                ("asked for", [self._known.wishes.get(transfer_id)]),
                ("journal", journal.get(transfer_id, ())),
                ("books", self._ledger.movements(transfer_id)),
                *(
                    (f"{name}'s barrier", self._system.select(name, _BARRIER, transfer_id))
                    for name in self._system.participants
                ),
            ):
                for line in evidence(title, rows):
                    self._log(line)


_BARRIER: Final = """
    SELECT saga_uid, step, state, execute_attempt, compensate_attempt FROM saga_barrier WHERE saga_id = ?"""
