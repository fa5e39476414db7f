"""`kill -9` of the coordinator and of services, again and again, while sagas of all samples run.

Clients start one saga after the other and follow each to its end; between them they keep all services busy. Meanwhile
the coordinator is killed and started again at moments that are drawn from a seed: after so many acknowledged starts and
so many more events, never after some time. Services are killed too, beside it and alone. In the end:

- G1, G3: every saga whose start was acknowledged is there, COMPLETED or COMPENSATED as it deserves; none is FAILED,
  none hangs, and so it is with the sagas that are steps of others;
- G2, G4, G6, G8: each completed saga had its effects once, in each service's own rows, and a compensated one has none
  left; nothing is reserved, held or in flight; each step's barrier row says what the coordinator says, and all sums
  of all samples add up;
- G5: a call that was cut off is not taken for a refusal: what went back for a refusal was refused by a participant, for
  a reason that its input gives;
- G10: clients repeat a start that was not answered, and in the end every start once more: nothing is started twice;
- G11, G12: each saga still is on the version that it began with, and no saga has a gap or a doubled event;
- rule 6: transfers that share an account never ran at the same time.

SAGA_KILL_SEED names the first seed, and SAGA_KILL_ROUNDS how many of them are played, each on a new system:
`SAGA_KILL_ROUNDS=20 pytest -s tests/e2e/test_kill_samples.py`.
"""

import asyncio
import os
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import grpc
import pytest

from participant_sdk import CoordinatorClient, SagaError
from saga.v1.coordinator_pb2 import Saga
from saga.v1.types_pb2 import (
    FAILURE_KIND_LOST,
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    Failure,
)
from sample_services.demo.stage import COORDINATOR
from tests.e2e.system import run, until
from tests.support.sample_sagas import EFFECTS, HELD, Planned, mix
from tests.support.sample_system import SampleSystem
from tests.support.settled import STANDS, overlapping, turns_by_key

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SEED: Final = int(os.environ.get("SAGA_KILL_SEED", "1"))
ROUNDS: Final = int(os.environ.get("SAGA_KILL_ROUNDS", "1"))
SAGAS: Final = 160
CLIENTS: Final = 24
MOMENTS: Final = 12
KILLS_MIN: Final = 8
EVENTS_MAX: Final = 40
ROUND_MAX_S: Final = 300.0

