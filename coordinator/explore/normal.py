"""The form in which a definition is explored: the same graph and kinds, with few attempts and few instants.

Whether a budget is two attempts or twenty makes no difference to where a saga can end, nor does the length of a wait;
to the number of states it does. So every budget that is spent at some time becomes one of two attempts at most, one
without a limit stays without, and every duration becomes a second. A deadline of the saga or of a step, and a hold
that is about to lapse, act as a cancel does; a cancel can come at any moment, so they are explored with it.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from coordinator.core.definition import Plan
from coordinator.core.limits import UNLIMITED
from coordinator.core.retry import Policy
from saga.v1.definition_pb2 import AttemptPolicy, SagaDefinition
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE

ATTEMPTS_MAX = 2


def normal(definition: SagaDefinition) -> Plan:
    """The plan to explore, of a definition that is valid."""
    policies = [step.policies for step in Plan(definition).steps]
    brought = SagaDefinition()
    brought.CopyFrom(definition)
    brought.ClearField("timeout")
    for step, of_step in zip(brought.steps, policies, strict=True):
        step.ClearField("timeout")
        step.execute.CopyFrom(_policy(of_step[OPERATION_EXECUTE]))
        step.compensate.CopyFrom(_policy(of_step[OPERATION_COMPENSATE]))
        step.confirm.CopyFrom(_policy(of_step[OPERATION_CONFIRM]))
    return Plan(brought)


def _policy(policy: Policy) -> AttemptPolicy:
    attempts = UNLIMITED if policy.attempts_max == UNLIMITED else min(policy.attempts_max, ATTEMPTS_MAX)
    # Nothing is drawn here, so a wait is half of what its policy says: one second.
    return AttemptPolicy(
        timeout=Duration(seconds=1),
        max_attempts=attempts,
        initial_backoff=Duration(seconds=2),
        max_backoff=Duration(seconds=2),
    )
