"""Exclusive keys: who holds which, who waits, and whose turn it is (rule 6).

A saga that shares a key with another runs only when the other has ended. The rules:

- The keys of a claim are granted all together or not at all.
- Their owner is the root saga, so that a child never waits for what its own parents hold. An owner lets go when none of
  its sagas is unfinished: what a child took is kept until the root has ended, because the child may still have to be
  compensated, and a compensation must never have to wait.
- Roots are granted in the order of their arrival: a later one does not pass an earlier one that waits for the same key,
  even if that key is free. So no root waits for ever, and as none holds anything while it waits, roots alone cannot
  deadlock.
- The claim of a child goes before those of all roots, and waits for holders only, because its root may already hold
  what the others wait for. So does that of a saga which has ended and has to go back: its parent, on another
  coordinator, waits for that. Where two owners wait for each other all the same, the claim on that circle which arrived
  last is refused; the child is then compensated, and its parent with it.

Nothing is granted before `open`: after a restart first everybody who held something must be known.

This module must not know a saga's state; nothing here is on disk: it follows from what is.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Claim:
    """A saga's wish for its keys, of which there is at least one.

    `owner` is its root saga; `arrival_ns` is when it could have started. `again`: it has held them, and has to go back.
    """

    saga_id: str
    owner: str
    keys: tuple[str, ...]
    arrival_ns: int
    again: bool = False

    @property
    def nested(self) -> bool:
        """Whether it is a child's."""
        return self.saga_id != self.owner

    @property
    def first(self) -> bool:
        """Whether it goes before those of sagas that hold nothing yet, and waits for holders only."""
        return self.nested or self.again


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim: granted, or refused because it would have waited for ever."""

    saga_id: str
    granted: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """A key that a claim waits for, and the saga that holds it or stands before the claim in the queue."""

    key: str
    holder: str


@dataclass(slots=True)
class _Share:
    """What one saga took for its owner."""

    keys: tuple[str, ...]
    ended: bool = False


@dataclass(slots=True)
class _Queue:
    """Who waits for one key: those who go first, and behind them roots; each in the order of arrival."""

    first: list[Claim] = field(default_factory=list)
    roots: list[Claim] = field(default_factory=list)

    def line(self, claim: Claim) -> list[Claim]:
        """Where the claim stands."""
        return self.first if claim.first else self.roots

    def __bool__(self) -> bool:
        return bool(self.first or self.roots)


_Owners: TypeAlias = dict[str, dict[str, _Share]]


class Keys:
    """All exclusive keys of a coordinator. Each method answers with what became of claims by it."""

    def __init__(self) -> None:
        self._is_open = False
        self._owners: _Owners = {}
        self._holders: dict[str, set[str]] = {}
        """The owners of each key that is held: one, unless the records of a time before the restart say otherwise."""
        self._waiting: dict[str, Claim] = {}
        self._children_of: dict[str, dict[str, Claim]] = {}
        """The waiting claims of an owner's children."""
        self._queues: dict[str, _Queue] = {}

    # --- Changes ---

    def open(self) -> list[Verdict]:
        """Begin to grant: everybody who held something before is known now."""
        self._is_open = True
        return self._settle(list(self._queues))

    def hold(self, saga_id: str, owner: str, keys: tuple[str, ...], *, ended: bool = False) -> None:
        """Take it that the saga holds its keys, whoever else does; `ended`: its owner has not, so they are kept."""
        self._take(Claim(saga_id, owner, keys, 0)).ended = ended

    def claim(self, claim: Claim) -> list[Verdict]:
        """Wish for keys; again where the claim is waiting or granted already changes nothing."""
        if claim.saga_id in self._owners.get(claim.owner, ()):
            return [Verdict(claim.saga_id, granted=True)]
        if claim.saga_id not in self._waiting:
            self._waiting[claim.saga_id] = claim
            if claim.nested:
                self._children_of.setdefault(claim.owner, {})[claim.saga_id] = claim
            for key in claim.keys:
                queue = self._queues.setdefault(key, _Queue())
                insort(queue.line(claim), claim, key=_arrival)
        return self._settle(claim.keys, claim.owner)

    def withdraw(self, saga_id: str, owner: str) -> list[Verdict]:
        """Wish no more: of a saga that has not started."""
        claim = self._waiting.get(saga_id)
        if claim is not None:
            self._leave(claim)
            return self._settle(claim.keys)
        share = self._owners.get(owner, {}).pop(saga_id, None)
        return self._let_go(owner, share.keys) if share is not None else []

    def end(self, saga_id: str, owner: str) -> list[Verdict]:
        """The saga has ended, and that is durable."""
        claim = self._waiting.get(saga_id)
        if claim is not None:  # it was cancelled before its turn came
            self._leave(claim)
        return [*self._end(saga_id, owner), *self._settle(claim.keys if claim is not None else ())]

    def _end(self, saga_id: str, owner: str) -> list[Verdict]:
        shares = self._owners.get(owner)
        if shares is None:
            return []
        if saga_id in shares:
            shares[saga_id].ended = True
        if not all(share.ended for share in shares.values()):
            return []
        keys = _each_once(key for share in shares.values() for key in share.keys)
        shares.clear()
        return self._let_go(owner, keys)

    # --- Questions ---

    def blocked(self, saga_id: str) -> Iterator[Blocked]:
        """What the saga's claim waits for."""
        claim = self._waiting.get(saga_id)
        for key in claim.keys if claim is not None else ():
            assert claim is not None
            ahead = self._others(claim.owner, key) or self._ahead(claim, key)
            if ahead:
                yield Blocked(key, min(ahead))

    # --- The rules ---

    def _settle(self, keys: Iterable[str], owner: str = "") -> list[Verdict]:
        """Grant whatever can be, among those who wait for one of the keys, and break the circles that arose."""
        if not self._is_open:
            return []
        verdicts: list[Verdict] = []
        changed = list(keys)
        owners = [owner] if owner else []
        while changed or owners:
            granted = [claim for key in changed for claim in self._grant_next(key)]
            verdicts += [Verdict(claim.saga_id, granted=True) for claim in granted]
            owners += [claim.owner for claim in granted]
            changed = []
            for each in _each_once(owners):
                while circle := self._circle(each):
                    victim = max(circle, key=_arrival)
                    self._leave(victim)
                    verdicts.append(Verdict(victim.saga_id, granted=False))
                    changed += victim.keys
            owners = []
        return verdicts

    def _grant_next(self, key: str) -> Iterator[Claim]:
        """Grant what can be of those who wait for the key: those who go first, then the first root."""
        progress = True
        while progress:
            queue = self._queues.get(key)
            candidates = [*queue.first, *queue.roots[:1]] if queue is not None else []
            progress = False
            for claim in candidates:
                if not self._blockers(claim):
                    self._leave(claim)
                    self._take(claim)
                    yield claim
                    progress = True

    def _blockers(self, claim: Claim) -> bool:
        return any(self._others(claim.owner, key) or self._ahead(claim, key) for key in claim.keys)

    def _others(self, owner: str, key: str) -> set[str]:
        """Who holds the key, where that is somebody else."""
        holders = self._holders.get(key, _NOBODY)
        return _NOBODY if owner in holders else holders

    def _ahead(self, claim: Claim, key: str) -> set[str]:
        """Who stands before a root's claim; before one that goes first nobody does."""
        if claim.first:
            return _NOBODY
        queue = self._queues[key]
        first = queue.first[0] if queue.first else queue.roots[0]
        return _NOBODY if first.saga_id == claim.saga_id else {first.saga_id}

    def _circle(self, owner: str) -> list[Claim]:
        """The claims on a way from the owner over those it waits for back to itself; empty where there is none."""
        reached_by: dict[str, Claim] = {}
        frontier = [owner]
        for waiting in frontier:  # grows while it is walked
            for claim in self._children_of.get(waiting, {}).values():
                for holder in _each_once(holder for key in claim.keys for holder in self._others(waiting, key)):
                    if holder not in reached_by:
                        reached_by[holder] = claim
                        frontier.append(holder)
            if owner in reached_by:
                return list(_way_back(owner, reached_by))
        return []

    # --- Bookkeeping ---

    def _take(self, claim: Claim) -> _Share:
        shares = self._owners.setdefault(claim.owner, {})
        if claim.nested:  # the root keeps what its children took
            shares.setdefault(claim.owner, _Share(()))
        share = shares[claim.saga_id] = _Share(claim.keys)
        for key in claim.keys:
            self._holders.setdefault(key, set()).add(claim.owner)
        return share

    def _leave(self, claim: Claim) -> None:
        """The claim waits no longer."""
        del self._waiting[claim.saga_id]
        if claim.nested:
            siblings = self._children_of[claim.owner]
            del siblings[claim.saga_id]
            if not siblings:
                del self._children_of[claim.owner]
        for key in claim.keys:
            queue = self._queues[key]
            line = queue.line(claim)
            del line[bisect_left(line, _arrival(claim), key=_arrival)]
            if not queue:
                del self._queues[key]

    def _let_go(self, owner: str, keys: Iterable[str]) -> list[Verdict]:
        """The owner holds no longer what none of its sagas took."""
        shares = self._owners[owner]
        kept = {key for share in shares.values() for key in share.keys}
        if not shares:
            del self._owners[owner]
        free = [key for key in keys if key not in kept]
        for key in free:
            holders = self._holders[key]
            holders.discard(owner)
            if not holders:
                del self._holders[key]
        return self._settle(free)


_NOBODY: Final[set[str]] = set()


def _way_back(owner: str, reached_by: Mapping[str, Claim]) -> Iterator[Claim]:
    """The claims of a circle through the owner, the last one first."""
    claim = reached_by[owner]
    yield claim
    while claim.owner != owner:
        claim = reached_by[claim.owner]
        yield claim


def _arrival(claim: Claim) -> tuple[int, str]:
    return claim.arrival_ns, claim.saga_id


def _each_once(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
