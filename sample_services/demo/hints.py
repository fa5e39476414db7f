"""Lines to paste into a terminal while the demo keeps running: what can be asked and done from outside.

The addresses in them are real. This module must not know any one sample.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from sample_services.demo.sample import Example

_SERVICE: Final = "saga.v1.CoordinatorService"


def grpcurl(address: str, example: Example) -> Iterator[str]:
    """Yield what `grpcurl` can do with the coordinator, which knows all types by reflection."""
    yield f"grpcurl -plaintext {address} list"
    yield f"grpcurl -plaintext {address} describe {_SERVICE}"
    yield f"grpcurl -plaintext {address} describe {example.new_input.DESCRIPTOR.full_name}"
    yield _call(address, "GetSaga", {"saga_id": example.finished_saga_id})
    packed = AnyMessage()
    packed.Pack(example.new_input)
    start = {"saga_id": example.new_saga_id, "definition": example.definition, "input": _json(packed)}
    yield _call(address, "StartSaga", start)
    yield _call(address, "WaitSaga", {"saga_id": example.new_saga_id})


def command_line(address: str, example: Example) -> Iterator[str]:
    """Yield the same with the command line that belongs to this Python."""
    yield f"{_saga()} --server {address} list"
    yield f"{_saga()} --server {address} get {example.finished_saga_id}"
    yield start(address, example)


def start(address: str, example: Example) -> str:
    """Return the command line that starts a saga and follows it to its end."""
    given = shlex.quote(_text(_json(example.new_input)))
    saga = f"{_saga()} --server {address}"
    return f"{saga} start {example.definition} --id {example.new_saga_id} --input {given} --follow"


def _saga() -> str:
    """Return how a shell finds the command: by its name where that leads there, else by its path."""
    script = str(Path(sys.executable).with_name("saga"))
    return "saga" if shutil.which("saga") == script else shlex.quote(script)


def _call(address: str, method: str, request: object) -> str:
    return f"grpcurl -plaintext -d {shlex.quote(_text(request))} {address} {_SERVICE}/{method}"


def _json(message: Message) -> object:
    return MessageToDict(message, preserving_proto_field_name=True)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
