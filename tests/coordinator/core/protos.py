"""Small proto files for tests, written as text."""

from collections.abc import Iterable

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

STRING = FieldDescriptorProto.TYPE_STRING
INT64 = FieldDescriptorProto.TYPE_INT64
MESSAGE = FieldDescriptorProto.TYPE_MESSAGE


def proto(
    name: str,
    package: str,
    messages: dict[str, list[str]],
    *,
    imports: Iterable[str] = (),
    public: Iterable[str] = (),
) -> FileDescriptorProto:
    """A file; a field is written `name` (a string), `name:int64`, or `name:.full.Name`, and numbered from 1."""
    imports, public = list(imports), list(public)
    file = FileDescriptorProto(name=name, package=package, syntax="proto3", dependency=[*imports, *public])
    file.public_dependency.extend(range(len(imports), len(imports) + len(public)))
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for number, field in enumerate(fields, start=1):
            field_name, _, kind = field.partition(":")
            message.field.add(
                name=field_name,
                number=number,
                label=FieldDescriptorProto.LABEL_OPTIONAL,
                type=INT64 if kind == "int64" else MESSAGE if kind else STRING,
                type_name=kind if kind.startswith(".") else None,
            )
    return file


def files(*protos: FileDescriptorProto) -> FileDescriptorSet:
    return FileDescriptorSet(file=protos)
