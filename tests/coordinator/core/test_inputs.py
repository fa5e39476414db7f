"""Inputs are plain values: they compare, they do not change, and each is one that `decide` knows."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import get_args

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core.inputs import (
    Accepted,
    Begun,
    CancelRequested,
    Done,
    Input,
    InputFailed,
    KeysGranted,
    KeysRefused,
    OutputKnown,
    ParentConfirmed,
    ParentWentBack,
    PauseRequested,
    Recovered,
    Refused,
    Replied,
    Reply,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
    Skipped,
    Unknown,
)
from saga.v1.event_pb2 import RESOLUTION_NO_EFFECT
from saga.v1.types_pb2 import OPERATION_EXECUTE, Failure

REPLIES: list[Reply] = [
    Done(),
    Refused("OUT_OF_STOCK"),
    Accepted(1),
    Unknown(Failure(), retryable=True, answered=False),
]
INPUTS: list[Input] = [
    Replied("a", OPERATION_EXECUTE, 1, Done()),
    Begun("a", Any()),
    Skipped("a"),
    InputFailed("a", "no such key"),
    OutputKnown(),
    CancelRequested("changed my mind"),
    PauseRequested("a look first"),
    ResumeRequested("looked"),
    RetryRequested("the bug is fixed"),
    ResolveRequested("a", RESOLUTION_NO_EFFECT, "the bank says so", "ada"),
    Reported("a", OPERATION_EXECUTE, Done()),
    KeysGranted(),
    KeysRefused(),
    ParentWentBack(Failure()),
    ParentConfirmed(),
    Recovered(),
]


def test_the_samples_are_all_there_are() -> None:
    assert {type(sample) for sample in REPLIES} == set(get_args(Reply))
    assert {type(sample) for sample in INPUTS} == set(get_args(Input))


@pytest.mark.parametrize("sample", [*REPLIES, *INPUTS], ids=lambda sample: type(sample).__name__)
def test_an_input_does_not_change(sample: object) -> None:
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        sample.step = "another"  # type: ignore[attr-defined]  # which is what the test is about


def test_a_refusal_covers_no_earlier_attempt_unless_it_says_so() -> None:
    """G5: only a participant with a barrier can know of attempts that are still on their way."""
    assert not Refused("OUT_OF_STOCK").covers_earlier
