"""Waits until every saga has ended, and collects what is left: from the coordinator, its journal and the banks.

It must not judge any of it.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from participant_sdk import CoordinatorClient
from participant_sdk.barrier.rules import State
from saga.v1.coordinator_pb2 import Saga, SagaFilter
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
)
from tests.chaos.observations import Observations
from tests.chaos.system import ChaosSystem
from tests.chaos.verdict import Aftermath, BarrierRow

SETTLED_WITHIN_S: Final = 120.0
_LOOK_AGAIN_S: Final = 0.1
_STARTED_AGAIN_MAX: Final = 200
_UNFINISHED: Final = SagaFilter(states=[SAGA_STATE_PENDING, SAGA_STATE_RUNNING, SAGA_STATE_COMPENSATING])


async def settle(system: ChaosSystem, clients: Sequence[asyncio.Task[None]]) -> None:
    """Return when clients have seen the end of what they follow, and nothing else is under way either.

    Or when it has taken too long: what is left then says so, and the clients are cancelled.
    """
    try:
        async with asyncio.timeout(SETTLED_WITHIN_S), CoordinatorClient(system.address) as sagas:
            while [saga async for saga in sagas.list(_UNFINISHED)]:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(_LOOK_AGAIN_S)
            await asyncio.gather(*(participant.is_quiet() for participant in system.participants.values()))
            await asyncio.wait(clients)
    except TimeoutError:
        for client in clients:
            client.cancel()


async def collect(system: ChaosSystem, known: Observations) -> Aftermath:
    """Return what is left."""
    async with CoordinatorClient(system.address) as client:
        started_again = {saga.saga_id: saga.uid for saga in await _start_again(client, known)}
        sagas = [saga async for saga in client.list()]
    verified = await system.saga("journal", "verify", str(system.journal), "--output=json")
    rows = [
        BarrierRow(saga_uid, step, State(state))
        for participant in system.participants
        for saga_uid, step, state in system.select(participant, "SELECT saga_uid, step, state FROM saga_barrier")
    ]
    return Aftermath(sagas, started_again, events(system), json.loads(verified.out)["problems"], rows)


def events(system: ChaosSystem) -> Mapping[str, list[SagaEvent]]:
    """Return all that the journal's file has, by saga, in order."""
    found: dict[str, list[SagaEvent]] = defaultdict(list)
    query = "SELECT saga_id, sequence, body FROM events JOIN sagas USING (saga) ORDER BY saga, sequence"
    for saga_id, sequence, body in system.select("journal", query):
        event = SagaEvent.FromString(body)
        event.saga_id, event.sequence = saga_id, sequence
        found[saga_id].append(event)
    return found


async def _start_again(client: CoordinatorClient, known: Observations) -> list[Saga]:
    wishes = [known.wishes[saga_id] for saga_id in islice(reversed(known.uids), _STARTED_AGAIN_MAX)]
    starts = (
        client.start(wish.definition, wish.transfer, saga_id=wish.saga_id, timeout=wish.timeout) for wish in wishes
    )
    return await asyncio.gather(*starts)
