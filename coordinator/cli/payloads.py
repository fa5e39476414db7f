"""Messages as canonical protobuf JSON, with the payloads inside them readable.

A payload's type is one of the saga's definition version, whose descriptors the coordinator hands out. A payload that
cannot be read is shown as its bytes: showing a saga never fails because of one.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any as PythonAny
from typing import Final

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from coordinator.cli.connection import Connection
from coordinator.cli.errors import CommandError, ExitCode
from coordinator.core.descriptors import InvalidDescriptorsError
from coordinator.dataflow.types import PayloadError, Types, UnknownTypeError, encode
from saga.v1.definition_pb2 import GetDefinitionRequest, GetDefinitionResponse

Json = dict[str, PythonAny]

_NO_TYPES: Final = Types(FileDescriptorSet())


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
    types, input_type = types_of(definition), definition.definition.input_type
    document = _document(text)
    try:
        if "@type" in document:
            return json_format.ParseDict(document, Any(), descriptor_pool=types.pool)
        return encode(types.from_json(text, input_type))
    except (json_format.ParseError, PayloadError, UnknownTypeError) as error:
        raise CommandError(f"the input does not fit: {error}", details=[f"expected a `{input_type}`"]) from None


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


def _document(text: str) -> Json:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the input is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError("the input is not a JSON object")
    return document


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
