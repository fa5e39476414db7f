"""The message types of one set of descriptors: payloads in and out of `Any`, and into JSON and back.

Every set has a pool of its own, so that two versions of a type can live side by side (G11); protobuf's default pool is
never written to. What several participants ship is reduced to what is needed and brought together by `needed_files`.

This module must not know definitions or expressions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any as PythonAny
from typing import Final, cast

from google.protobuf import json_format, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from coordinator.core.descriptors import Clash, build_pool, closure, complete, merge

TYPE_URL_PREFIX: Final = "type.googleapis.com/"

_GOOGLE: Final = "google.protobuf."  # messages with a JSON form of their own
_ANY: Final = Any.DESCRIPTOR.full_name
_PACKED_DEPTH_MAX: Final = 16  # Any within Any is bytes to protobuf's own depth limit


class UnknownTypeError(ValueError):
    """No message of that name is described."""


class DescriptorsClashError(ValueError):
    """Two participants mean different things by one name; the text names the thing and both participants."""

    def __init__(self, clashes: Sequence[Clash]) -> None:
        super().__init__("; ".join(str(clash) for clash in clashes))
        self.clashes = tuple(clashes)


class PayloadError(ValueError):
    """A payload is not what it says it is, or not what is wanted. The text names types, never contents."""


class Types:
    """The messages that a set of files describes, in a pool of their own.

    The set may be in any order. Google's well-known types are filled in where the set imports but does not bring them.

    Raises:
        InvalidDescriptorsError: an import is missing (all missing ones are named), or a file cannot be built.
    """

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self.descriptors = complete(descriptors)
        self.pool = build_pool(self.descriptors)
        self._classes: dict[str, type[Message]] = {}

    def descriptor(self, full_name: str) -> Descriptor:
        """The message of that full name. Raises UnknownTypeError."""
        try:
            return self.pool.FindMessageTypeByName(full_name)
        except KeyError:
            raise UnknownTypeError(f"message type `{full_name}` is not described") from None

    def message_class(self, full_name: str) -> type[Message]:
        """The class of the message of that full name. Raises UnknownTypeError."""
        found = self._classes.get(full_name)
        if found is None:
            found = self._classes[full_name] = message_factory.GetMessageClass(self.descriptor(full_name))
        return found

    def knows(self, full_name: str) -> bool:
        """Whether a message of that full name is described."""
        try:
            self.descriptor(full_name)
        except UnknownTypeError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """The full names of all messages and enums that do not stand inside another message."""
        for file in self.descriptors.file:
            prefix = f"{file.package}." if file.package else ""
            yield from (prefix + message.name for message in file.message_type)
            yield from (prefix + enum.name for enum in file.enum_type)

    def decode(self, payload: Any, expected: str = "") -> Message:
        """The message in `payload`.

        Raises:
            PayloadError: it is not of the type `expected` (where given), its type is not described, or its bytes are
                no such message.
        """
        name = type_name(payload)
        if expected and name != expected:
            raise PayloadError(f"the payload is a `{name}`, not a `{expected}`")
        try:
            message = self.message_class(name)()
        except UnknownTypeError as error:
            raise PayloadError(str(error)) from None
        try:
            message.ParseFromString(payload.value)
        except DecodeError:
            raise PayloadError(f"the payload's {len(payload.value)} bytes do not decode as `{name}`") from None
        if not message.IsInitialized():
            raise PayloadError(f"the payload is a `{name}` without all its required fields")
        return message

    def canonical(self, payload: Any) -> bytes:
        """The same bytes for the same content (G10).

        The type URL's prefix, the order of fields and that of map entries make no difference, here and in messages
        packed inside it, as far as their types are described.

        Raises:
            PayloadError: as `decode`.
        """
        return self._canonical(payload, _PACKED_DEPTH_MAX)

    def to_json(self, message: Message) -> str:
        """The message as JSON. An `Any` is written with its content and `@type`.

        Raises:
            PayloadError: it cannot be written, for instance because of an `Any` whose type is not described.
        """
        try:
            return json_format.MessageToJson(message, descriptor_pool=self.pool)
        except (TypeError, ValueError, RecursionError, DecodeError, json_format.Error) as error:
            raise PayloadError(f"not writable as JSON: {error}") from error

    def from_json(self, text: str, full_name: str) -> Message:
        """The message of that type that JSON describes.

        Raises:
            UnknownTypeError: the type is not described.
            PayloadError: the text is not JSON, or not of that type.
        """
        message = self.message_class(full_name)()
        if not full_name.startswith(_GOOGLE) and not text.lstrip().startswith("{"):
            raise PayloadError(f"not a `{full_name}`: a JSON object is expected")  # the library takes [] for one
        try:
            return json_format.Parse(text, message, descriptor_pool=self.pool)
        except (RecursionError, json_format.ParseError) as error:
            raise PayloadError(f"not a `{full_name}`: {error}") from error

    def _canonical(self, payload: Any, depth: int) -> bytes:
        message = self.decode(payload)
        self._canonicalize(message, depth)
        return encode(message).SerializeToString(deterministic=True)

    def _canonicalize(self, message: Message, depth: int) -> None:
        for field, value in message.ListFields():
            for inner in _messages_of(field, value):
                if inner.DESCRIPTOR.full_name == _ANY:
                    self._canonicalize_packed(inner, depth - 1)
                else:
                    self._canonicalize(inner, depth)

    def _canonicalize_packed(self, packed: Message, depth: int) -> None:
        """Rewrites an Any inside a payload, which is of this pool's class. What cannot be read stays as it is."""
        if depth > 0:
            with suppress(PayloadError):
                packed.ParseFromString(self._canonical(Any.FromString(packed.SerializeToString()), depth))


