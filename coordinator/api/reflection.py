"""Server reflection: the coordinator's services, and the message types of the participants.

With it a client that knows nothing (`buf curl`, `grpcurl`) can write a saga's input as JSON and read its output.

Names that two participants use for different things cannot stand in one view; the first participant by name has them,
and `ParticipantDirectoryService` lists them as problems. A client sees one participant's own types instead, beside the
coordinator's, by sending the metadata `saga-participant: NAME` with the reflection call.

The protocol is served as `grpc.reflection.v1` and `grpc.reflection.v1alpha`, whose messages are the same on the wire.
This module must not read definitions or sagas, and serves no file that it was not given.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeAlias

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    ExtensionNumberResponse,
    ExtensionRequest,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

from coordinator.core import limits
from coordinator.core.descriptors import WELL_KNOWN, closure
from coordinator.participants.directory import Directory, UnknownParticipantError
from saga.v1 import coordinator_pb2, definition_pb2

PARTICIPANT_HEADER: Final = "saga-participant"
REFLECTION_SERVICES: Final = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


def _v1_file() -> FileDescriptorProto:
    """The final version of the protocol, of which grpcio ships the alpha: only the package's name differs."""
    alpha = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    text = text_format.MessageToString(alpha).replace("grpc.reflection.v1alpha", "grpc.reflection.v1")
    final = text_format.Parse(text, FileDescriptorProto())
    final.name = "grpc/reflection/v1/reflection.proto"
    return final


def _shared_files() -> FileDescriptorSet:
    modules = (coordinator_pb2, definition_pb2, health_pb2, channelz_pb2, reflection_pb2, error_details_pb2)
    own = closure(descriptor_pool.Default().FindFileByName(module.DESCRIPTOR.name) for module in modules)
    files = {file.name: file for file in (*own.file, *WELL_KNOWN.file, _v1_file())}
    return FileDescriptorSet(file=files.values())


SHARED_FILES: Final = _shared_files()
"""What the coordinator itself serves and answers with; the directory must be made with it (`shared`)."""


class Reflection:
    """The reflection service over a directory of participants.

    `services` are the full names of all other services that the server has; they are listed, and nothing else is.
    """

    def __init__(self, directory: Directory, services: Iterable[str]) -> None:
        self._directory = directory
        self._services = sorted({*services, *REFLECTION_SERVICES})
        self._streams = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds both versions of the service."""
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._serve)
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
                for service in REFLECTION_SERVICES
            ]
        )

    async def _serve(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        if self._streams >= limits.REFLECTION_STREAMS_MAX:
            most = limits.REFLECTION_STREAMS_MAX
            message = f"{most} reflection streams are open: come back later"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        self._streams += 1
        try:
            await self._answer_all(requests, context)
        except UnknownParticipantError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except asyncio.CancelledError:
            # If it escaped, gRPC would send no status, and a client without a deadline would wait for ever.
            await context.abort(grpc.StatusCode.CANCELLED, "the call was cancelled")
        finally:
            self._streams -= 1

    async def _answer_all(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        """Answers a stream from one view, so that file names mean the same in all its answers."""
        participant = _chosen(context)
        view = self._directory.types_of(participant) if participant else self._directory.types()
        async for request in requests:
            await context.write(self._answer(request, view.pool).SerializeToString())

    def _answer(self, body: bytes, pool: DescriptorPool) -> ServerReflectionResponse:
        try:
            request = ServerReflectionRequest.FromString(body)
        except DecodeError:
            return _error(grpc.StatusCode.INVALID_ARGUMENT, "the request does not decode")
        try:
            answer = self._look_up(request, pool)
        except KeyError as error:
            answer = _error(grpc.StatusCode.NOT_FOUND, str(error.args[0]))
        answer.valid_host = request.host
        answer.original_request.CopyFrom(request)
        return answer

    def _look_up(self, request: ServerReflectionRequest, pool: DescriptorPool) -> ServerReflectionResponse:
        """The answer; KeyError where the pool does not know what is asked for."""
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [ServiceResponse(name=name) for name in self._services]
                return ServerReflectionResponse(list_services_response=ListServiceResponse(service=services))
            case "file_by_filename":
                return _files(pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                return _files(pool.FindFileContainingSymbol(request.file_containing_symbol))
            case "file_containing_extension":
                return _files(_file_of_extension(pool, request.file_containing_extension))
            case "all_extension_numbers_of_type":
                return _extension_numbers(pool, request.all_extension_numbers_of_type)
            case _:
                return _error(grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing that is known here")


def _chosen(context: _Context) -> str:
    """The participant whose own types the client wants to see; empty for the view of all."""
    for key, value in context.invocation_metadata() or ():
        if key == PARTICIPANT_HEADER and isinstance(value, str):
            return value
    return ""


def _files(file: FileDescriptor) -> ServerReflectionResponse:
    """The file first, as clients expect, then those it imports, as far as they fit."""
    kept: list[bytes] = []
    room = limits.REFLECTION_ANSWER_BYTES_MAX
    for found in reversed(closure([file]).file):
        body = found.SerializeToString()
        room -= len(body)
        if kept and room < 0:
            break
        kept.append(body)
    return ServerReflectionResponse(file_descriptor_response=FileDescriptorResponse(file_descriptor_proto=kept))


def _file_of_extension(pool: DescriptorPool, asked: ExtensionRequest) -> FileDescriptor:
    message = pool.FindMessageTypeByName(asked.containing_type)
    extension = pool.FindExtensionByNumber(message, asked.extension_number)
    return pool.FindFileContainingSymbol(extension.full_name)


def _extension_numbers(pool: DescriptorPool, type_name: str) -> ServerReflectionResponse:
    message = pool.FindMessageTypeByName(type_name)
    numbers = sorted(extension.number for extension in pool.FindAllExtensions(message))
    return ServerReflectionResponse(
        all_extension_numbers_response=ExtensionNumberResponse(
            base_type_name=message.full_name, extension_number=numbers
        )
    )


def _error(code: grpc.StatusCode, message: str) -> ServerReflectionResponse:
    return ServerReflectionResponse(error_response=ErrorResponse(error_code=code.value[0], error_message=message))
