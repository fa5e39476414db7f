"""Messages as canonical protobuf JSON, with the payloads inside them readable, and payloads from JSON.

A payload's type is one of the saga's definition version, whose descriptors the coordinator hands out. A payload that
cannot be read is shown as its bytes: showing a saga never fails because of one.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any as PythonAny
from typing import Final

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from coordinator.cli.connection import Connection
from coordinator.cli.errors import CommandError, ExitCode
from coordinator.core.descriptors import InvalidDescriptorsError
from coordinator.dataflow.types import PayloadError, Types, UnknownTypeError, encode
from saga.v1.definition_pb2 import GetDefinitionRequest, GetDefinitionResponse

Json = dict[str, PythonAny]

_NO_TYPES: Final = Types(FileDescriptorSet())
_SCALARS: Final = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}  # as `.proto` files call them


def to_json(message: Message, types: Types = _NO_TYPES) -> Json:
    """The message as JSON."""
    bare = type(message)()
    bare.CopyFrom(message)
    _take_payloads_out(bare)
    plain: Json = json_format.MessageToDict(bare)
    _put_payloads_in(message, plain, types)
    return plain


def payload_to_json(payload: Any, types: Types) -> Json:
    """A payload as JSON with its `@type`; its bytes in `value` where they cannot be read."""
    try:
        plain: Json = json.loads(types.to_json(payload))
    except (PayloadError, DecodeError):
        return {"@type": payload.type_url, "value": b64encode(payload.value).decode()}
    return plain


def payload_from_json(text: str, definition: GetDefinitionResponse) -> Any:
    """A saga's input from JSON of the definition's input type. JSON that names its type in `@type` is accepted too.

    Raises:
        CommandError: it is not JSON, or does not fit the type; the text names the field.
    """
    return _payload_from_json(text, types_of(definition), definition.definition.input_type, "input")


def no_input(definition: GetDefinitionResponse) -> Any:
    """The input of a saga that is given none: an empty one, where there is nothing that it could say.

    Raises:
        CommandError: the input type has fields; each is named.
    """
    name, full_name = definition.definition.name, definition.definition.input_type
    try:
        message = types_of(definition).message_class(full_name)()
    except UnknownTypeError as error:
        raise CommandError(f"the input does not fit: {error}") from None
    if message.DESCRIPTOR.fields:
        fields = [f"{field.json_name}: {_kind(field)}" for field in message.DESCRIPTOR.fields]
        way_out = "give it with --input JSON|@FILE|-; --input '{}' leaves all of them unset"
        raise CommandError(f"no input is given: {name} takes a `{full_name}`", details=[*fields, way_out])
    return encode(message)


def names_type(text: str) -> bool:
    """Whether an output's JSON says of which type it is. Raises CommandError where it is no JSON object."""
    return "@type" in _document(text, "output")


def output_from_json(text: str, types: Types, output_type: str) -> Any:
    """A step's output from JSON of the type that it names in `@type`, otherwise of `output_type`.

    Raises:
        CommandError: it is not JSON, or does not fit the type.
    """
    return _payload_from_json(text, types, output_type, "output")


def text_of(given: str, what: str) -> str:
    """The text that `TEXT|@FILE|-` means: itself, a file's, or the standard input's. `what` it is, for the error.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        if given == "-":
            return sys.stdin.read()
        return Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the {what} cannot be read: {error}", ExitCode.USAGE) from None


def types_of(definition: GetDefinitionResponse) -> Types:
    """The types of a definition's version. Raises CommandError."""
    try:
        return Types(definition.descriptors)
    except InvalidDescriptorsError as error:
        raise CommandError(f"the coordinator's descriptors cannot be used: {error}") from None


def types_of_saga(server: Connection, definition: str, version: int) -> Types:
    """The types of a saga's payloads; none where the coordinator does not hand them out.

    Raises:
        CommandError: the coordinator cannot be reached.
    """
    try:
        request = GetDefinitionRequest(name=definition, version=version)
        return types_of(server.call(server.definitions.GetDefinition, request))
    except CommandError as error:
        if error.code != ExitCode.REFUSED:
            raise
        return _NO_TYPES


def _payload_from_json(text: str, types: Types, full_name: str, what: str) -> Any:
    document = _document(text, what)
    try:
        if "@type" in document:
            return json_format.ParseDict(document, Any(), descriptor_pool=types.pool)
        return encode(types.from_json(text, full_name))
    except (json_format.ParseError, PayloadError, UnknownTypeError) as error:
        expected = [f"expected a `{full_name}`"] if full_name else ()
        raise CommandError(f"the {what} does not fit: {error}", details=expected) from None


def _document(text: str, what: str) -> Json:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the {what} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(f"the {what} is not a JSON object")
    if not isinstance(document.get("@type", ""), str):
        raise CommandError(f"the {what}'s `@type` is no text")
    return document


def _kind(field: PythonAny) -> str:
    """The type of a descriptor's field as a `.proto` file writes it."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{_kind(key)}, {_kind(value)}>"
    named = field.message_type or field.enum_type
    one = named.full_name if named is not None else _SCALARS[field.type]
    return f"repeated {one}" if field.is_repeated else one


def _take_payloads_out(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is Any.DESCRIPTOR:
            message.ClearField(field.name)
        else:
            for inner in _messages(field, value):
                _take_payloads_out(inner)


def _put_payloads_in(message: Message, plain: Json, types: Types) -> None:
    """Walks the message and its JSON side by side."""
    for field, value in message.ListFields():
        if field.message_type is Any.DESCRIPTOR:
            plain[field.json_name] = payload_to_json(value, types)
        elif field.message_type is not None:
            written = plain[field.json_name]
            for inner, inner_plain in zip(
                _messages(field, value), written if field.is_repeated else [written], strict=False
            ):
                if isinstance(inner_plain, dict):
                    _put_payloads_in(inner, inner_plain, types)


def _messages(field: PythonAny, value: PythonAny) -> Iterator[Message]:
    """The messages in a field; those of the contract have no map of messages, so maps are left alone."""
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return
    yield from value if field.is_repeated else (value,)
