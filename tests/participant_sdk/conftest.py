from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from participant_sdk import Step
from participant_sdk.call import Call
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import OPERATION_EXECUTE
from tests.participant_sdk.support import External, Scripted, Stores, struct


@pytest.fixture(params=["memory", "sqlite", "aiosqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Each store in turn: one contract holds for all."""
    return Stores(request.param, tmp_path)


@pytest.fixture
def action() -> Scripted:
    return Scripted()


@pytest.fixture
def external() -> External:
    return External()


@pytest.fixture
def step() -> Step:
    """A step outside any barrier."""
    context = StepContext(saga_id="s", saga_uid="u", step="reserve", action="Scripted", attempt=1)
    return Step(Call(Scripted(), OPERATION_EXECUTE, context, AnyMessage(), struct()))
