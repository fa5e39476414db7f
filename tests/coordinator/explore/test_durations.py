"""The longest ways are those that the policies allow, added up by hand."""

from coordinator.core.definition import Plan
from coordinator.core.limits import SECOND_NS
from coordinator.explore.durations import all_attempts_ns, durations
from saga.v1.types_pb2 import OPERATION_EXECUTE
from tests.coordinator.core.sagas import attempts, define, step

THREE = attempts(3, timeout=10, backoff=1, longest=1.5)  # 10 + 1 + 10 + 1.5 + 10
ONE = attempts(1, timeout=4)


def s(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def test_all_attempts_with_the_longest_waits() -> None:
    plan = Plan(define(step("a", execute=THREE)))
    assert all_attempts_ns(plan.steps[0].policies[OPERATION_EXECUTE]) == s(32.5)


def test_the_critical_path_there_and_back() -> None:
    found = durations(
        Plan(
            define(
                step("a", execute=ONE, compensate=ONE),
                step("b", "COMPENSATABLE", "a", execute=THREE, compensate=ONE),
                step("c", "COMPENSATABLE", "a", execute=ONE, compensate=THREE),
                graph=True,
                timeout=30,
            )
        )
    )
    assert (found.forward.steps, found.forward.length_ns) == ((0, 1), s(36.5))
    assert (found.back.steps, found.back.length_ns) == ((2, 0), s(36.5))
    assert not found.fits
    assert found.compensated_after_ns == s(30 + 36.5)


def test_one_at_a_time_all_lengths_add_up() -> None:
    steps = [step(name, execute=ONE, compensate=ONE) for name in "ab"]
    found = durations(Plan(define(*steps, graph=True, one_at_a_time=True)))
    assert (found.back.steps, found.back.length_ns) == ((1, 0), s(8))
    assert found.fits


def test_a_steps_timeout_cuts_its_attempts_off() -> None:
    found = durations(Plan(define(step("a", execute=attempts(0), timeout=60))))
    assert found.steps[0].cut_off
    assert (found.steps[0].attempts_ns, found.steps[0].execute_ns) == (None, s(60))


def test_what_must_go_on_has_no_limit() -> None:
    found = durations(Plan(define(step("a", execute=ONE), step("b", "PIVOT"), step("c", "RETRIABLE"))))
    assert found.forward.length_ns is None
    assert found.until_no_return.length_ns == s(4)
    assert found.compensated_after_ns is None, "the pivot is asked until its outcome is known"
