"""The one message that the crash matrix's sagas and their participant exchange, made here: no file is generated.

This module must not know what is done with it.
"""

from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

WORK: Final = "crash.v1.Work"


def _work() -> Any:
    file = FileDescriptorProto(name="crash/v1/work.proto", package="crash.v1", syntax="proto3")
    file.message_type.add(name="Work").field.add(
        name="key",
        number=1,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_STRING,
    )
    pool = DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(WORK))


Work: Final[Any] = _work()
"""`key` is what sagas that exclude each other share."""