UNANSWERED: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
CUT_OFF: Final = (FAILURE_KIND_UNAVAILABLE, FAILURE_KIND_TIMED_OUT, FAILURE_KIND_LOST)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill whom: after so many acknowledged starts, and so many more events."""

    starts: int
    events: int
    victims: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tally:
    """What a round was made of."""

    sagas: int
    children: int
    completed: int
    compensated: int
    cut_off: int
    coordinator_kills: int
    service_kills: int
    restarts: int
    clients_asked_again: int


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
async def test_samples_in_a_loop_survive_kills_at_random_moments(tmp_path: Path, seed: int) -> None:
    """G1-G6, G8, G10-G12: all end, all sums hold."""
    async with SampleSystem(tmp_path) as system:
        tally = await play(system, Random(seed))
    print(f"\nseed {seed}: {tally}")
    assert tally.coordinator_kills >= KILLS_MIN


async def play(system: SampleSystem, chance: Random) -> Tally:
    """Run all planned sagas while processes are killed, and check what is left."""
    planned = mix(chance, SAGAS)
    clients = Clients(system, planned)
    async with asyncio.timeout(ROUND_MAX_S), asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(clients.work())
        killing = group.create_task(kill_at(moments(chance, system.service_names), system, clients))
    async with system.client() as sagas:
        await assert_nothing_starts_twice(sagas, planned, clients.uids)
        ended = [saga async for saga in sagas.list()]
    assert_all_ended_as_they_deserve(planned, clients.uids, ended)
    assert_turns_were_taken(ended)
    assert_effects(system, ended)
    assert_barriers_agree(system, ended)
    assert [query for service, query in HELD if system.select(service, query)] == []
    assert system.wrong_sums() == []
    await assert_journal_is_whole(system)
    return tally(ended, killing.result(), clients)


def tally(ended: Sequence[Saga], kills: Counter[str], clients: "Clients") -> Tally:
    states = Counter(saga.state for saga in ended)
    return Tally(
        sagas=len(ended),
        children=sum(bool(saga.parent_saga_id) for saga in ended),
        completed=states[SAGA_STATE_COMPLETED],
        compensated=states[SAGA_STATE_COMPENSATED],
        cut_off=sum(saga.failure.kind in CUT_OFF for saga in ended),
        coordinator_kills=kills[COORDINATOR],
        service_kills=kills.total() - kills[COORDINATOR],
        restarts=kills.total(),
        clients_asked_again=clients.asked_again,
    )


class Clients:
    """Programs that start the planned sagas and follow each to its end, however often the coordinator is away."""

    def __init__(self, system: SampleSystem, planned: Sequence[Planned]) -> None:
        self.uids: dict[str, str] = {}
        """The acknowledged sagas."""
        self.asked_again = 0
        """How often a client's own retries had not been enough."""
        self._system = system
        self._planned = planned
        self._left = deque(planned)
        self._acknowledged = asyncio.Condition()

    @property
    def have_started_all(self) -> bool:
        return len(self.uids) == len(self._planned)

    async def work(self) -> None:
        """One program: a saga after the other."""
        async with self._system.client() as sagas:
            while self._left:
                planned = self._left.popleft()
                saga = await self._insist(partial(begin, sagas, planned))
                await self._acknowledge(saga)
                await self._insist(partial(sagas.wait, saga.saga_id))

    async def acknowledged(self, starts: int) -> None:
        """Wait for that many acknowledged starts."""
        async with self._acknowledged:
            await self._acknowledged.wait_for(lambda: len(self.uids) >= starts)

    async def _acknowledge(self, saga: Saga) -> None:
        async with self._acknowledged:
            self.uids[saga.saga_id] = saga.uid
            self._acknowledged.notify_all()

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and ask the same again where nothing is known of what became of it."""
        while True:
            try:
                return await ask()
            except SagaError as error:
                if error.code not in UNANSWERED:
                    raise
                self.asked_again += 1


async def begin(sagas: CoordinatorClient, planned: Planned) -> Saga:
    return await sagas.start(planned.definition, planned.input, saga_id=planned.saga_id)


def moments(chance: Random, services: Sequence[str]) -> Iterator[Moment]:
    """Of four moments three are the coordinator's, one of them with a service, and one is a service's alone.

    Several may be after the same start: the coordinator is then killed again as soon as it is back. After the last one
    there are still sagas to start.
    """
    for turn, starts in enumerate(sorted(chance.choices(range(1, SAGAS - 2 * CLIENTS), k=MOMENTS))):
        victims = [COORDINATOR] if turn % 4 != 3 else []
        if turn % 2:
            victims.append(chance.choice(services))
        chance.shuffle(victims)
        yield Moment(starts, chance.randrange(EVENTS_MAX), victims)


async def kill_at(when: Iterator[Moment], system: SampleSystem, clients: Clients) -> Counter[str]:
    """Kill and start again; return who was killed, and how often."""
    kills = Counter[str]()
    for moment in when:
        await clients.acknowledged(moment.starts)
        recorded, _ = progress(system)
        await until(partial(is_in_the_middle, system, clients, recorded + moment.events))
        await system.kill(moment.victims)
        await system.start(moment.victims)
        kills.update(moment.victims)
    return kills


def is_in_the_middle(system: SampleSystem, clients: Clients, events: int) -> bool:
    """Whether so many events are recorded while sagas have not ended; or it will not get any better."""
    recorded, unfinished = progress(system)
    return clients.have_started_all or (recorded >= events and unfinished > 0)


def progress(system: SampleSystem) -> tuple[int, int]:
    """How many events the journal holds, and how many sagas have not ended."""
    [(recorded, unfinished)] = system.select(
        "journal", "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM sagas WHERE end_time_ns IS NULL)"
    )
    return int(recorded), int(unfinished)


async def assert_nothing_starts_twice(
    sagas: CoordinatorClient, planned: Sequence[Planned], uids: dict[str, str]
) -> None:
    """G10: the same start again is answered with the saga that there is."""
    again = await asyncio.gather(*(begin(sagas, each) for each in planned))
    assert {saga.saga_id: saga.uid for saga in again} == uids


def assert_all_ended_as_they_deserve(planned: Sequence[Planned], uids: dict[str, str], ended: Sequence[Saga]) -> None:
    """G1, G3, G11: every acknowledged saga is there and has ended, a child as its parent did; and no other is."""
    found = {saga.saga_id: saga for saga in ended}
    assert {saga.saga_id: saga.uid for saga in ended if not saga.parent_saga_id} == uids
    for each in planned:
        assert_deserved(each, found[each.saga_id], found)
    for saga in ended:
        if saga.parent_saga_id:
            assert saga.state == found[saga.parent_saga_id].state, saga
    for state in STANDS:
        assert {saga.definition for saga in ended if saga.state == state} == {each.definition for each in planned}


def assert_deserved(planned: Planned, saga: Saga, found: Mapping[str, Saga]) -> None:
    """G5: it completed where it could, or it went back, refused for what it is or cut off too often."""
    assert (saga.definition, saga.version) == (planned.definition, 1), saga
    if saga.state == SAGA_STATE_COMPLETED:
        assert planned.may_complete, saga
    else:
        assert saga.state == SAGA_STATE_COMPENSATED, saga
        cause = first_cause(saga, found)
        refused = cause.kind == FAILURE_KIND_REJECTED and cause.reason in planned.refusals
        assert refused or cause.kind in CUT_OFF, saga


def first_cause(saga: Saga, found: Mapping[str, Saga]) -> Failure:
    """Why it went back. To its parent a child that went back is a refusal (rule 9): the cause is the child's own."""
    child = found.get(f"{saga.saga_id}/{saga.failure.step}")
    if child is None or saga.failure.kind != FAILURE_KIND_REJECTED:
        return saga.failure
    return first_cause(child, found)


