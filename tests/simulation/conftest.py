"""What runs an engine here does so in virtual time."""

from tests.coordinator.engine.conftest import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
