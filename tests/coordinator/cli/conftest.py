from collections.abc import Iterator

import pytest

from tests.coordinator.cli.fake import FakeCoordinator, serving


@pytest.fixture
def fake() -> Iterator[FakeCoordinator]:
    with serving() as coordinator:
        yield coordinator
