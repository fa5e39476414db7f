"""The scenes of the banks: transfers that are made and refused, a queue on one account, and many transfers at once.

What the rows say is read from the banks' own databases, as nobody but a demo should.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    SagaState,
)
from sample_services.demo import show
from sample_services.demo.sample import Example, Service, Sum
from sample_services.demo.stage import SceneFailed, Stage, number, select
from sample_services.transfer.bank import Bank
from sample_services.transfer.v1.transfer_pb2 import Money, Transfer

_DEFINITION_FILES: Final = tuple(
    Path(__file__).with_name(f"transfer_{between}.yaml") for between in ("north_to_south", "south_to_north")
)
_HOT_ACCOUNT: Final = "ada@north"
_ROUNDS: Final = 4

_TOTALS: Final = """
    SELECT currency, sum(balance_minor * (owner = 'CUSTOMER')), sum(balance_minor * (account_id LIKE 'in_flight.%')),
        sum(balance_minor * (account_id LIKE 'interbank.%')), sum(opening_minor)
    FROM accounts GROUP BY currency ORDER BY currency"""
_OF_CUSTOMERS: Final = "SELECT sum(balance_minor) FROM accounts WHERE owner = 'CUSTOMER' AND currency = 'EUR'"
_AT_OPENING: Final = "SELECT sum(opening_minor) FROM accounts WHERE owner = 'CUSTOMER' AND currency = 'EUR'"
_IN_FLIGHT: Final = "SELECT balance_minor FROM accounts WHERE account_id = 'in_flight.EUR'"
_INTERBANK: Final = "SELECT balance_minor FROM accounts WHERE account_id = 'interbank.EUR'"
_EXPLAINED: Final = """
    SELECT count(*) FROM accounts WHERE balance_minor = opening_minor
        + (SELECT coalesce(sum(amount_minor), 0) FROM movements WHERE to_account = account_id)
        - (SELECT coalesce(sum(amount_minor), 0) FROM movements WHERE from_account = account_id)"""
_ACCOUNTS: Final = """
    SELECT account_id, state, currency, opening_minor AS before, balance_minor AS now FROM accounts
    WHERE owner = 'CUSTOMER' OR balance_minor <> 0 ORDER BY owner DESC, account_id"""
_REVERSED: Final = """
    SELECT kind, from_account, to_account, amount_minor FROM movements AS movement WHERE EXISTS (
        SELECT 1 FROM movements WHERE kind = 'REVERSAL' AND transfer_id = movement.transfer_id) ORDER BY rowid"""


class Transfers:
    """The entry of the banks in the demo."""

    name = "transfer"

    def __init__(self, directory: Path) -> None:
        self._databases = {bank: directory / f"bank_{bank}.db" for bank in Bank}

    def services(self) -> Sequence[Service]:
        """Return both banks."""
        return tuple(
            Service(database.stem, "sample_services.transfer.bank", (f"--bank={bank}", f"--database={database}"))
            for bank, database in self._databases.items()
        )

    def definitions(self) -> Sequence[Path]:
        """Return the transfers in either direction."""
        return _DEFINITION_FILES

    async def play(self, stage: Stage) -> None:
        """Show the four scenes. Errors: `SceneFailed`."""
        await self._is_made(stage)
        await self._credit_is_refused(stage)
        await self._queue(stage)
        await self._many_at_once(stage)
        for bank, database in self._databases.items():
            stage.console.print(show.rows(f"bank_{bank}: accounts, in minor units", database, _ACCOUNTS))

    def sums(self) -> Sequence[Sum]:
        """Return that no cent is lost or made, and that none is in flight."""
        return tuple(self._sums())

    def example(self) -> Example:
        """Return a transfer that was made, and another that can be."""
        transfer = _transfer("transfer-2001", _HOT_ACCOUNT, "grace@south", 1500)
        return Example(_definition(transfer), "transfer-1001", "transfer-2001", transfer)

    def totals(self) -> Iterator[Sum]:
        """Yield what holds at every moment, also in the middle of a transfer: each bank has what it has always had."""
        for bank, database in self._databases.items():
            for currency, customers, in_flight, interbank, opening in select(database, _TOTALS):
                terms = (("of customers", customers), ("in flight", in_flight), ("interbank", interbank))
                yield Sum(f"{currency} cents at bank_{bank}", terms, opening, "when the bank opened")

    async def _is_made(self, stage: Stage) -> None:
        stage.scene(
            "A transfer that is made: debit at one bank, credit at the other, and what was in flight is settled"
        )
        await _begin(stage, _transfer("transfer-1001", _HOT_ACCOUNT, "grace@south", 10000))
        await stage.end("transfer-1001", SAGA_STATE_COMPLETED)

    async def _credit_is_refused(self, stage: Stage) -> None:
        stage.scene("A transfer to an account that is closed: the payer is debited, and gets the money back")
        await _begin(stage, _transfer("transfer-1002", _HOT_ACCOUNT, "otto@south", 10000))
        await stage.end("transfer-1002", SAGA_STATE_COMPENSATED)
        stage.console.print(show.rows("bank_north: what moved", self._databases[Bank.NORTH], _REVERSED))

    async def _queue(self, stage: Stage) -> None:
        stage.scene(
            f"Four transfers from {_HOT_ACCOUNT} while the other bank is down: one holds the account, three wait"
        )
        ends = (
            (_transfer("transfer-1101", _HOT_ACCOUNT, "grace@south", 40000), SAGA_STATE_COMPLETED),
            (_transfer("transfer-1102", _HOT_ACCOUNT, "otto@south", 40000), SAGA_STATE_COMPENSATED),
            (_transfer("transfer-1103", _HOT_ACCOUNT, "hugo@south", 40000), SAGA_STATE_COMPLETED),
            (_transfer("transfer-1104", _HOT_ACCOUNT, "grace@south", 40000), SAGA_STATE_COMPENSATED),
        )
        south = stage.servers["bank_south"]
        stage.say(f"kill -9 {south.pid}, bank_south")
        await south.kill()
        for transfer, _ in ends:
            await _begin(stage, transfer)
        await stage.found(
            self._databases[Bank.NORTH], "SELECT 1 FROM movements WHERE transfer_id = ?", ("transfer-1101",)
        )
        await self._show_queue(stage)
        self._check_totals()
        await south.start()
        stage.say(f"bank_south is back, process {south.pid}: one after the other, in the order in which they came")
        found = [await stage.ended(transfer.transfer_id, end) for transfer, end in ends]
        stage.console.print(show.sagas("What became of them: 1103 found the money that 1102 gave back", found))

    async def _show_queue(self, stage: Stage) -> None:
        """Show who holds the account and who waits. Errors: `SceneFailed` where that is not one, and all others."""
        unfinished = (SAGA_STATE_PENDING, SAGA_STATE_RUNNING)
        found = await stage.sagas(SagaFilter(exclusive_key=f"account:{_HOT_ACCOUNT}", states=unfinished))
        stage.console.print(show.sagas(f"Who holds account:{_HOT_ACCOUNT}, and who waits for it", found))
        if [saga.state for saga in found] != [SAGA_STATE_RUNNING, *(SAGA_STATE_PENDING,) * 3]:
            raise SceneFailed(f"not one saga holds {_HOT_ACCOUNT} and three wait for it")

    async def _many_at_once(self, stage: Stage) -> None:
        crowd = tuple(_crowd())
        stage.scene(f"{len(crowd)} transfers at once between a handful of accounts, some of them refused")
        await asyncio.gather(*(_begin(stage, transfer) for transfer, _ in crowd))
        found = []
        for transfer, end in crowd:
            self._check_totals()
            found.append(await stage.ended(transfer.transfer_id, end))
        stage.console.print(show.sagas("What became of them", found))
        stage.say(f"Each bank's total was looked at {len(crowd)} times meanwhile, and was always the same.")

    def _check_totals(self) -> None:
        """Check what holds at every moment. Errors: `SceneFailed`."""
        for total in self.totals():
            if not total.adds_up:
                raise SceneFailed(f"{total.name}: {total.total}, not {total.expected}")

    def _sums(self) -> Iterator[Sum]:
        yield from self.totals()
        opened = sum(number(database, _AT_OPENING) for database in self._databases.values())
        yield Sum("EUR cents of customers", self._of_both(_OF_CUSTOMERS), opened, "when the banks opened")
        yield Sum("EUR cents in flight", self._of_both(_IN_FLIGHT), 0, "for no transfer is under way")
        yield Sum("EUR cents interbank", self._of_both(_INTERBANK), 0, "for what one owes the other expects")
        accounts = sum(number(database, "SELECT count(*) FROM accounts") for database in self._databases.values())
        yield Sum("balances that the ledger explains", self._of_both(_EXPLAINED), accounts, "accounts")

    def _of_both(self, query: str) -> Sequence[tuple[str, int]]:
        return tuple((f"bank_{bank}", number(database, query)) for bank, database in self._databases.items())


def _crowd() -> Iterator[tuple[Transfer, SagaState.ValueType]]:
    """Yield twenty transfers, and how each ends in whatever order they run: sixteen are small, four make no sense."""
    ring = (_HOT_ACCOUNT, "grace@south", "bob@north", "hugo@south")
    pairs = tuple(zip(ring, (*ring[1:], ring[0]), strict=True))
    refused = (
        ("bob@north", "hugo@south", 99_999_999),
        ("grace@south", "carl@north", 300),
        (_HOT_ACCOUNT, "nobody@south", 300),
        ("bob@north", "ines@south", 300),
    )
    for turn in range(_ROUNDS):
        for place, (payer, payee) in enumerate(pairs, start=1):
            amount_minor = 100 * turn + 50 * place
            yield _transfer(f"transfer-12{turn}{place}", payer, payee, amount_minor), SAGA_STATE_COMPLETED
        yield _transfer(f"transfer-12{turn}9", *refused[turn]), SAGA_STATE_COMPENSATED


def _transfer(transfer_id: str, from_account: str, to_account: str, minor_units: int) -> Transfer:
    return Transfer(
        transfer_id=transfer_id,
        from_account=from_account,
        to_account=to_account,
        amount=Money(minor_units=minor_units, currency="EUR"),
    )


def _definition(transfer: Transfer) -> str:
    """Return the definition for the banks that a transfer is between."""
    payer, payee = (account.partition("@")[2] for account in (transfer.from_account, transfer.to_account))
    return f"transfer_{payer}_to_{payee}"


async def _begin(stage: Stage, transfer: Transfer) -> None:
    await stage.begin(_definition(transfer), transfer.transfer_id, transfer)
