"""The copy of a definition that is rehearsed: the same saga, in a hurry.

Who makes the failures knows when each call has ended, so nobody has to be waited for: backoffs become short. Deadlines
are left out: they are a cancel by the clock, which a rehearsal sets forward at each crash. What a step does, reads,
yields and how often it is attempted stays as it is. This module must not check anything.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from coordinator.core.instants import to_duration
from coordinator.core.limits import MILLISECOND_NS
from saga.v1.definition_pb2 import SagaDefinition

BACKOFF_NS: Final = 5 * MILLISECOND_NS


def shortened(definition: SagaDefinition) -> SagaDefinition:
    """The definition without deadlines, and with a backoff of a few milliseconds."""
    copy = SagaDefinition()
    copy.CopyFrom(definition)
    copy.ClearField("timeout")
    copy.hold_margin.CopyFrom(Duration())
    for step in copy.steps:
        step.ClearField("timeout")
        for policy in (step.execute, step.compensate, step.confirm):
            policy.initial_backoff.CopyFrom(to_duration(BACKOFF_NS))
            policy.max_backoff.CopyFrom(to_duration(BACKOFF_NS))
    return copy
