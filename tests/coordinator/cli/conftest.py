from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from tests.coordinator.cli.fake import FakeCoordinator
from tests.coordinator.cli.fake import serving as serving_fake
from tests.coordinator.rehearse.shop import DEFINITION, INPUT, Shop, serving

Live: TypeAlias = Callable[..., Result]
"""Rehearses the shop's definition with these further options; `given` is the input."""


@pytest.fixture
def fake() -> Iterator[FakeCoordinator]:
    with serving_fake() as coordinator:
        yield coordinator


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "ledger.json")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "errand.yaml"
    path.write_text(DEFINITION, encoding="utf-8")
    return path


@pytest.fixture
def run(shop: Shop, file: Path) -> Iterator[Live]:
    with serving(shop) as address:

        def explore(*options: str, given: str = INPUT) -> Result:
            words = ["explore", str(file), "--live", "--participant", f"shop={address}", "--input", given, *options]
            return CliRunner().invoke(app, words)

        yield explore
