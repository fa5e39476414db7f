"""A real system: the three order services and a coordinator, each a process of its own, on loopback sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.system import OrderSystem


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[OrderSystem]:
    async with OrderSystem(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OrderSystem]:
    """The same for all tests of a module, which then also share an event loop."""
    async with OrderSystem(tmp_path_factory.mktemp("system")) as running:
        yield running
