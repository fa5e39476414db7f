"""The SQL of the journal, read once from the files beside this module.

Statements live in `sql/queries.sql`, each under a line `-- name: …`; the tables in `sql/schema.sql`; what leads from
one version of them to the next in `sql/migrate_N.sql`. No other module contains SQL, except for pragmas and the ends of
transactions.
"""

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"^--.*$", re.MULTILINE)


def parse_queries(text: str) -> Mapping[str, str]:
    """Statements by name, without comment lines and closing semicolons."""
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError("two queries have one name")
    return MappingProxyType(
        {name: _COMMENT.sub("", body).strip().removesuffix(";") for name, body in zip(names, bodies, strict=True)}
    )


def _load(file: str) -> str:
    return (resources.files("coordinator.journal") / "sql" / file).read_text(encoding="utf-8")


SCHEMA: Final = _load("schema.sql")
QUERIES: Final = parse_queries(_load("queries.sql"))
MIGRATIONS: Final = MappingProxyType(
    {version: _load(f"migrate_{version}.sql") for version in (1, 2)}  # by the version that each leads away from
)
