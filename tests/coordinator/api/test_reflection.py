"""Reflection as clients use it: `buf curl` and grpcio's own client against a real server."""

from __future__ import annotations  # some of gRPC's classes take type arguments in its stubs alone

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from coordinator.api.reflection import PARTICIPANT_HEADER, REFLECTION_SERVICES, SHARED_FILES, Reflection
from coordinator.core import limits
from coordinator.core.descriptors import merge
from coordinator.participants.directory import Directory
from saga.v1.coordinator_pb2 import StartSagaRequest, StartSagaResponse
from tests.coordinator.core.protos import files, proto
from tests.coordinator.participants.fakes import FakeParticipant, description, serving

SERVED = ("grpc.health.v1.Health", "saga.v1.CoordinatorService")
LISTED = sorted((*SERVED, *REFLECTION_SERVICES))
V1, V1ALPHA = REFLECTION_SERVICES

OTHER_SHOP = proto("shop.proto", "shop", {"ReserveRequest": ["article"], "Reservation": ["hold"]})
PAYMENT = files(
    proto("shop.proto", "payment", {"Card": ["number"]}),
    proto("pay.proto", "payment", {"Charge": ["card:.payment.Card"]}, imports=["shop.proto"]),
)

Found = TypeVar("Found")


@dataclass
class Served:
    """A coordinator's server, as far as these tests need it."""

    target: str
    directory: Directory
    server: grpc.aio.Server
    started: list[StartSagaRequest]


