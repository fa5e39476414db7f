"""`kill -9`, at moments that are drawn from a seed: everything that was acknowledged ends, and the sums hold (G2, G3,
G4).

SAGA_KILL_SEED names the seed, so that a run can be repeated: `for s in $(seq 20); do SAGA_KILL_SEED=$s pytest
tests/e2e/test_kill.py; done`. SAGA_WAITING_SAGAS says how many wait.
"""

import asyncio
import os
import random
from datetime import UTC, datetime, timedelta

import pytest

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED
from tests.e2e.system import DEFINITION, DEFINITION_FILE, OrderSystem, order, until
from tests.support.registering import register

pytestmark = pytest.mark.e2e

SEED = int(os.environ.get("SAGA_KILL_SEED", "1"))
ORDERS = 24
WAITING = int(os.environ.get("SAGA_WAITING_SAGAS", "60"))
SERVED, NOT_SERVED = "NL", "XX"


async def test_a_coordinator_killed_at_random_moments_loses_nothing(system: OrderSystem) -> None:
    """G1–G4: each start that was acknowledged ends as its order deserves, whenever the coordinator was killed."""
    chance = random.Random(SEED)
    ids = [f"order-{number}" for number in range(ORDERS)]
    countries = {saga_id: chance.choice((SERVED, NOT_SERVED)) for saga_id in ids}
    for batch in (ids[: ORDERS // 3], ids[ORDERS // 3 : 2 * ORDERS // 3], ids[2 * ORDERS // 3 :]):
        async with system.client() as sagas:
            await asyncio.gather(*(sagas.start(DEFINITION, order(i, country=countries[i]), saga_id=i) for i in batch))
        recorded = _recorded(system)
        wanted = recorded + chance.randrange(1, 40)
        await until(lambda wanted=wanted, batch=batch: _recorded(system) >= wanted or _ended(system, batch))  # type: ignore[misc]
        await system.coordinator.kill()
        await system.coordinator.start()
    for saga in await system.wait_all(ids):
        served = countries[saga.saga_id] == SERVED
        assert saga.state == (SAGA_STATE_COMPLETED if served else SAGA_STATE_COMPENSATED), saga
    system.assert_sums_hold()
    shipped = {row[0] for row in system.select("shipping", "SELECT order_id FROM shipments WHERE state = 'CREATED'")}
    assert shipped == {saga_id for saga_id in ids if countries[saga_id] == SERVED}
    doubled = system.select("payment", "SELECT order_id FROM charges GROUP BY order_id HAVING count(*) > 1")
    assert doubled == []


async def test_a_coordinator_killed_while_sagas_wait_for_their_start_loses_none(system: OrderSystem) -> None:
    """G3: nobody drives a saga that waits; it is found again, and none starts before its time."""
    ids = [f"waiting-{number}" for number in range(WAITING)]
    start_time = datetime.now(UTC) + timedelta(seconds=max(3, WAITING // 100))
    portions = [ids[first : first + 100] for first in range(0, WAITING, 100)]
    async with system.client() as sagas:
        for portion in portions:
            orders = ((i, order(i, country=NOT_SERVED)) for i in portion)
            await asyncio.gather(*(sagas.start(DEFINITION, o, saga_id=i, start_time=start_time) for i, o in orders))
    await system.coordinator.kill()
    await system.coordinator.start()
    for portion in portions:
        for saga in await system.wait_all(portion):
            assert saga.state == SAGA_STATE_COMPENSATED, saga
            assert saga.start_time.ToDatetime(UTC) >= start_time
    system.assert_sums_hold()


async def test_a_coordinator_killed_amid_many_starts_has_each_that_it_acknowledged_and_none_twice(
    system: OrderSystem,
) -> None:
    """G1, G10: over the fast lane; what was not acknowledged is asked for again by the client itself."""
    ids = [f"order-{number}" for number in range(500)]
    later = datetime.now(UTC) + timedelta(days=1)
    waiting, acknowledged = iter(ids), dict[str, str]()

    async def keep_starting() -> None:
        for saga_id in waiting:
            started = await sagas.start(DEFINITION, order(saga_id), saga_id=saga_id, start_time=later)
            acknowledged[saga_id] = started.uid

    async with system.client() as sagas, asyncio.TaskGroup() as starting:
        for _ in range(50):
            starting.create_task(keep_starting())
        await until(lambda: len(acknowledged) > random.Random(SEED).randrange(1, 300))
        await system.coordinator.kill()
        assert len(acknowledged) < len(ids)
        await system.coordinator.start()
    assert len(acknowledged) == len(ids)
    assert dict(system.select("journal", "SELECT saga_id, uid FROM sagas")) == acknowledged


async def test_a_coordinator_killed_while_a_call_is_in_flight_marks_it_lost_and_asks_again(system: OrderSystem) -> None:
    """G2, G5: the attempt in flight is unknown; the next one carries the same key, and the charge is made once."""
    system.gateway_hold.touch()
    async with system.client() as sagas:
        await sagas.start(DEFINITION, order("held"), saga_id="held")
    await until(lambda: bool(system.select("card_gateway", "SELECT * FROM charges WHERE state = 'CHARGED'")))
    await system.coordinator.kill()
    system.gateway_hold.unlink()
    await system.coordinator.start()
    [saga] = await system.wait_all(["held"])
    assert saga.state == SAGA_STATE_COMPLETED
    events = (await system.saga("events", "held", "-o", "json")).out
    assert '"attemptLost"' in events
    assert len(system.select("payment", "SELECT * FROM charges")) == 1
    system.assert_sums_hold()


async def test_a_participant_killed_in_the_middle_of_a_charge_charges_once(system: OrderSystem) -> None:
    """G2, G5: the connection's end is no refusal; the charge that was made is found again by its key."""
    system.gateway_hold.touch()
    async with system.client() as sagas:
        await sagas.start(DEFINITION, order("cut"), saga_id="cut")
    await until(lambda: bool(system.select("card_gateway", "SELECT * FROM charges WHERE state = 'CHARGED'")))
    await system.payment.kill()
    system.gateway_hold.unlink()
    await system.payment.start()
    [saga] = await system.wait_all(["cut"])
    assert saga.state == SAGA_STATE_COMPLETED
    assert saga.steps[1].execute.attempts > 1
    assert len(system.select("card_gateway", "SELECT * FROM charges")) == 1
    system.assert_sums_hold()


async def test_participants_killed_while_sagas_run_charge_and_ship_once(system: OrderSystem) -> None:
    """G2: whatever each participant had done when it was killed is done once."""
    chance = random.Random(SEED)
    ids = [f"order-{number}" for number in range(ORDERS)]
    async with system.client() as sagas:
        await asyncio.gather(*(sagas.start(DEFINITION, order(i), saga_id=i) for i in ids))
    wanted = _recorded(system) + chance.randrange(1, 60)
    await until(lambda: _recorded(system) >= wanted or _ended(system, ids))
    await system.payment.kill()
    await system.payment.start()
    for saga in await system.wait_all(ids):
        assert saga.state == SAGA_STATE_COMPLETED, saga
    assert len(system.select("payment", "SELECT * FROM charges")) == ORDERS
    system.assert_sums_hold()


async def test_a_running_saga_keeps_its_version_over_a_restart(system: OrderSystem) -> None:
    """G11: a new version is registered while a saga of the old one is in flight; the old one ends as it began."""
    system.gateway_hold.touch()
    async with system.client() as sagas:
        await sagas.start(DEFINITION, order("old"), saga_id="old")
    changed = system.directory / "changed.yaml"
    text = DEFINITION_FILE.read_text()
    changed.write_text(text.replace("timeout: 5m", "timeout: 6m", 1))
    await register(system.address, changed)
    await system.coordinator.kill()
    system.gateway_hold.unlink()
    await system.coordinator.start()
    async with system.client() as sagas:
        new = await sagas.start(DEFINITION, order("new"), saga_id="new")
    old, _ = await system.wait_all(["old", "new"])
    assert (old.version, new.version) == (1, 2)
    assert old.state == SAGA_STATE_COMPLETED


def _recorded(system: OrderSystem) -> int:
    """How many events the journal holds."""
    return int(system.select("journal", "SELECT count(*) FROM events")[0][0])


def _ended(system: OrderSystem, saga_ids: list[str]) -> bool:
    marks = ",".join("?" * len(saga_ids))
    query = f"SELECT count(*) FROM sagas WHERE saga_id IN ({marks}) AND end_time_ns IS NOT NULL"
    return bool(system.select("journal", query, *saga_ids)[0][0] == len(saga_ids))