def assert_turns_were_taken(ended: Sequence[Saga]) -> None:
    """Rule 6: of two sagas that share an exclusive key one began after the other's end."""
    turns = turns_by_key(ended)
    assert max(map(len, turns.values())) > 1
    assert list(overlapping(turns)) == []


def assert_effects(system: SampleSystem, ended: Sequence[Saga]) -> None:
    """G2, G4, G6: each service has what completed sagas did, once, and nothing of the others."""
    for effect in EFFECTS:
        mine = [saga for saga in ended if saga.definition == effect.definition]
        names = {saga.labels[effect.label] for saga in mine}
        completed = Counter(saga.labels[effect.label] for saga in mine if saga.state == SAGA_STATE_COMPLETED)
        done = Counter(name for (name,) in system.select(effect.service, effect.query) if name in names)
        assert done == completed, effect


def assert_barriers_agree(system: SampleSystem, ended: Sequence[Saga]) -> None:
    """G4, G8: no participant worked for a saga that is not known, or has done more or less of it than its end says."""
    states = {saga.uid: saga.state for saga in ended}
    for service in system.service_names:
        for uid, step, state in system.select(service, "SELECT saga_uid, step, state FROM saga_barrier"):
            assert state in STANDS[states[uid]], (service, uid, step)


async def assert_journal_is_whole(system: SampleSystem) -> None:
    """G12: no gap, no double, and every saga folds to what is said of it."""
    query = "SELECT saga FROM events GROUP BY saga HAVING count(*) <> max(sequence) OR min(sequence) <> 1"
    assert system.select("journal", query) == []
    verified = await run(sys.executable, "-m", "coordinator.cli", "journal", "verify", str(system.journal))
    assert verified.code == 0, verified
