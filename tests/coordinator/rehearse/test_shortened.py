"""The copy that is rehearsed: without deadlines, with short backoffs, otherwise the same."""

from coordinator.core.definition import Plan, check_structure
from coordinator.rehearse.shortened import BACKOFF_NS, shortened
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE
from tests.coordinator.core.sagas import attempts, define, ns, step


def test_what_takes_time_is_shortened_and_what_counts_stays() -> None:
    slow = step("a", timeout=60, execute=attempts(3, timeout=7, backoff=5, longest=100))
    original = define(slow, step("b"), timeout=300, hold_margin=30)
    copy = shortened(original)
    assert not check_structure(copy)
    plan = Plan(copy)
    assert (plan.timeout_ns, plan.hold_margin_ns, plan.step("a").timeout_ns) == (None, 0, None)
    execute = plan.step("a").policies[OPERATION_EXECUTE]
    assert (execute.attempts_max, execute.timeout_ns) == (3, ns(7))
    for policy in (execute, plan.step("b").policies[OPERATION_COMPENSATE]):
        assert policy.backoff_ns(9, 0.999) <= BACKOFF_NS
    assert plan.step("b").policies[OPERATION_COMPENSATE].attempts_max == 20


def test_the_definition_itself_is_left_alone() -> None:
    original = define(step("a", timeout=60), timeout=300)
    before = original.SerializeToString()
    shortened(original)
    assert original.SerializeToString() == before
