"""The line to a coordinator: each call has a deadline, and is tried again where the coordinator was gone for a moment.

Trying again is safe for every call of the command line: starts carry an id, and of the others a second one changes
nothing that matters, or is refused because the first was done. What fails for good is raised as a CommandError.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import typer
from google.protobuf.duration_pb2 import Duration

from coordinator.cli.errors import is_transient, refusal
from coordinator.core.instants import from_duration
from coordinator.core.limits import SECOND_NS
from saga.v1 import coordinator_pb2 as pb
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub, ParticipantDirectoryServiceStub
from saga.v1.definition_pb2_grpc import DefinitionServiceStub

SERVER_DEFAULT: Final = "127.0.0.1:7400"
CALL_TIMEOUT_DEFAULT: Final = Duration(seconds=10)

_BRIEF_S: Final = (0.1, 0.4)  # pauses between attempts, of a coordinator that has not answered yet
_PATIENT_S: Final = (0.1, 0.4, 1.0, 2.0, 4.0, 8.0, 16.0)  # of one that has: it may be draining, or starting anew
_STREAM_S: Final = 60.0  # a watch is taken up anew so often, so that a dead connection is noticed
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long connecting itself may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 << 20),  # a saga of many steps with all its payloads
)

Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Address:
    """Which coordinator, and how long one call to it may take."""

    server: str
    call_timeout: Duration


class Connection:
    """An open line. Everything here can raise CommandError."""

    def __init__(self, channel: grpc.Channel, address: Address) -> None:
        self.sagas = CoordinatorServiceStub(channel)
        self.definitions = DefinitionServiceStub(channel)
        self.directory = ParticipantDirectoryServiceStub(channel)
        self._address = address
        self._has_answered = False
        self._is_looked_for = False
        self._outages = 0
        """How many were told."""

    def call(
        self, rpc: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, longer_s: float = 0
    ) -> Response:
        """The answer. `longer_s`: how long the coordinator itself may wait before it answers."""
        timeout_s = from_duration(self._address.call_timeout) / SECOND_NS + longer_s
        failures = 0
        while True:
            try:
                response = rpc(request, timeout=timeout_s, wait_for_ready=self._comes_back(failures))
            except grpc.RpcError as error:
                self._pause(error, failures)
                failures += 1
            else:
                self._note_answer()
                return response

    def get(self, saga_id: str, payloads: pb.PayloadView.ValueType = pb.PAYLOAD_VIEW_NONE) -> pb.Saga:
        """A saga as it stands."""
        return self.call(self.sagas.GetSaga, pb.GetSagaRequest(saga_id=saga_id, payloads=payloads)).saga

    def watch(
        self, saga_id: str, after: int, payloads: pb.PayloadView.ValueType, until_s: float = math.inf
    ) -> Iterator[pb.WatchSagaResponse]:
        """The saga's events behind a sequence, until the saga ends or the monotonic clock says `until_s`.

        A stream that breaks is taken up where it broke.
        """
        failures = 0
        while (left_s := until_s - time.monotonic()) > 0:
            request = pb.WatchSagaRequest(saga_id=saga_id, after_sequence=after, payloads=payloads)
            outages = self._outages
            try:
                stream = self.sagas.WatchSaga(
                    request, timeout=min(left_s, _STREAM_S), wait_for_ready=self._comes_back(failures)
                )
                for response in stream:
                    after, failures = response.event.sequence, 0
                    self._note_answer()
                    yield response
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    self.get(saga_id)  # a coordinator that does not answer this either is gone
                    continue
                # What another call has met and told meanwhile is what has broken the stream, too.
                self._pause(error, failures, is_told=self._outages > outages)
                failures += 1
            else:
                return

    def _note_answer(self) -> None:
        self._has_answered, self._is_looked_for = True, False

    def _comes_back(self, failures: int) -> bool:
        """Whether to wait for a connection: gRPC works on one only while somebody does, and not in a pause."""
        return failures > 0 and self._has_answered

    def _pause(self, error: grpc.RpcError, failures: int, *, is_told: bool = False) -> None:
        """Waits before the next attempt. Raises CommandError where there is none to be made."""
        pauses_s = _PATIENT_S if self._has_answered else _BRIEF_S
        if failures == len(pauses_s) or not is_transient(error):
            raise refusal(error, self._address.server) from error
        if self._has_answered and not (self._is_looked_for or is_told):
            self._is_looked_for = True
            self._outages += 1
            typer.echo(f"the coordinator at {self._address.server} does not answer; looking for it", err=True)
        time.sleep(pauses_s[failures])


@contextmanager
def connect(ctx: typer.Context) -> Iterator[Connection]:
    """The line to the coordinator that the root command's options name."""
    address: Address = ctx.obj
    with grpc.insecure_channel(address.server, options=_OPTIONS) as channel:
        yield Connection(channel, address)


def paged(page: Callable[[str], tuple[Iterable[Item], str]]) -> Iterator[Item]:
    """The items of all pages. `page` takes a token and answers with items and the next token."""
    token = ""
    while True:
        items, token = page(token)
        yield from items
        if not token:
            return
