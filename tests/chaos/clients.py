"""The clients: programs that start transfers, ask about them, cancel some, and do not trust the network.

A start that is not answered is repeated, or given up: then nobody knows whether there is such a saga. Whatever else is
not answered is asked again. It must not know what goes wrong, nor look anywhere but at the coordinator's answers.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import grpc

from participant_sdk import CoordinatorClient, SagaError
from saga.v1.coordinator_pb2 import Saga
from sample_services.transfer.v1.transfer_pb2 import Transfer
from tests.chaos.observations import Observations
from tests.chaos.transfers import Follow, Wish

_UNANSWERED: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
)
_CALL_TIMEOUT: Final = timedelta(seconds=2)
_WAIT: Final = timedelta(seconds=2)
_LOOK_AGAIN_S: Final = 0.1

T = TypeVar("T")


class Clients:
    """All clients of a round. `address` is the coordinator's, as they reach it."""

    def __init__(self, address: str, wishes: Iterator[Wish], observations: Observations) -> None:
        self.counts = Counter[str]()
        self._address = address
        self._wishes = wishes
        self._observations = observations

    async def work(self, is_over: asyncio.Event) -> None:
        """One program: a transfer after the other until it is over, each to its end."""
        while not is_over.is_set():
            wish = next(self._wishes)
            self._observations.wish(wish)
            async with CoordinatorClient(self._address, call_timeout=_CALL_TIMEOUT) as sagas:
                await self._carry_out(sagas, wish)

    async def _carry_out(self, sagas: CoordinatorClient, wish: Wish) -> None:
        starts = [self._start(sagas, wish) for _ in range(2 if wish.starts_twice else 1)]
        started = [saga for saga in await asyncio.gather(*starts) if saga is not None]
        if not started:
            self.counts["starts given up"] += 1
            return
        self.counts["starts acknowledged"] += 1
        for saga in sorted(started, key=lambda each: each.last_sequence):  # of two at once either may be the older
            self._observations.see(saga)
        if wish.clashes:
            await self._clash(sagas, wish)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(sagas, wish))
            if wish.cancelled_after_s is not None:
                group.create_task(self._cancel(sagas, wish, wish.cancelled_after_s))

    async def _start(self, sagas: CoordinatorClient, wish: Wish) -> Saga | None:
        try:
            async with asyncio.timeout(wish.patience_s):
                return await self._begin(sagas, wish, wish.transfer)
        except TimeoutError:
            pass
        except SagaError as error:
            if error.code not in _UNANSWERED:
                raise
        self.counts["starts unknown"] += 1
        if wish.gives_up:
            return None
        return await self._insist(partial(self._begin, sagas, wish, wish.transfer))

    async def _begin(self, sagas: CoordinatorClient, wish: Wish, transfer: Transfer) -> Saga:
        return await sagas.start(wish.definition, transfer, saga_id=wish.saga_id, timeout=wish.timeout)

    async def _clash(self, sagas: CoordinatorClient, wish: Wish) -> None:
        """G10: the same id for something else is refused."""
        other = Transfer()
        other.CopyFrom(wish.transfer)
        other.amount.minor_units += 1
        try:
            await self._insist(partial(self._begin, sagas, wish, other))
        except SagaError as error:
            if error.code is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            self.counts["clashing starts refused"] += 1
        else:
            self._observations.report(wish.saga_id, "its id was used again for another amount")

    async def _cancel(self, sagas: CoordinatorClient, wish: Wish, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._observations.cancelled.add(wish.saga_id)
        try:
            await self._insist(partial(sagas.cancel, wish.saga_id, "the client thought better of it"))
        except SagaError as error:
            if error.code is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self.counts["cancels refused: too late"] += 1
        else:
            self.counts["cancels accepted"] += 1

    async def _follow(self, sagas: CoordinatorClient, wish: Wish) -> None:
        while wish.saga_id not in self._observations.ended:
            await self._insist(partial(self._ask, sagas, wish))

    async def _ask(self, sagas: CoordinatorClient, wish: Wish) -> None:
        self.counts[f"asked by {wish.follow}"] += 1
        match wish.follow:
            case Follow.WAIT:
                waited = await sagas.wait(wish.saga_id, _WAIT)
                self._observations.see(waited.saga)
            case Follow.GET:
                self._observations.see(await sagas.get(wish.saga_id))
                await asyncio.sleep(_LOOK_AGAIN_S)
            case Follow.WATCH:
                seen = len(self._observations.events.get(wish.saga_id, ()))
                async for shown in sagas.watch(wish.saga_id, seen):
                    self._observations.watch(shown.event, shown.state)

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and ask the same again where there was no answer."""
        while True:
            try:
                return await ask()
            except SagaError as error:
                if error.code not in _UNANSWERED:
                    raise
                self.counts["asked again"] += 1
