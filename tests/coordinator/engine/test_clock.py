import time

import pytest

from coordinator.engine.clock import SystemClock


class Clocks:
    """The machine's two clocks, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_ns = 1_000
        self.monotonic_ns = 10
        monkeypatch.setattr(time, "time_ns", lambda: self.wall_ns)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.monotonic_ns)

    def pass_by(self, length_ns: int) -> None:
        self.wall_ns += length_ns
        self.monotonic_ns += length_ns


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_it_follows_the_wall_clock_forward(clocks: Clocks) -> None:
    clock = SystemClock()
    assert clock.now_ns() == 1_000
    clocks.pass_by(5)
    assert clock.now_ns() == 1_005
    clocks.wall_ns += 100
    assert clock.now_ns() == 1_105


def test_it_goes_on_where_the_wall_clock_goes_back(clocks: Clocks) -> None:
    clock = SystemClock()
    clocks.wall_ns -= 500
    assert clock.now_ns() == 1_000
    clocks.pass_by(7)
    assert clock.now_ns() == 1_007
    clocks.wall_ns += 600
    assert clock.now_ns() == 1_107


def test_it_tells_the_machines_time() -> None:
    before_ns = time.time_ns()
    assert before_ns <= SystemClock().now_ns() <= time.time_ns()
