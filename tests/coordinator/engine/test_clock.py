import time

from coordinator.engine.clock import SystemClock


class Clocks:
    """A machine's two clocks, set by the test."""

    def __init__(self) -> None:
        self.wall_ns = 1_000
        self.monotonic_ns = 10

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall_ns, lambda: self.monotonic_ns)

    def pass_by(self, length_ns: int) -> None:
        self.wall_ns += length_ns
        self.monotonic_ns += length_ns


def test_it_follows_the_wall_clock_forward() -> None:
    clocks = Clocks()
    clock = clocks.clock()
    assert clock.now_ns() == 1_000
    clocks.pass_by(5)
    assert clock.now_ns() == 1_005
    clocks.wall_ns += 100
    assert clock.now_ns() == 1_105


def test_it_goes_on_where_the_wall_clock_goes_back() -> None:
    clocks = Clocks()
    clock = clocks.clock()
    clocks.wall_ns -= 500
    assert clock.now_ns() == 1_000
    clocks.pass_by(7)
    assert clock.now_ns() == 1_007
    clocks.wall_ns += 600
    assert clock.now_ns() == 1_107


def test_it_tells_the_machines_time() -> None:
    before_ns = time.time_ns()
    assert before_ns <= SystemClock().now_ns() <= time.time_ns()
