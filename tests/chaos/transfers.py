"""What is transferred, and how the clients behave who want it: drawn from the seed. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import Final

from sample_services.transfer.bank import Bank
from sample_services.transfer.v1.transfer_pb2 import Money, Transfer

CURRENCY: Final = "EUR"
OPENING_MINOR: Final = 10_000
UNKEYED: Final = "_unkeyed"
"""How the names of the definitions end whose transfers do not wait for each other's accounts."""

_AMOUNT_MINOR_MAX: Final = 2_500
_FAR_TOO_MUCH_MINOR: Final = 1_000_000_000
_CLOSED: Final = {Bank.NORTH: "carl@north", Bank.SOUTH: "otto@south"}
_TIMEOUT_S: Final = (0.2, 4.0)
_CANCELLED_AFTER_S: Final = 0.3
_PATIENCE_S_MAX: Final = 0.05  # about what a start takes: some have happened when nobody waits any more


class Follow(StrEnum):
    """How a client learns how its transfer ends."""

    WAIT = "WaitSaga"
    WATCH = "WatchSaga"
    GET = "GetSaga"


@dataclass(frozen=True, slots=True)
class Wish:
    """A transfer that a client wants, and how it goes about it."""

    definition: str
    transfer: Transfer
    refusals: frozenset[str]
    """With which reasons a bank may refuse it."""
    may_complete: bool
    follow: Follow
    timeout: timedelta | None
    """Shortens the definition's."""
    cancelled_after_s: float | None
    starts_twice: bool
    """It is started by two clients at the same moment."""
    clashes: bool
    """Somebody uses its id for another amount once it is started."""
    patience_s: float | None
    """How long its client waits, at first, until it is acknowledged. None: as long as it takes."""
    gives_up: bool
    """A start that was not answered is not repeated."""

    @property
    def saga_id(self) -> str:
        """The transfer's own number."""
        return self.transfer.transfer_id


def account_ids(bank: Bank, count: int) -> Sequence[str]:
    """Return the names of the customers' accounts that transfers are between."""
    return [f"customer-{number}@{bank}" for number in range(count)]


def wishes(chance: Random, accounts: int) -> Iterator[Wish]:
    """Yield wishes without end. Three of four can be met; the first accounts are in more demand than the others."""
    number = 0
    while True:
        number += 1
        payer, payee = chance.sample(tuple(Bank), 2)
        from_account, to_account = (_account(chance, bank, accounts) for bank in (payer, payee))
        amount_minor, refusals, may_complete = chance.randint(1, _AMOUNT_MINOR_MAX), {"INSUFFICIENT_FUNDS"}, True
        match chance.randrange(16):
            case 0 | 1:
                to_account, refusals, may_complete = _CLOSED[payee], refusals | {"ACCOUNT_CLOSED"}, False
            case 2:
                to_account, refusals, may_complete = f"nobody@{payee}", refusals | {"UNKNOWN_ACCOUNT"}, False
            case 3:
                amount_minor, may_complete = _FAR_TOO_MUCH_MINOR, False
        transfer = Transfer(
            transfer_id=f"transfer-{number}",
            from_account=from_account,
            to_account=to_account,
            amount=Money(minor_units=amount_minor, currency=CURRENCY),
        )
        yield Wish(
            definition=f"transfer_{payer}_to_{payee}{chance.choice(('', UNKEYED))}",
            transfer=transfer,
            refusals=frozenset(refusals),
            may_complete=may_complete,
            follow=chance.choice(tuple(Follow)),
            timeout=timedelta(seconds=chance.uniform(*_TIMEOUT_S)) if chance.random() < 0.1 else None,
            cancelled_after_s=chance.uniform(0, _CANCELLED_AFTER_S) if chance.random() < 0.1 else None,
            starts_twice=chance.random() < 0.15,
            clashes=chance.random() < 0.1,
            patience_s=chance.uniform(0, _PATIENCE_S_MAX) if chance.random() < 0.2 else None,
            gives_up=chance.random() < 0.5,
        )


def _account(chance: Random, bank: Bank, accounts: int) -> str:
    return account_ids(bank, accounts)[int(accounts * chance.random() ** 2)]
