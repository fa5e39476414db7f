import re
import sqlite3
from pathlib import Path

import pytest

from coordinator.journal import queries
from coordinator.journal.queries import QUERIES, SCHEMA, parse_queries

SOURCES = Path(queries.__file__).parent


def test_queries_are_told_apart_by_their_names() -> None:
    parsed = parse_queries("-- about the file\n\n-- name: one\nSELECT 1;\n\n-- about two\n-- name: two\nSELECT\n  2\n")
    assert parsed == {"one": "SELECT 1", "two": "SELECT\n  2"}


def test_two_queries_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        parse_queries("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n")


@pytest.mark.parametrize("name", [name for name in QUERIES if not name.endswith("_part")])
def test_every_statement_fits_the_schema(name: str) -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    db.execute(f"EXPLAIN {QUERIES[name]}", [None] * QUERIES[name].count("?"))
    db.close()


def test_every_query_is_used_and_every_one_used_is_there() -> None:
    code = "\n".join(path.read_text() for path in SOURCES.glob("*.py"))
    used = set(re.findall(r"""["'](\w+)["']""", code))
    assert set(QUERIES) <= used
    assert set(re.findall(r'QUERIES\["(\w+)"\]', code)) <= set(QUERIES)
