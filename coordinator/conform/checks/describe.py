"""What a participant says of itself. That it can be read at all is found where it is read; `runner` reports it."""

from typing import Final

from google.protobuf.duration_pb2 import Duration

from coordinator.conform import limits
from coordinator.conform.check import Check, Warn
from coordinator.conform.trial import Violation
from coordinator.core.instants import from_duration
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow import durations
from saga.v1.participant_pb2 import DescribeResponse
from saga.v1.types_pb2 import STEP_KIND_UNSPECIFIED, StepKind

DESCRIBE: Final = "describe"
"""The check that all others rest on."""


def describe(description: DescribeResponse, warn: Warn) -> None:
    if not description.actions:
        raise Violation("at least one action", "none")
    for action in description.actions:
        for kind in action.kinds:
            if kind == STEP_KIND_UNSPECIFIED:
                raise Violation(f"kinds of `{action.name}` that say something", "STEP_KIND_UNSPECIFIED")
            if kind not in StepKind.values():
                warn(f"`{action.name}`: kind {kind} is none that this program knows")


def barriered(description: DescribeResponse, warn: Warn) -> None:
    if not description.barriered:
        warn("it does not say `barriered`: after an unknown attempt its refusals are not believed, and are compensated")


def key_retention(description: DescribeResponse, warn: Warn) -> None:
    if not description.HasField("key_retention"):
        warn("it does not say how long it remembers idempotency keys")
        return
    kept_s = from_duration(description.key_retention) / SECOND_NS
    if kept_s < limits.KEY_RETENTION_MIN_S:
        least = durations.write(Duration(seconds=limits.KEY_RETENTION_MIN_S))
        raise Violation(f"key_retention of at least {least}", durations.write(description.key_retention))


CHECKS: Final = (
    Check(
        DESCRIBE,
        "Describe decodes, its names, kinds and limits are the contract's, and its descriptors hold every type.",
        "participant.proto, DescribeResponse; G11",
        of_description=describe,
    ),
    Check(
        "describe-barriered",
        "It says that it keeps the barrier's rules; advised.",
        "participant.proto, DescribeResponse.barriered",
        of_description=barriered,
    ),
    Check(
        "describe-key-retention",
        "It says how long it remembers keys (advised), and that is longer than coordinators remember sagas.",
        "semantics.md, What a participant promises; operations.md, Keeping and forgetting",
        of_description=key_retention,
    ),
)
