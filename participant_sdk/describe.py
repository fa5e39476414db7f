"""What a participant says of itself, made from its actions' annotations: Describe, and the types for reflection.

It is made once, at the start; whatever is wrong with the set of actions is a `ValueError` there and not a surprise in
a saga.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from participant_sdk.action import COMPENSATABLE, RESERVABLE, Action
from participant_sdk.limits import ACTION_NAME_LENGTH_MAX, ACTIONS_MAX
from saga.v1 import participant_pb2


class File(Protocol):
    """A file descriptor; the protobuf runtimes have each a class of their own."""

    @property
    def name(self) -> str:
        """Its path."""

    @property
    def dependencies(self) -> Sequence["File"]:
        """What it imports."""

    def CopyToProto(self, proto: FileDescriptorProto) -> object:  # noqa: N802 - protobuf's name
        """Write its content."""


_NAME: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{ACTION_NAME_LENGTH_MAX - 1}}}")


def actions_by_name(actions: Sequence[Action[Any, Any, Any]]) -> Mapping[str, Action[Any, Any, Any]]:
    """Check the actions and return them by name. Errors: `ValueError`."""
    if not 1 <= len(actions) <= ACTIONS_MAX:
        raise ValueError(f"a participant has 1 to {ACTIONS_MAX} actions, not {len(actions)}")
    named: dict[str, Action[Any, Any, Any]] = {}
    for action in actions:
        _check(action)
        if action.name in named:
            raise ValueError(f"two actions are named {action.name}")
        named[action.name] = action
    return named


def describe(
    participant: str,
    version: str,
    actions: Iterable[Action[Any, Any, Any]],
    *,
    barriered: bool,
    key_retention: timedelta | None,
    exchange: participant_pb2.ExchangeLimits | None = None,
) -> participant_pb2.DescribeResponse:
    """Return the answer to Describe. Errors: `ValueError` where two files of one name differ."""
    offered = list(actions)
    response = participant_pb2.DescribeResponse(
        participant=participant,
        version=version,
        actions=map(_described, offered),
        descriptors=file_descriptor_set(
            message.DESCRIPTOR.file for action in offered for message in (action.input_type, action.output_type)
        ),
        barriered=barriered,
        exchange=exchange,
    )
    if key_retention is not None:
        response.key_retention.FromTimedelta(key_retention)
    return response


def file_descriptor_set(files: Iterable[File]) -> FileDescriptorSet:
    """Return the files with everything they import, each after what it imports. Errors: as `describe`."""
    found: dict[str, FileDescriptorProto] = {}
    for file in files:
        _collect(file, found)
    return FileDescriptorSet(file=found.values())


def descriptor_pool(files: FileDescriptorSet) -> DescriptorPool:
    """Return a pool of its own that holds the files."""
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def _check(action: Action[Any, Any, Any]) -> None:
    if not _NAME.fullmatch(action.name):
        raise ValueError(f"not a name for an action ({_NAME.pattern}): {action.name!r}")
    if not action.kinds:
        raise ValueError(f"{action.name}: kinds is empty")
    own = type(action)
    if {COMPENSATABLE, RESERVABLE} & set(action.kinds) and own.compensate is Action.compensate:
        raise ValueError(f"{action.name} is COMPENSATABLE or RESERVABLE: it needs `compensate`")
    if RESERVABLE in action.kinds and own.confirm is Action.confirm:
        raise ValueError(f"{action.name} is RESERVABLE: it needs `confirm`")


def _described(action: Action[Any, Any, Any]) -> participant_pb2.Action:
    return participant_pb2.Action(
        name=action.name,
        description=action.description(),
        input_type=action.input_type.DESCRIPTOR.full_name,
        output_type=action.output_type.DESCRIPTOR.full_name,
        kinds=action.kinds,
        rejection_reasons=[
            participant_pb2.RejectionReason(reason=reason, description=description)
            for reason, description in action.rejections.items()
        ],
    )


def _collect(file: File, found: dict[str, FileDescriptorProto]) -> None:
    content = FileDescriptorProto()
    file.CopyToProto(content)
    if file.name in found:
        if found[file.name] != content:
            raise ValueError(f"two files are named {file.name} and differ")
        return
    for imported in file.dependencies:
        _collect(imported, found)
    found[file.name] = content