def encode(message: Message) -> Any:
    """The message packed, the same bytes for the same content (in one version of the protobuf library)."""
    return Any(
        type_url=TYPE_URL_PREFIX + message.DESCRIPTOR.full_name,
        value=message.SerializeToString(deterministic=True),
    )


def type_name(payload: Any) -> str:
    """The full name of the message in `payload`. Raises PayloadError."""
    _prefix, slash, name = payload.type_url.rpartition("/")
    if not name or not slash:
        found = f"`{payload.type_url}` is no type URL" if payload.type_url else "the payload has no type URL"
        raise PayloadError(f"{found}: `{TYPE_URL_PREFIX}` and the full name of a message are expected")
    return name


def needed_files(owners: Mapping[str, Types], wanted: Mapping[str, Collection[str]]) -> FileDescriptorSet:
    """The files that describe the messages `wanted` of each owner, with all that they import, imports first.

    The same messages give the same bytes, whatever else the owners ship. Files of one name but different content are
    told apart by their owner's name.

    Raises:
        UnknownTypeError: an owner does not describe a message that is wanted of it.
        DescriptorsClashError: two owners define a name differently.
    """
    reduced = {
        owner: closure(owners[owner].descriptor(name).file for name in sorted(names)) for owner, names in wanted.items()
    }
    merged = merge(reduced)
    if merged.clashes:
        raise DescriptorsClashError(merged.clashes)
    all_names = sorted({name for names in wanted.values() for name in names})
    return closure(merged.pool.FindMessageTypeByName(name).file for name in all_names)


def _messages_of(field: FieldDescriptor, value: PythonAny) -> Iterable[Message]:
    """The messages in a field's value: one, those of a list, those of a map's values, or none."""
    if field.message_type is None:
        return ()
    if not field.is_repeated:
        return (value,)
    if not field.message_type.GetOptions().map_entry:
        return cast("Iterable[Message]", value)
    if field.message_type.fields_by_name["value"].message_type is None:
        return ()
    return cast("Iterable[Message]", value.values())