@asynccontextmanager
async def coordinator(**fakes: FakeParticipant) -> AsyncIterator[Served]:
    targets: dict[str, str] = {}
    started: list[StartSagaRequest] = []

    async def start_saga(
        request: StartSagaRequest, _context: grpc.aio.ServicerContext[StartSagaRequest, StartSagaResponse]
    ) -> StartSagaResponse:
        started.append(request)
        response = StartSagaResponse(created=True)
        response.saga.input.CopyFrom(request.input)
        return response

    handler: grpc.RpcMethodHandler[StartSagaRequest, StartSagaResponse] = grpc.unary_unary_rpc_method_handler(
        start_saga,
        request_deserializer=StartSagaRequest.FromString,
        response_serializer=StartSagaResponse.SerializeToString,
    )
    async with AsyncExitStack() as stack:
        for name, fake in fakes.items():
            targets[name] = await stack.enter_async_context(serving(fake))
        directory = await stack.enter_async_context(Directory(targets, shared=SHARED_FILES))
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("saga.v1.CoordinatorService", {"StartSaga": handler})]
        )
        Reflection(directory, SERVED).add_to(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield Served(f"127.0.0.1:{port}", directory, server, started)
        finally:
            await server.stop(None)


def rpc(channel: grpc.aio.Channel, service: str = V1) -> grpc.aio.StreamStreamMultiCallable[bytes, bytes]:
    return channel.stream_stream(f"/{service}/ServerReflectionInfo")


async def ask(
    target: str,
    *requests: ServerReflectionRequest | bytes,
    service: str = V1,
    metadata: tuple[tuple[str, str], ...] = (),
) -> list[ServerReflectionResponse]:
    """One reflection stream."""
    bodies = [request if isinstance(request, bytes) else request.SerializeToString() for request in requests]
    async with grpc.aio.insecure_channel(target) as channel:
        stream = rpc(channel, service)(iter(bodies), timeout=10, metadata=metadata)
        return [ServerReflectionResponse.FromString(body) async for body in stream]


def files_in(answer: ServerReflectionResponse) -> list[FileDescriptorProto]:
    return [FileDescriptorProto.FromString(body) for body in answer.file_descriptor_response.file_descriptor_proto]


def symbol(name: str) -> ServerReflectionRequest:
    return ServerReflectionRequest(file_containing_symbol=name)


async def database(target: str, read: Callable[[ProtoReflectionDescriptorDatabase], Found]) -> Found:
    """Reads with grpcio's own client, which is synchronous."""

    def read_in_thread() -> Found:
        with grpc.insecure_channel(target) as channel:
            return read(ProtoReflectionDescriptorDatabase(channel))

    return await asyncio.to_thread(read_in_thread)


async def buf_curl(*arguments: str) -> str:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent))
    assert buf is not None, "buf-bin is one of the development dependencies"
    process = await asyncio.create_subprocess_exec(
        buf,
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("service", REFLECTION_SERVICES)
async def test_exactly_the_services_that_are_served_are_listed(service: str) -> None:
    async with coordinator(shop=FakeParticipant()) as served:
        (answer,) = await ask(served.target, ServerReflectionRequest(list_services="", host="h"), service=service)
    assert [found.name for found in answer.list_services_response.service] == LISTED
    assert (answer.valid_host, answer.original_request.host) == ("h", "h")


async def test_every_listed_service_is_described() -> None:
    async with coordinator() as served:
        answers = await ask(served.target, *(symbol(name) for name in LISTED))
    assert [files_in(answer)[0].service[0].name for answer in answers] == [name.rsplit(".")[-1] for name in LISTED]


@pytest.mark.e2e
async def test_buf_lists_the_methods() -> None:
    async with coordinator(shop=FakeParticipant()) as served:
        listed = (await buf_curl("--list-methods", f"http://{served.target}")).split()
    assert "saga.v1.CoordinatorService/StartSaga" in listed
    assert {method.partition("/")[0] for method in listed} == set(LISTED)


@pytest.mark.e2e
async def test_buf_writes_and_reads_a_participants_types_as_json() -> None:
    payload = {"@type": "type.googleapis.com/shop.ReserveRequest", "sku": "a-1"}
    async with coordinator(shop=FakeParticipant()) as served:
        request = json.dumps({"definition": "order", "input": payload})
        answer = await buf_curl("-d", request, f"http://{served.target}/saga.v1.CoordinatorService/StartSaga")
    assert json.loads(answer) == {"saga": {"input": payload}, "created": True}
    assert served.started[0].input.value == b"\n\x03a-1"


@pytest.mark.e2e
async def test_buf_chooses_between_two_meanings_of_one_name() -> None:
    other = FakeParticipant(description(descriptors=files(OTHER_SHOP)))

    def request(field: str) -> str:
        payload = {"@type": "type.googleapis.com/shop.ReserveRequest", field: "a-1"}
        return json.dumps({"definition": "order", "input": payload})

    async with coordinator(a=FakeParticipant(), b=other) as served:
        url = f"http://{served.target}/saga.v1.CoordinatorService/StartSaga"
        await buf_curl("-d", request("sku"), url)
        answer = await buf_curl("--reflect-header", f"{PARTICIPANT_HEADER}: b", "-d", request("article"), url)
    assert json.loads(answer)["saga"]["input"]["article"] == "a-1"


async def test_grpcios_client_reads_services_and_a_participants_types() -> None:
    def fields(found: ProtoReflectionDescriptorDatabase) -> list[str]:
        message = DescriptorPool(found).FindMessageTypeByName("shop.ReserveRequest")
        return [field.name for field in message.fields]

    async with coordinator(shop=FakeParticipant()) as served:
        assert sorted(await database(served.target, lambda found: list(found.get_services()))) == LISTED
        assert await database(served.target, fields) == ["sku"]


async def test_files_of_one_name_are_told_apart_and_found_with_their_imports() -> None:
    payment = FakeParticipant(description(descriptors=files(*PAYMENT.file)))
    payment.description.ClearField("actions")
    async with coordinator(a=FakeParticipant(), payment=payment) as served:
        answers = await ask(
            served.target,
            symbol("shop.Reservation"),
            symbol("payment.Charge"),
            ServerReflectionRequest(file_by_filename="payment/shop.proto"),
        )
    names = [[file.name for file in files_in(answer)] for answer in answers]
    assert names == [["shop.proto"], ["pay.proto", "payment/shop.proto"], ["payment/shop.proto"]]
    assert list(files_in(answers[1])[0].dependency) == ["payment/shop.proto"]


async def test_a_participant_can_be_chosen_by_metadata() -> None:
    other = FakeParticipant(description(descriptors=files(OTHER_SHOP)))

    async def field_of(*metadata: tuple[str, str]) -> str:
        (answer,) = await ask(served.target, symbol("shop.ReserveRequest"), metadata=metadata)
        return files_in(answer)[0].message_type[0].field[0].name

    async with coordinator(a=FakeParticipant(), b=other) as served:
        assert await field_of() == "sku"
        assert await field_of((PARTICIPANT_HEADER, "a")) == "sku"
        assert await field_of((PARTICIPANT_HEADER, "b")) == "article"
        assert "differs from" in served.directory.participant("b").problems[0]


async def test_a_participant_that_is_not_known_is_not_found() -> None:
    async with coordinator() as served:
        with pytest.raises(grpc.aio.AioRpcError, match="no participant `gone`") as caught:
            await ask(served.target, symbol("saga.v1.Saga"), metadata=((PARTICIPANT_HEADER, "gone"),))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_types_follow_a_new_description() -> None:
    shop = FakeParticipant()
    async with coordinator(shop=shop) as served:
        shop.description = description(descriptors=files(OTHER_SHOP))
        await served.directory.refresh("shop")
        (answer,) = await ask(served.target, symbol("shop.ReserveRequest"))
    assert files_in(answer)[0].message_type[0].field[0].name == "article"


async def test_what_is_not_there_is_not_found_and_the_stream_goes_on() -> None:
    missing = [
        symbol("shop.Gone"),
        symbol(""),
        symbol("\x00"),
        ServerReflectionRequest(file_by_filename="gone.proto"),
        ServerReflectionRequest(all_extension_numbers_of_type="shop.Gone"),
        ServerReflectionRequest(file_containing_extension=ExtensionRequest(containing_type="shop.Gone")),
        ServerReflectionRequest(
            file_containing_extension=ExtensionRequest(containing_type="saga.v1.Saga", extension_number=-1)
        ),
    ]
    async with coordinator() as served:
        *answers, last = await ask(served.target, *missing, symbol("saga.v1.Saga"))
    assert [answer.error_response.error_code for answer in answers] == [grpc.StatusCode.NOT_FOUND.value[0]] * len(
        missing
    )
    assert [answer.original_request for answer in answers] == missing
    assert files_in(last)[0].name == "saga/v1/coordinator.proto"


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x1a\x01\xff", b"\x52\x00"])
async def test_a_malformed_request_is_answered_and_the_stream_goes_on(body: bytes) -> None:
    """In turn: nothing asked, no protobuf, text that is no UTF-8, a question of a later protocol."""
    async with coordinator() as served:
        refused, answered = await ask(served.target, body, symbol("saga.v1.Saga"))
    assert refused.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answered.HasField("file_descriptor_response")


async def test_extensions_are_found() -> None:
    file = proto("e.proto", "shop", {"Base": []})
    file.syntax = "proto2"
    file.message_type[0].extension_range.add(start=100, end=200)
    file.extension.add(
        name="extra",
        number=150,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        extendee=".shop.Base",
    )
    described = description(descriptors=files(file))
    described.ClearField("actions")
    async with coordinator(shop=FakeParticipant(described)) as served:
        numbers, found = await ask(
            served.target,
            ServerReflectionRequest(all_extension_numbers_of_type="shop.Base"),
            ServerReflectionRequest(
                file_containing_extension=ExtensionRequest(containing_type="shop.Base", extension_number=150)
            ),
        )
    assert list(numbers.all_extension_numbers_response.extension_number) == [150]
    assert numbers.all_extension_numbers_response.base_type_name == "shop.Base"
    assert files_in(found)[0].name == "e.proto"


async def test_g14_imports_that_do_not_fit_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REFLECTION_ANSWER_BYTES_MAX", 1)
    payment = FakeParticipant(description(descriptors=files(*PAYMENT.file)))
    payment.description.ClearField("actions")
    async with coordinator(payment=payment) as served:
        (answer,) = await ask(served.target, symbol("payment.Charge"))
        assert [file.name for file in files_in(answer)] == ["pay.proto"]
        fields = await database(
            served.target,
            lambda found: DescriptorPool(found).FindMessageTypeByName("payment.Charge").fields_by_name,
        )
    assert fields["card"].message_type is not None
    assert fields["card"].message_type.full_name == "payment.Card"


async def test_g14_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REFLECTION_STREAMS_MAX", 1)
    question = symbol("saga.v1.Saga").SerializeToString()
    async with coordinator() as served, grpc.aio.insecure_channel(served.target) as channel:
        open_stream = rpc(channel)(timeout=60)
        await open_stream.write(question)
        await open_stream.read()
        with pytest.raises(grpc.aio.AioRpcError, match="1 reflection streams are open") as caught:
            await ask(served.target, question)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await open_stream.done_writing()
        assert await open_stream.code() is grpc.StatusCode.OK
        assert await ask(served.target, question)


async def test_a_client_that_goes_away_frees_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REFLECTION_STREAMS_MAX", 1)
    question = symbol("saga.v1.Saga").SerializeToString()
    ended = asyncio.Event()
    serve = Reflection._serve

    async def watched(self: Reflection, requests: Any, context: Any) -> None:
        try:
            await serve(self, requests, context)
        finally:
            ended.set()

    monkeypatch.setattr(Reflection, "_serve", watched)
    async with coordinator() as served, grpc.aio.insecure_channel(served.target) as channel:
        open_stream = rpc(channel)(timeout=60)
        await open_stream.write(question)
        await open_stream.read()
        open_stream.cancel()
        await ended.wait()
        assert await ask(served.target, question)


async def test_a_server_that_stops_ends_open_streams_with_a_status() -> None:
    async with coordinator() as served, grpc.aio.insecure_channel(served.target) as channel:
        open_stream = rpc(channel)()  # no deadline
        await open_stream.write(symbol("saga.v1.Saga").SerializeToString())
        await open_stream.read()
        await served.server.stop(None)
        assert await asyncio.wait_for(open_stream.code(), 60) is not grpc.StatusCode.OK


async def test_a_cancellation_from_within_ends_the_call_with_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it escaped, a client without a deadline would wait for ever."""

    def cancelled(_self: Directory) -> None:
        raise asyncio.CancelledError

    async with coordinator() as served, grpc.aio.insecure_channel(served.target) as channel:
        monkeypatch.setattr(Directory, "types", cancelled)
        stream = rpc(channel)(iter([b""]))
        assert await asyncio.wait_for(stream.code(), 60) is grpc.StatusCode.CANCELLED


def test_the_shared_files_stand_by_themselves() -> None:
    merged = merge({}, SHARED_FILES)
    assert merged.clashes == ()
    for name in ("saga.v1.SagaDefinition", "google.rpc.ErrorInfo", "google.protobuf.Timestamp"):
        merged.pool.FindMessageTypeByName(name)
    final, alpha = (merged.pool.FindServiceByName(name).methods[0].input_type for name in REFLECTION_SERVICES)
    assert [(f.name, f.number) for f in final.fields] == [(f.name, f.number) for f in alpha.fields]
