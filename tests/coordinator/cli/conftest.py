from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.coordinator.cli import live_command
from tests.coordinator.cli.fake import FakeCoordinator
from tests.coordinator.cli.fake import serving as serving_fake
from tests.coordinator.cli.live_command import Live
from tests.coordinator.rehearse.shop import DEFINITION, INPUT, Shop, serving


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
            return CliRunner().invoke(live_command.app, words)

        yield explore
