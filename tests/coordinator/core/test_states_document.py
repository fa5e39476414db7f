"""docs/states.md shows the transition tables as they are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from coordinator.core.state import SAGA, STEP
from saga.v1.types_pb2 import SagaState, StepState

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_states", DOCS / "generate_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_file_is_what_the_tables_give(generator: ModuleType) -> None:
    """`python docs/generate_states.py` writes it anew."""
    assert (DOCS / "states.md").read_text() == generator.render()


def test_every_state_is_explained(generator: ModuleType) -> None:
    sagas = {SagaState.Name(state).removeprefix("SAGA_STATE_") for state in SAGA} - {"UNSPECIFIED"}
    assert set(generator.SAGA_MEANINGS) == sagas
    assert set(generator.STEP_MEANINGS) == {StepState.Name(state).removeprefix("STEP_STATE_") for state in STEP}


def test_every_happening_is_drawn(generator: ModuleType) -> None:
    document = generator.render()
    for table in (SAGA, STEP):
        for happenings in table.values():
            assert all(happening in document for happening in happenings)
