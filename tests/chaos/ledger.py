"""What must be true of the books of both banks, at every instant that they are read at. Pure.

A transfer's rows come in one order, each once: DEBIT, then REVERSAL; or DEBIT, CREDIT, SETTLEMENT. Its money is in
flight from the debit until the reversal or the credit. So at every instant what all customers have and what is in
flight is what they began with; with its own accounts, each bank has what it has always had; and what a client was
told of a transfer's end is so, and stays so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SagaState
from sample_services.transfer.bank import Bank
from sample_services.transfer.v1.transfer_pb2 import Transfer


class Account(NamedTuple):
    """An account of a bank, as it stands."""

    bank: Bank
    account_id: str
    owner: str
    opening_minor: int
    balance_minor: int


class Movement(NamedTuple):
    """A row of a bank's ledger."""

    bank: Bank
    kind: str
    transfer_id: str
    from_account: str
    to_account: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Books:
    """Both banks at one instant: every account, and the movements since the instant before."""

    accounts: Sequence[Account]
    movements: Sequence[Movement]


class Wrong(StrEnum):
    """What is wrong with it."""

    LOST = "lost"
    DOUBLED = "doubled"
    UNTRUE = "untrue"


class Problem(NamedTuple):
    """Something that must never be: what, of which transfer (empty: of none alone), in words."""

    wrong: Wrong
    transfer_id: str
    text: str


_STAGES: Final = ((), ("DEBIT",), ("DEBIT", "REVERSAL"), ("DEBIT", "CREDIT"), ("DEBIT", "CREDIT", "SETTLEMENT"))
_KINDS: Final = ("DEBIT", "CREDIT", "SETTLEMENT", "REVERSAL")
_AT_THE_END: Final[Mapping[SagaState.ValueType, Sequence[Sequence[str]]]] = {
    SAGA_STATE_COMPLETED: (("DEBIT", "CREDIT", "SETTLEMENT"),),
    SAGA_STATE_COMPENSATED: ((), ("DEBIT", "REVERSAL")),
}
_SIGN_IN_FLIGHT: Final = {"DEBIT": 1, "REVERSAL": -1, "CREDIT": -1, "SETTLEMENT": 0}


