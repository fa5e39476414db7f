"""What holds for all tests: which of them begin first, on how many processes, and how properties draw.

It must not hold fixtures: those stand with the tests that use them.
"""

import os

import pytest
from hypothesis import settings

from tests.support.properties import DRAWN

settings.register_profile("drawn", DRAWN)
settings.load_profile("drawn")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because tests of processes often wait."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: none is begun by one worker when the others have nothing left to do."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return next((turn for turn, marker in enumerate(("long", "e2e")) if item.get_closest_marker(marker)), 2)
