"""Definition versions in a file.

The functions run on a connection's thread; those that write, inside the writer's transaction. This module must not know
what a definition's content means.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from coordinator.journal.codec import descriptors_digest
from coordinator.journal.errors import DefinitionExists
from coordinator.journal.port import DefinitionCursor, DefinitionVersion, Page, RegisteredDefinition
from coordinator.journal.queries import QUERIES

DefinitionPage = Page[DefinitionVersion, DefinitionCursor]

_BEHIND_EVERY_VERSION: Final = (1 << 63) - 1


def put_definition(
    db: sqlite3.Connection, name: str, content: bytes, digest: str, descriptors: bytes, create_time_ns: int
) -> RegisteredDefinition:
    """Store the content as a new version, unless one of that name has its digest."""
    known = _one(db, "find_definition_by_digest", name, digest)
    if known is not None:
        return RegisteredDefinition(known, created=False)
    descriptors_key = descriptors_digest(descriptors)
    db.execute(QUERIES["put_descriptors"], (descriptors_key, descriptors))
    db.execute(QUERIES["put_definition"], (name, content, digest, descriptors_key, create_time_ns, name))
    stored = _one(db, "find_definition_by_digest", name, digest)
    assert stored is not None
    return RegisteredDefinition(stored, created=True)


def adopt_definition(db: sqlite3.Connection, definition: DefinitionVersion, descriptors: bytes) -> None:
    """Store a version under the number that it has. Raises DefinitionExists."""
    known = _one(db, "find_definition", definition.name, definition.version)
    if known is not None and known.digest == definition.digest:
        return
    if known is not None or _one(db, "find_definition_by_digest", definition.name, definition.digest) is not None:
        raise DefinitionExists(definition.name, definition.version)
    descriptors_key = descriptors_digest(descriptors)
    db.execute(QUERIES["put_descriptors"], (descriptors_key, descriptors))
    row = (definition.name, definition.version, definition.content, definition.digest, descriptors_key)
    db.execute(QUERIES["adopt_definition"], (*row, definition.create_time_ns, definition.deprecated))


def find_definition(db: sqlite3.Connection, name: str, version: int) -> DefinitionVersion | None:
    """One version; 0: the newest that is not deprecated, else the newest."""
    if version == 0:
        return _one(db, "newest_definition", name, name)
    return _one(db, "find_definition", name, version)


def find_descriptors(db: sqlite3.Connection, digest: str) -> bytes | None:
    """A descriptor set."""
    row = db.execute(QUERIES["find_descriptors"], (digest,)).fetchone()
    return None if row is None else bytes(row[0])


def list_definitions(db: sqlite3.Connection, name: str, after: DefinitionCursor | None, limit: int) -> DefinitionPage:
    """A page of versions by name, newest first."""
    place = after or DefinitionCursor(name, _BEHIND_EVERY_VERSION)
    if name:
        rows = db.execute(QUERIES["list_versions"], (name, place.version, limit + 1)).fetchall()
    else:
        rows = db.execute(QUERIES["list_definitions"], (place.name, place.name, place.version, limit + 1)).fetchall()
    return _page([_definition(row) for row in rows], limit)


def deprecate_definition(db: sqlite3.Connection, name: str, version: int) -> DefinitionVersion | None:
    """Mark a version."""
    db.execute(QUERIES["deprecate_definition"], (name, version))
    return _one(db, "find_definition", name, version)


def _page(definitions: Sequence[DefinitionVersion], limit: int) -> DefinitionPage:
    """A page of `limit` versions; one more than that says that there is another page."""
    shown = definitions[:limit]
    more = len(definitions) > limit
    return Page(shown, DefinitionCursor(shown[-1].name, shown[-1].version) if more else None)


def _one(db: sqlite3.Connection, query: str, *arguments: object) -> DefinitionVersion | None:
    row = db.execute(QUERIES[query], arguments).fetchone()
    return None if row is None else _definition(row)


def _definition(row: tuple[str, int, bytes, str, str, int, int]) -> DefinitionVersion:
    name, version, content, digest, descriptors_key, create_time_ns, deprecated = row
    return DefinitionVersion(
        name, version, content, digest, descriptors_key, create_time_ns, deprecated=bool(deprecated)
    )
