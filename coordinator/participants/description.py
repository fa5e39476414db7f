"""What a participant says of itself, checked before anything relies on it.

A description is taken whole or not at all; every problem of a refused one is named. This module must not send or wait.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from coordinator.core import limits
from coordinator.core.descriptors import InvalidDescriptorsError, build_pool
from coordinator.participants import limited
from saga.v1.participant_pb2 import Action, DescribeResponse

_ACTION_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


class InvalidDescriptionError(ValueError):
    """A participant's description cannot be used; `problems` says why, each in a sentence."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_description(body: bytes) -> DescribeResponse:
    """Reads an answer to Describe.

    Raises:
        InvalidDescriptionError: it does not decode, or it is not as the contract wants it.
    """
    try:
        description = DescribeResponse.FromString(body)
    except DecodeError:
        raise InvalidDescriptionError(("the description does not decode",)) from None
    if found := limited.problems(_problems(description)):
        raise InvalidDescriptionError(found)
    return description


def without_descriptors(description: DescribeResponse) -> DescribeResponse:
    """A copy for people: the actions and all else, but not the files."""
    short = DescribeResponse()
    short.CopyFrom(description)
    short.ClearField("descriptors")
    return short


def _problems(description: DescribeResponse) -> Iterator[str]:
    if len(description.actions) > limits.ACTIONS_MAX:
        yield f"it has {len(description.actions)} actions; at most {limits.ACTIONS_MAX} are allowed"
    for name, times in Counter(action.name for action in description.actions).items():
        if times > 1:
            yield f"action `{name}` stands there {times} times"
    for action in description.actions:
        yield from _name_problems(action.name)
        if len(action.description.encode()) > limits.DESCRIPTION_BYTES_MAX:
            yield f"the text about action `{action.name}` is over {limits.DESCRIPTION_BYTES_MAX} bytes"
    yield from _type_problems(description)


def _name_problems(name: str) -> Iterator[str]:
    if not _ACTION_NAME.fullmatch(name) or len(name) > limits.ACTION_NAME_LENGTH_MAX:
        yield (
            f"action `{limited.text(name, limits.NAME_LENGTH_MAX)}` has a bad name: "
            f"wanted are [A-Za-z][A-Za-z0-9_.-]*, at most {limits.ACTION_NAME_LENGTH_MAX} characters"
        )


def _type_problems(description: DescribeResponse) -> Iterator[str]:
    size = description.descriptors.ByteSize()
    if size > limits.DESCRIPTOR_BYTES_MAX:
        yield f"its descriptors are {size} bytes; at most {limits.DESCRIPTOR_BYTES_MAX} are allowed"
        return
    try:
        pool = build_pool(description.descriptors)
    except InvalidDescriptorsError as error:
        yield from error.problems
        return
    for action in description.actions:
        yield from _unknown_types(pool, action)


def _unknown_types(pool: DescriptorPool, action: Action) -> Iterator[str]:
    for role, type_name in (("input", action.input_type), ("output", action.output_type)):
        try:
            pool.FindMessageTypeByName(type_name)
        except KeyError:
            yield f"action `{action.name}`: its descriptors do not hold the {role} type `{type_name}`"
