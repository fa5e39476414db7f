"""A definition's version as it is stored: what it says, and the types that it was checked against (G11).

The stored content is the `SagaDefinition` without its version, prefixed with its length, and a `DescribeResponse` with
one action for each step, in order, of which the name and the two types are kept. With the descriptors beside it, a
version can be run without asking any participant; and the same bytes are the same version.

This module must not check anything but that it can read what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.participant_pb2 import Action, DescribeResponse

_LENGTH_BYTES: Final = 4


class UnreadableDefinitionError(ValueError):
    """Stored bytes are no definition."""


@dataclass(frozen=True, slots=True)
class StepTypes:
    """The full names of what a step's action takes and yields."""

    input: str
    output: str


@dataclass(frozen=True)
class PinnedDefinition:
    """A definition with its version, the types of its steps by name, and the files that describe all of them."""

    definition: SagaDefinition
    step_types: Mapping[str, StepTypes]
    descriptors: FileDescriptorSet

    @classmethod
    def from_stored(cls, content: bytes, descriptors: bytes, version: int = 0) -> PinnedDefinition:
        """What was stored as `content` and `descriptor_bytes`.

        Raises:
            UnreadableDefinitionError: the bytes are nothing that this class writes.
        """
        end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "big")
        try:
            definition = SagaDefinition.FromString(content[_LENGTH_BYTES:end])
            actions = DescribeResponse.FromString(content[end:]).actions
            files = FileDescriptorSet.FromString(descriptors)
        except DecodeError as error:
            raise UnreadableDefinitionError(f"the stored definition does not decode: {error}") from error
        if not definition.steps or len(actions) != len(definition.steps):
            raise UnreadableDefinitionError(f"{len(definition.steps)} steps are stored with {len(actions)} actions")
        definition.version = version
        types = {
            step.name: StepTypes(action.input_type, action.output_type)
            for step, action in zip(definition.steps, actions, strict=True)
        }
        return cls(definition, types, files)

    @cached_property
    def content(self) -> bytes:
        """The definition and its steps' types, to be stored. Does not depend on the version."""
        unversioned = SagaDefinition()
        unversioned.CopyFrom(self.definition)
        unversioned.ClearField("version")
        actions = DescribeResponse(
            actions=(
                Action(
                    name=step.action,
                    input_type=self.step_types[step.name].input,
                    output_type=self.step_types[step.name].output,
                )
                for step in self.definition.steps
            )
        )
        definition = unversioned.SerializeToString(deterministic=True)
        return _prefixed(definition) + actions.SerializeToString(deterministic=True)

    @cached_property
    def descriptor_bytes(self) -> bytes:
        """The files, to be stored."""
        return self.descriptors.SerializeToString(deterministic=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of content and descriptors, hexadecimal: the same digest is the same version."""
        return sha256(_prefixed(self.content) + self.descriptor_bytes).hexdigest()


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data
