"""What may be answered to a request, however hostile it was (G13): OK, or a clean status of the documented table.

This module must not know how a request was made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from coordinator.core import limits

DetailT = TypeVar("DetailT", bound=Message)

_LEAKS: Final = re.compile(r"Traceback|<class |Exception|Error parsing|NoneType|0x[0-9a-f]{6}| object at |\.py\b")
_UNDECODED: Final = "not decode"
CLEAN: Final = frozenset(
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    )
)


@dataclass(frozen=True)
class Answer:
    """What came back: responses and how the call ended."""

    responses: list[bytes]
    code: grpc.StatusCode
    message: str = ""
    details: bytes = b""

    @property
    def ok(self) -> bool:
        return self.code is grpc.StatusCode.OK


def judge(answer: Answer, *, request_bytes: int, ours: bool, streams: bool) -> None:
    """Complain where the answer is not clean. `ours`: the service is of the contract; `streams`: it need not end."""
    assert all(len(each) <= limits.MESSAGE_BYTES_MAX for each in answer.responses), "a response over the limit"
    if answer.ok or (streams and answer.code is grpc.StatusCode.DEADLINE_EXCEEDED):
        return
    assert answer.code in CLEAN, (answer.code, answer.message)
    assert not _LEAKS.search(answer.message), answer.message
    if answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED and request_bytes > limits.MESSAGE_BYTES_MAX:
        return  # gRPC itself did not let it in
    if (not ours and answer.code is not grpc.StatusCode.INVALID_ARGUMENT) or answer.message == "Method not found!":
        return  # what the library's own services answer
    status = Status.FromString(answer.details)
    assert status.code == answer.code.value[0]
    assert len(answer.details) <= limits.ERROR_DETAIL_BYTES_MAX + 1024
    info = _detail(status, ErrorInfo())
    assert info.domain == "saga.v1", status
    assert info.reason not in ("", "ERROR_REASON_INTERNAL", "ERROR_REASON_UNSPECIFIED"), status
    if answer.code is grpc.StatusCode.INVALID_ARGUMENT and _UNDECODED not in answer.message:
        named = _detail(status, BadRequest()).field_violations
        assert named, status
        assert all(violation.description for violation in named), status


def _detail(status: Status, kind: DetailT) -> DetailT:
    for packed in status.details:
        if packed.Unpack(kind):
            return kind
    raise AssertionError(f"no {kind.DESCRIPTOR.name} in {status}")
