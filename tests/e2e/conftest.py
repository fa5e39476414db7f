"""A real system: the three order services and a coordinator, each a process of its own, on loopback sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.system import OrderSystem


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[OrderSystem]:
    async with OrderSystem(tmp_path) as running:
        yield running
