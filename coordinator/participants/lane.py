"""The fast lane to one participant: keeps one stream of Exchange up, and says when there is none.

Nobody waits for the lane. While no stream is up (the participant does not offer one, a proxy breaks streams, it is
down, it drains) calls go out as unary ones; the lane comes back by itself. This module must not make unary calls.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import grpc

from coordinator.core import limits, retry
from coordinator.participants.channel import end
from coordinator.participants.exchange import Exchange, Rpc
from saga.v1.participant_pb2 import ExchangeLimits

log = logging.getLogger(__name__)

_PAUSES: Final = retry.pauses(limits.EXCHANGE_BACKOFF_INITIAL_NS, limits.EXCHANGE_BACKOFF_MAX_NS)
_PROVEN_S: Final = limits.EXCHANGE_BACKOFF_MAX_NS / limits.SECOND_NS  # a stream that stood so long has not failed
_REFUSED: Final = 32  # failures, after which the pause is as long as it gets
_DRAIN_TIMEOUT_S: Final = limits.EXCHANGE_DRAIN_TIMEOUT_NS / limits.SECOND_NS


class Lane:
    """The fast lane of one participant, by its name in the log. `begin` begins a stream; `jitter` draws from [0, 1).

    To be made in the event loop that it is used in.
    """

    def __init__(self, name: str, begin: Callable[[], Rpc], jitter: Callable[[], float] = random.random) -> None:
        self._name = name
        self._jitter = jitter
        self._begin = begin
        self._offered: ExchangeLimits | None = None
        self._news = asyncio.Event()  # somebody has reason to believe that a stream can be opened now
        self._stream: Exchange | None = None
        self._running: dict[asyncio.Task[None], Exchange] = {}  # one that drains is beside its successor
        self._keeper = asyncio.create_task(self._keep())

    def offer(self, offered: ExchangeLimits | None) -> None:
        """The participant has described itself: with these limits it offers the lane, or with None it does not."""
        self._offered = offered
        if offered is None and self._stream is not None:
            self._stream.drain()
        self._news.set()

    @property
    def stream(self) -> Exchange | None:
        """The stream that takes calls now, if there is one."""
        stream = self._stream
        return stream if stream is not None and stream.takes_calls else None

    async def close(self) -> None:
        """Ends the lane: streams on which nothing is in flight are drained, others cut; their calls end unknown."""
        await end(self._keeper)
        for stream in self._running.values():
            if stream.is_idle:
                stream.drain()
            else:
                stream.cut("the connection was closed by the coordinator")
        if self._running:
            _, slow = await asyncio.wait(self._running, timeout=_DRAIN_TIMEOUT_S)
            for task in slow:
                await end(task)

    async def _keep(self) -> None:
        failures = 0
        while True:
            await self._wait_for_news(failures)
            if self._offered is None:
                failures = 0
                continue
            begun_s = asyncio.get_running_loop().time()
            stream = await self._use_one(self._offered)
            if stream.end_code is grpc.StatusCode.UNIMPLEMENTED:
                failures = _REFUSED
            elif asyncio.get_running_loop().time() - begun_s > _PROVEN_S:
                failures = 1
            else:
                failures += 1

    async def _wait_for_news(self, failures: int) -> None:
        """Waits for that or, where the participant offers the lane, for as long as that many failures in a row ask."""
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._offered is None else self._pause_s(failures)):
                await self._news.wait()

    def _pause_s(self, failures: int) -> float:
        return _PAUSES.backoff_ns(failures, self._jitter()) / limits.SECOND_NS if failures else 0.0

    async def _use_one(self, offered: ExchangeLimits) -> Exchange:
        """Opens a stream, and has it used until it takes no further call."""
        stream = self._stream = Exchange(self._begin(), offered)
        task = asyncio.create_task(self._run(stream))
        self._running[task] = stream
        task.add_done_callback(self._running.pop)
        await stream.retired.wait()
        self._stream = None
        return stream

    async def _run(self, stream: Exchange) -> None:
        try:
            await stream.run()
        except Exception:
            log.exception("a stream of the fast lane failed in the coordinator", extra={"participant": self._name})
            return
        if stream.end_code is not grpc.StatusCode.OK:
            about = {"participant": self._name, "reason": stream.end_reason}
            level = logging.INFO if stream.has_been_up else logging.DEBUG  # of many that fail the first says it
            log.log(level, "the fast lane is gone: calls are unary ones until it is back", extra=about)
