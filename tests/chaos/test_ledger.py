"""The ledger knows what is right, and notices each way in which it is not."""

from collections.abc import Mapping, Sequence

import pytest

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SagaState
from sample_services.transfer.bank import Bank
from sample_services.transfer.v1.transfer_pb2 import Money, Transfer
from tests.chaos.ledger import Account, Books, Ledger, Movement, Problem, Wrong

AMOUNT = 100
T = Transfer(
    transfer_id="t", from_account="ada@north", to_account="bob@south", amount=Money(minor_units=AMOUNT, currency="EUR")
)
DEBIT = Movement(Bank.NORTH, "DEBIT", "t", "ada@north", "in_flight.EUR", AMOUNT)
REVERSAL = Movement(Bank.NORTH, "REVERSAL", "t", "in_flight.EUR", "ada@north", AMOUNT)
CREDIT = Movement(Bank.SOUTH, "CREDIT", "t", "interbank.EUR", "bob@south", AMOUNT)
SETTLEMENT = Movement(Bank.NORTH, "SETTLEMENT", "t", "in_flight.EUR", "interbank.EUR", AMOUNT)
OPENING = {
    (Bank.NORTH, "ada@north"): 1000,
    (Bank.NORTH, "in_flight.EUR"): 0,
    (Bank.NORTH, "interbank.EUR"): 0,
    (Bank.SOUTH, "bob@south"): 500,
    (Bank.SOUTH, "in_flight.EUR"): 0,
    (Bank.SOUTH, "interbank.EUR"): 0,
}


def accounts(movements: Sequence[Movement]) -> list[Account]:
    """The accounts as these movements leave them."""
    balances = dict(OPENING)
    for each in movements:
        balances[each.bank, each.from_account] -= each.amount_minor
        balances[each.bank, each.to_account] += each.amount_minor
    return [
        Account(bank, name, "CUSTOMER" if "@" in name else "BANK", OPENING[bank, name], balance)
        for (bank, name), balance in balances.items()
    ]


def found(
    movements: Sequence[Movement],
    ended: Mapping[str, SagaState.ValueType] | None = None,
    moved: Sequence[Movement] | None = None,
) -> list[Problem]:
    """The problems of the books at an instant; `moved`: what the balances say has moved, where it is something else."""
    books = Books(accounts(movements if moved is None else moved), movements)
    return list(Ledger({"t": T}).problems(books, ended or {}))


def wrongs(problems: Sequence[Problem]) -> set[tuple[Wrong, str]]:
    return {(problem.wrong, problem.transfer_id) for problem in problems}


@pytest.mark.parametrize(
    "movements", [[], [DEBIT], [DEBIT, REVERSAL], [DEBIT, CREDIT], [CREDIT, DEBIT], [DEBIT, CREDIT, SETTLEMENT]]
)
def test_every_stage_of_a_transfer_is_right_however_the_banks_are_read(movements: list[Movement]) -> None:
    assert found(movements) == []


def test_what_was_entered_before_counts() -> None:
    ledger = Ledger({"t": T})
    assert list(ledger.problems(Books(accounts([DEBIT]), [DEBIT]), {})) == []
    assert ledger.in_flight_minor == AMOUNT
    assert list(ledger.problems(Books(accounts([DEBIT, CREDIT]), [CREDIT]), {})) == []
    assert ledger.in_flight_minor == 0
    assert ledger.kinds("t") == ("DEBIT", "CREDIT")


@pytest.mark.parametrize("kind", [DEBIT, REVERSAL, CREDIT, SETTLEMENT])
def test_g2_what_happens_twice_is_doubled(kind: Movement) -> None:
    whole = [DEBIT, REVERSAL] if kind is REVERSAL else [DEBIT, CREDIT, SETTLEMENT]
    assert wrongs(found([*whole, kind])) == {(Wrong.DOUBLED, "t")}


@pytest.mark.parametrize("movements", [[CREDIT], [REVERSAL], [DEBIT, REVERSAL, CREDIT], [DEBIT, CREDIT, REVERSAL]])
def test_g4_g6_a_stage_that_there_is_not_is_untrue(movements: list[Movement]) -> None:
    assert wrongs(found(movements)) == {(Wrong.UNTRUE, "t")}


def test_what_is_settled_and_was_never_credited_is_lost() -> None:
    assert wrongs(found([DEBIT, SETTLEMENT])) == {(Wrong.LOST, "t")}


@pytest.mark.parametrize(
    "other",
    [
        DEBIT._replace(amount_minor=AMOUNT + 1),
        DEBIT._replace(bank=Bank.SOUTH, from_account="bob@south"),
        DEBIT._replace(transfer_id="unknown"),
    ],
)
def test_what_nobody_asked_for_is_untrue(other: Movement) -> None:
    assert {problem.wrong for problem in found([other])} == {Wrong.UNTRUE}


def test_balances_that_the_movements_do_not_explain_are_untrue() -> None:
    assert wrongs(found([], moved=[DEBIT])) == {(Wrong.UNTRUE, "")}
    assert wrongs(found([DEBIT], moved=[])) == {(Wrong.UNTRUE, "")}


def test_a_customer_does_not_owe() -> None:
    wanted = Transfer()
    wanted.CopyFrom(T)
    wanted.amount.minor_units = 1001
    movement = DEBIT._replace(amount_minor=1001)
    [problem] = Ledger({"t": wanted}).problems(Books(accounts([movement]), [movement]), {})
    assert "overdrawn" in problem.text


class TestEnds:
    """G1, G8: what a client was told of a transfer's end is so, and stays so."""

    def test_it_is_so(self) -> None:
        assert found([DEBIT, CREDIT, SETTLEMENT], {"t": SAGA_STATE_COMPLETED}) == []
        assert found([DEBIT, REVERSAL], {"t": SAGA_STATE_COMPENSATED}) == []
        assert found([], {"t": SAGA_STATE_COMPENSATED}) == []

    def test_what_is_missing_is_lost(self) -> None:
        assert wrongs(found([DEBIT, CREDIT], {"t": SAGA_STATE_COMPLETED})) == {(Wrong.LOST, "t")}
        assert wrongs(found([], {"t": SAGA_STATE_COMPLETED})) == {(Wrong.LOST, "t")}
        assert wrongs(found([DEBIT], {"t": SAGA_STATE_COMPENSATED})) == {(Wrong.LOST, "t")}

    def test_an_effect_after_the_end_is_noticed_though_the_end_was_known_before(self) -> None:
        ledger = Ledger({"t": T})
        assert list(ledger.problems(Books(accounts([]), []), {"t": SAGA_STATE_COMPENSATED})) == []
        late = ledger.problems(Books(accounts([DEBIT]), [DEBIT]), {"t": SAGA_STATE_COMPENSATED})
        assert wrongs(list(late)) == {(Wrong.LOST, "t")}

    def test_a_saga_that_does_not_exist_has_moved_nothing(self) -> None:
        ledger = Ledger({"t": T})
        assert list(ledger.problems_at_end("t", None)) == []
        assert list(ledger.problems(Books(accounts([DEBIT]), [DEBIT]), {})) == []
        assert wrongs(list(ledger.problems_at_end("t", None))) == {(Wrong.LOST, "t")}
