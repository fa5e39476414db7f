"""An event loop whose time jumps to the next timer as soon as nothing else is left to do.

What takes an hour takes no time, and happens at exactly the instant it is due. Time stands still while a thread works
for the loop. Where nothing is left to do and no timer runs, the test is stuck and is told so.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

from coordinator.core.limits import SECOND_NS

EPOCH_NS = 1_000_000 * SECOND_NS
"""What the clocks of these tests show when a loop begins."""

_OUTSIDE_S = 20.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(Exception):
    """Nothing is left to do, no timer runs, and nothing comes from outside."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits for a timer: it moves the time on instead."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.threads = 0
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.threads:
            ready = self._real.select(_OUTSIDE_S)
            if not ready:
                raise Stuck
            return ready
        self.now_ns += max(round(timeout * SECOND_NS), 1)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class _ClosedSelector(_JumpingSelector):
    """Never asks the operating system for anything: a simulation is all there is."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        if timeout > 0:
            self.now_ns += max(round(timeout * SECOND_NS), 1)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 0."""

    def __init__(self) -> None:
        self._jumping = self._selector_of_time()
        super().__init__(self._jumping)

    def _selector_of_time(self) -> _JumpingSelector:
        return _JumpingSelector()

    def time(self) -> float:
        return self._jumping.now_ns / SECOND_NS

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let no time pass inside the block, where a thread works that the loop did not start."""
        self._jumping.threads += 1
        try:
            yield
        finally:
            self._jumping.threads -= 1

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        result: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        result.add_done_callback(self._thread_is_done)
        return result

    def _thread_is_done(self, _: object) -> None:
        self._jumping.threads -= 1


class ClosedLoop(VirtualTimeLoop):
    """A loop that depends on nothing outside it: what it runs goes the same way each time, and no thread is waited for.

    Work for threads is done at once, and files and sockets are never looked at.
    """

    def _selector_of_time(self) -> _JumpingSelector:
        return _ClosedSelector()

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        result: asyncio.Future[T] = self.create_future()
        try:
            result.set_result(func(*args))
        except Exception as error:  # it is the caller's
            result.set_exception(error)
        return result


class LoopClock:
    """A Clock that shows the running loop's time. `ahead_ns` can be set to what it is wrong by."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return EPOCH_NS + round(asyncio.get_running_loop().time() * SECOND_NS) + self.ahead_ns


def elapsed_s() -> float:
    """The virtual time since the test began."""
    return asyncio.get_running_loop().time()


async def settled() -> None:
    """Let everything happen that can happen without the time moving on (but for a microsecond)."""
    await asyncio.sleep(1e-6)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in virtual time, where those beside it run in real time."""

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test())

    return run
