"""Exclusive keys: all or none, in order of arrival, no deadlock, and nobody is forgotten (rule 6, G3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.keys import Blocked, Claim, Keys, Verdict
from tests.support.properties import drawing


def root(name: str, *keys: str, at: int = 0) -> Claim:
    return Claim(name, name, keys, at)


def child(name: str, *keys: str, at: int = 0) -> Claim:
    return Claim(name, name.split("/")[0], keys, at)


def granted(*names: str) -> list[Verdict]:
    return [Verdict(name, granted=True) for name in names]


@pytest.fixture
def keys() -> Keys:
    opened = Keys()
    assert opened.open() == []
    return opened


def test_a_free_key_is_granted_at_once(keys: Keys) -> None:
    assert keys.claim(root("r", "a", "b")) == granted("r")


def test_asking_again_says_the_same(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("s", "a", at=1))
    assert keys.claim(root("r", "a")) == granted("r")
    assert keys.claim(root("s", "a", at=1)) == []


def test_a_held_key_is_waited_for_and_granted_when_its_holder_has_ended(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    assert keys.claim(root("s", "a", "b", at=1)) == []
    assert list(keys.blocked("s")) == [Blocked("a", "r")]
    assert keys.end("r", "r") == granted("s")
    assert list(keys.blocked("s")) == []


def test_roots_come_in_the_order_of_arrival_whatever_the_order_of_asking(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("later", "a", at=9))
    keys.claim(root("sooner", "a", at=5))
    assert list(keys.blocked("later")) == [Blocked("a", "r")]
    assert keys.end("r", "r") == granted("sooner")
    assert keys.end("sooner", "sooner") == granted("later")


def test_a_later_root_does_not_pass_an_earlier_one_that_waits_for_another_key(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("both", "a", "b", at=1))
    assert keys.claim(root("later", "b", at=2)) == []
    assert list(keys.blocked("later")) == [Blocked("b", "both")]
    assert keys.claim(root("elsewhere", "c", at=3)) == granted("elsewhere")
    assert keys.end("r", "r") == granted("both")
    assert keys.end("both", "both") == granted("later")


def test_who_withdraws_makes_way(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("both", "a", "b", at=1))
    keys.claim(root("later", "b", at=2))
    assert keys.withdraw("both", "both") == granted("later")
    assert keys.withdraw("r", "r") == []
    assert keys.claim(root("next", "a", at=3)) == granted("next")


def test_who_ends_while_it_waits_makes_way(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("both", "a", "b", at=1))
    keys.claim(root("later", "b", at=2))
    assert keys.end("both", "both") == granted("later")


def test_a_child_does_not_wait_for_its_own_root(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("s", "a", at=1))
    assert keys.claim(child("r/x", "a", at=2)) == granted("r/x")
    assert keys.claim(child("r/y", "a", "b", at=3)) == granted("r/y")


def test_a_child_goes_before_roots_because_its_root_may_hold_what_they_wait_for(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("s", "a", "b", at=1))
    assert keys.claim(child("r/x", "b", at=2)) == granted("r/x")


def test_what_a_child_took_is_kept_until_its_root_has_ended(keys: Keys) -> None:
    keys.claim(child("r/x", "a", at=1))
    keys.claim(root("s", "a", at=2))
    assert keys.end("r/x", "r") == []
    assert list(keys.blocked("s")) == [Blocked("a", "r")]
    assert keys.end("r", "r") == granted("s")


def test_a_root_that_has_ended_lets_go_only_when_its_children_have(keys: Keys) -> None:
    """An operator can settle a step of which the child still stands FAILED."""
    keys.claim(root("r", "b"))
    keys.claim(child("r/x", "a", at=1))
    keys.claim(root("s", "a", "b", at=2))
    assert keys.end("r", "r") == []
    assert keys.end("r/x", "r") == granted("s")


def test_who_has_to_go_back_is_granted_before_those_who_hold_nothing_yet() -> None:
    keys = Keys()
    keys.open()
    keys.claim(root("r", "a"))
    keys.claim(root("waiting", "a", "b", at=1))
    assert keys.claim(Claim("back", "back", ("a", "b"), 9, again=True)) == []
    assert list(keys.blocked("waiting")) == [Blocked("a", "r"), Blocked("b", "back")]
    assert keys.end("r", "r") == granted("back")
    assert keys.end("back", "back") == granted("waiting")


def test_two_owners_that_would_wait_for_each_other_do_not(keys: Keys) -> None:
    keys.claim(root("r", "a"))
    keys.claim(root("s", "b", at=1))
    assert keys.claim(child("r/x", "b", at=2)) == []
    assert keys.claim(child("s/y", "a", at=3)) == [Verdict("s/y", granted=False)]
    assert keys.end("s", "s") == granted("r/x")


def test_a_grant_can_close_a_circle_too(keys: Keys) -> None:
    keys.claim(root("p", "k"))
    keys.claim(root("x", "l", at=1))
    keys.claim(child("o/1", "k", at=3))
    keys.claim(child("x/1", "k", at=4))
    keys.claim(child("o/2", "l", at=5))  # o waits for x, and x not yet for o
    assert keys.end("p", "p") == [Verdict("o/1", granted=True), Verdict("o/2", granted=False)]


def test_nothing_is_granted_before_everybody_who_held_something_is_known() -> None:
    """Restart: G3 for those who wait, exclusivity for those who hold."""
    keys = Keys()
    assert keys.claim(root("s", "a", at=1)) == []
    assert keys.claim(root("t", "b", at=2)) == []
    keys.hold("r", "r", ("a",))
    assert keys.open() == granted("t")
    assert list(keys.blocked("s")) == [Blocked("a", "r")]


def test_an_ended_child_of_an_unfinished_root_is_remembered_over_a_restart() -> None:
    keys = Keys()
    keys.hold("r/x", "r", ("a",), ended=True)
    keys.open()
    assert keys.claim(root("s", "a")) == []
    assert keys.end("r", "r") == granted("s")


def test_records_that_contradict_each_other_hold_for_both() -> None:
    keys = Keys()
    keys.hold("r", "r", ("a",))
    keys.hold("s", "s", ("a",))
    keys.open()
    keys.claim(root("t", "a"))
    assert keys.end("r", "r") == []
    assert keys.end("s", "s") == granted("t")


# --- Whatever happens -------------------------------------------------------------------------------------------------

_NAMES = "abcd"


class Model:
    """What the rules mean, without any of the bookkeeping."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.keys.open()
        self.waiting: dict[str, Claim] = {}
        self.shares: dict[str, dict[str, tuple[str, ...]]] = {}
        self.alive: dict[str, str] = {}
        self.clock = 0

    def owners(self, key: str) -> set[str]:
        return {owner for owner, shares in self.shares.items() if any(key in keys for keys in shares.values())}

    def others(self, owner: str, key: str) -> set[str]:
        owners = self.owners(key)
        return set() if owner in owners else owners

    def start_root(self, wanted: tuple[str, ...]) -> None:
        self.clock += 1
        name = f"r{self.clock}"
        self.alive[name] = name
        self.claim(Claim(name, name, wanted, self.clock))

    def start_child(self, of: str, wanted: tuple[str, ...]) -> None:
        self.clock += 1
        name = f"{of}/{self.clock}"
        owner = self.alive[of]
        self.alive[name] = owner
        self.claim(Claim(name, owner, wanted, self.clock))

    def claim(self, claim: Claim) -> None:
        if claim.keys:
            self.waiting[claim.saga_id] = claim
            self.take(self.keys.claim(claim))

    def stop(self, name: str, *, ended: bool) -> None:
        owner = self.alive.pop(name)
        self.waiting.pop(name, None)
        if not ended:
            self.shares.get(owner, {}).pop(name, None)
        if ended and not any(each == owner for each in self.alive.values()):
            self.shares.pop(owner, None)
        change = self.keys.end if ended else self.keys.withdraw
        self.take(change(name, owner))

    def take(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            claim = self.waiting.pop(verdict.saga_id)
            if verdict.granted:
                for key in claim.keys:
                    assert not self.others(claim.owner, key), "exclusive"
                if not claim.nested:
                    for other in self.waiting.values():
                        passed = not other.nested and other.arrival_ns < claim.arrival_ns
                        assert not (passed and set(other.keys) & set(claim.keys)), "in order of arrival"
                self.shares.setdefault(claim.owner, {})[claim.saga_id] = claim.keys
            else:
                assert claim.nested, "a root is never refused"
                assert claim.owner in self.waits_for(claim, then=True), "only a circle is broken"
                del self.alive[claim.saga_id]
        self.check()

    def waits_for(self, claim: Claim, *, then: bool = False) -> set[str]:
        """The owners that the claim waits for, directly or not."""
        found: set[str] = set()
        frontier = [claim]
        while frontier:
            each = frontier.pop()
            for key in each.keys:
                for holder in self.others(each.owner, key) - found:
                    found.add(holder)
                    frontier += [c for c in self.waiting.values() if c.nested and c.owner == holder]
        return found

    def check(self) -> None:
        for claim in self.waiting.values():
            ahead = [
                other
                for other in self.waiting.values()
                if set(other.keys) & set(claim.keys)
                and not claim.nested
                and (other.nested or other.arrival_ns < claim.arrival_ns)
            ]
            held = {holder for key in claim.keys for holder in self.others(claim.owner, key)}
            assert held or ahead, f"{claim} is forgotten"
            assert list(self.keys.blocked(claim.saga_id)), "what it waits for can be read (G3)"
            assert not claim.nested or claim.owner not in self.waits_for(claim), "a circle"


@drawing(500)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["root", "child", "child", "end", "withdraw"]),
            st.sets(st.sampled_from(_NAMES), max_size=3),
            st.integers(0, 1 << 16),
        ),
        max_size=40,
    )
)
def test_whatever_happens_everybody_comes_to_its_turn(steps: list[tuple[str, set[str], int]]) -> None:
    """Exclusive, in order, without circles; and when sagas end, all that waited are granted."""
    model = Model()
    for what, wanted, number in steps:
        started = sorted(name for name in model.alive if name not in model.waiting)
        if what == "root":
            model.start_root(tuple(sorted(wanted)))
        elif what == "child" and started:
            model.start_child(started[number % len(started)], tuple(sorted(wanted)))
        elif what == "end" and started:
            name = started[number % len(started)]
            if not any(other.startswith(f"{name}/") for other in model.alive):
                model.stop(name, ended=True)
        elif what == "withdraw" and model.waiting:
            name = sorted(model.waiting)[number % len(model.waiting)]
            model.stop(name, ended=False)
    while model.alive:
        runs = [name for name in model.alive if name not in model.waiting]
        leaf = next(
            name for name in runs if not any(other.startswith(f"{name}/") for other in model.alive if other != name)
        )
        model.stop(leaf, ended=True)
    assert not model.waiting
