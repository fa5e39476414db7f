"""How often and when an operation is attempted again (G7, G14)."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from coordinator.core import limits
from coordinator.core.retry import Policy, execute_attempts, policy
from saga.v1.definition_pb2 import AttemptPolicy
from saga.v1.types_pb2 import STEP_KIND_COMPENSATABLE, STEP_KIND_PIVOT, STEP_KIND_READ_ONLY, STEP_KIND_RETRIABLE
from tests.coordinator.core.sagas import attempts, ns


def test_defaults() -> None:
    assert policy(AttemptPolicy(), 7) == Policy(
        timeout_ns=ns(10), attempts_max=7, initial_backoff_ns=ns(0.1), multiplier=2.0, backoff_max_ns=ns(30)
    )


def test_what_is_said_counts() -> None:
    message = AttemptPolicy(
        timeout=Duration(seconds=1),
        max_attempts=3,
        initial_backoff=Duration(seconds=2),
        backoff_multiplier=1.5,
        max_backoff=Duration(seconds=60),
    )
    assert policy(message, 7) == Policy(
        timeout_ns=ns(1), attempts_max=3, initial_backoff_ns=ns(2), multiplier=1.5, backoff_max_ns=ns(60)
    )


def test_zero_attempts_means_without_limit() -> None:
    assert policy(attempts(0), 7).attempts_max == limits.UNLIMITED
    assert not policy(attempts(0), 7).exhausted(10**9)


def test_a_long_first_backoff_raises_the_default_cap() -> None:
    assert policy(attempts(backoff=3600), 7).backoff_ns(1, 0.0) == ns(1800)


@pytest.mark.parametrize(("spent", "exhausted"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_budget(spent: int, exhausted: bool) -> None:
    assert policy(attempts(3), 7).exhausted(spent) is exhausted


@pytest.mark.parametrize(("spent", "whole"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30), (11, 30), (10**6, 30)])
def test_backoff_doubles_up_to_its_cap(spent: int, whole: float) -> None:
    """G7: half of it is always waited, so that a participant in trouble is not hammered."""
    defaults = policy(AttemptPolicy(), 7)
    assert defaults.backoff_ns(spent, 0.0) == ns(whole / 2)
    assert defaults.backoff_ns(spent, 0.5) == ns(whole * 0.75)
    assert ns(whole / 2) < defaults.backoff_ns(spent, 0.999) < ns(whole)


def test_the_largest_policy_does_not_overflow() -> None:
    largest = Policy(ns(1), 0, limits.INITIAL_BACKOFF_MAX_NS, limits.BACKOFF_MULTIPLIER_MAX, limits.MAX_BACKOFF_MAX_NS)
    assert largest.backoff_ns(2**32, 0.0) == limits.MAX_BACKOFF_MAX_NS // 2


def test_the_smallest_policy_waits() -> None:
    smallest = Policy(ns(1), 0, limits.INITIAL_BACKOFF_MIN_NS, 1.0, limits.INITIAL_BACKOFF_MIN_NS)
    assert smallest.backoff_ns(1, 0.0) == limits.MILLISECOND_NS // 2


@pytest.mark.parametrize(
    ("kind", "forward_only", "expected"),
    [
        (STEP_KIND_COMPENSATABLE, False, 5),
        (STEP_KIND_READ_ONLY, False, 5),
        (STEP_KIND_READ_ONLY, True, limits.UNLIMITED),
        (STEP_KIND_RETRIABLE, True, limits.UNLIMITED),
        (STEP_KIND_PIVOT, False, limits.UNLIMITED),
    ],
)
def test_execute_attempts_by_kind(kind: int, forward_only: bool, expected: int) -> None:
    assert execute_attempts(kind, forward_only) == expected  # type: ignore[arg-type]  # enum values are ints at run time
