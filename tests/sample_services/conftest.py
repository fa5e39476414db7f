"""What the tests of all sample services share: reading what a service has committed."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Select: TypeAlias = Callable[[str, str], list[tuple[Any, ...]]]


@pytest.fixture
def select(tmp_path: Path) -> Select:
    """Return what a query finds in a database file of the test's directory."""

    def run(database: str, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(tmp_path / database)) as connection:
            return connection.execute(query).fetchall()

    return run