@dataclass(slots=True)
class Ledger:
    """All movements so far. `wanted` has every transfer that was ever asked for, by its id."""

    wanted: Mapping[str, Transfer]
    in_flight_minor: int = 0
    _movements: dict[str, list[Movement]] = field(default_factory=dict)
    _changes: dict[str, int] = field(default_factory=dict)
    _ended: dict[str, SagaState.ValueType] = field(default_factory=dict)

    def problems(self, books: Books, ended: Mapping[str, SagaState.ValueType]) -> Iterator[Problem]:
        """Enter an instant's books, and yield what is wrong then.

        `ended` has the transfers whose end was known to a client before that instant, and how they ended.
        """
        touched = {movement.transfer_id: None for movement in books.movements}
        for movement in books.movements:
            self._enter(movement)
        yield from self._problems_of_accounts(books.accounts)
        new = {transfer_id: None for transfer_id in ended if transfer_id not in self._ended}
        self._ended.update(ended)
        for transfer_id in touched | new:
            yield from self._problems_of(transfer_id)

    def kinds(self, transfer_id: str) -> tuple[str, ...]:
        """Return the kinds of a transfer's movements, in the order in which they have to come."""
        return tuple(sorted((each.kind for each in self.movements(transfer_id)), key=_KINDS.index))

    def movements(self, transfer_id: str) -> Sequence[Movement]:
        """Return a transfer's movements so far."""
        return self._movements.get(transfer_id, ())

    def problems_at_end(self, transfer_id: str, state: SagaState.ValueType | None) -> Iterator[Problem]:
        """Yield what is wrong with a transfer whose saga is in that state, or, None, does not exist."""
        kinds = self.kinds(transfer_id)
        expected = _AT_THE_END.get(state, ((),)) if state is not None else ((),)
        if kinds not in expected:
            missing = state == SAGA_STATE_COMPLETED or kinds == ("DEBIT",)
            wrong = Wrong.LOST if missing and len(set(kinds)) == len(kinds) else Wrong.UNTRUE
            name = "unknown" if state is None else SagaState.Name(state)
            yield Problem(wrong, transfer_id, f"the saga is {name}, the books have {kinds or 'nothing'}")

    def _enter(self, movement: Movement) -> None:
        self._movements.setdefault(movement.transfer_id, []).append(movement)
        self.in_flight_minor += _SIGN_IN_FLIGHT[movement.kind] * movement.amount_minor
        for account, change in (
            (movement.from_account, -movement.amount_minor),
            (movement.to_account, movement.amount_minor),
        ):
            name = f"{movement.bank}/{account}"
            self._changes[name] = self._changes.get(name, 0) + change

    def _problems_of_accounts(self, accounts: Sequence[Account]) -> Iterator[Problem]:
        customers = [account for account in accounts if account.owner == "CUSTOMER"]
        yield from _differs("all customers and what is in flight", customers, -self.in_flight_minor)
        for bank in Bank:
            yield from _differs(f"bank_{bank}", [account for account in accounts if account.bank is bank], 0)
        for account in accounts:
            change = self._changes.get(f"{account.bank}/{account.account_id}", 0)
            yield from _differs(f"{account.account_id}, by its movements,", [account], change)
            if account.owner == "CUSTOMER" and account.balance_minor < 0:
                yield Problem(Wrong.UNTRUE, "", f"{account.account_id} is overdrawn: {account.balance_minor}")

    def _problems_of(self, transfer_id: str) -> Iterator[Problem]:
        kinds = self.kinds(transfer_id)
        if kinds not in {tuple(sorted(stage, key=_KINDS.index)) for stage in _STAGES}:
            yield Problem(_wrong(kinds), transfer_id, f"it has {', '.join(kinds)}")
        for movement in self.movements(transfer_id):
            if movement != self._expected(movement):
                yield Problem(Wrong.UNTRUE, transfer_id, f"nobody asked for {movement}")
        if transfer_id in self._ended:
            yield from self.problems_at_end(transfer_id, self._ended[transfer_id])

    def _expected(self, movement: Movement) -> Movement | None:
        """Return a movement of that kind as its transfer wants it."""
        wanted = self.wanted.get(movement.transfer_id)
        if wanted is None:
            return None
        payer, payee = (Bank(account.partition("@")[2]) for account in (wanted.from_account, wanted.to_account))
        in_flight, interbank = (f"{name}.{wanted.amount.currency}" for name in ("in_flight", "interbank"))
        bank, from_account, to_account = {
            "DEBIT": (payer, wanted.from_account, in_flight),
            "REVERSAL": (payer, in_flight, wanted.from_account),
            "CREDIT": (payee, interbank, wanted.to_account),
            "SETTLEMENT": (payer, in_flight, interbank),
        }[movement.kind]
        return Movement(bank, movement.kind, wanted.transfer_id, from_account, to_account, wanted.amount.minor_units)


def _wrong(kinds: Sequence[str]) -> Wrong:
    """Return what is wrong with movements that are no stage of a transfer."""
    if len(set(kinds)) < len(kinds):
        return Wrong.DOUBLED
    return Wrong.LOST if "SETTLEMENT" in kinds and "CREDIT" not in kinds else Wrong.UNTRUE


def _differs(what: str, accounts: Iterable[Account], change_minor: int) -> Iterator[Problem]:
    """Yield a problem where accounts do not have together what they began with and this change."""
    counted = tuple(accounts)
    has, had = sum(each.balance_minor for each in counted), sum(each.opening_minor for each in counted)
    if has != had + change_minor:
        yield Problem(Wrong.UNTRUE, "", f"{what} must have {had + change_minor}, and has {has}")
