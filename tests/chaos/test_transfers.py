"""What clients want is drawn from the seed: of everything some."""

from itertools import islice
from random import Random

from sample_services.transfer.bank import Bank
from tests.chaos.transfers import UNKEYED, Follow, Wish, account_ids, wishes


def drawn(seed: int) -> list[Wish]:
    return list(islice(wishes(Random(seed), 5), 500))


def test_the_same_seed_gives_the_same_wishes_each_with_an_id_of_its_own() -> None:
    assert drawn(1) == drawn(1) != drawn(2)
    assert len({wish.saga_id for wish in drawn(1)}) == 500


def test_money_goes_from_one_bank_to_the_other() -> None:
    accounts = {account for bank in Bank for account in account_ids(bank, 5)}
    for wish in drawn(1):
        payer, payee = (each.partition("@")[2] for each in (wish.transfer.from_account, wish.transfer.to_account))
        assert wish.definition.removesuffix(UNKEYED) == f"transfer_{payer}_to_{payee}"
        assert payer != payee
        assert wish.transfer.from_account in accounts
        assert not wish.may_complete or wish.transfer.to_account in accounts


def test_there_is_something_of_everything() -> None:
    found = drawn(1)
    assert {wish.follow for wish in found} == set(Follow)
    for manner in ("starts_twice", "clashes", "gives_up", "may_complete"):
        assert {getattr(wish, manner) for wish in found} == {True, False}
    for maybe in ("timeout", "cancelled_after_s", "patience_s"):
        assert {getattr(wish, maybe) is None for wish in found} == {True, False}
