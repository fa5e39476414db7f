"""How results reach the terminal or the pipe.

On a terminal: colours (unless NO_COLOR is set) and lines folded to its width. In a pipe or a file: plain text, every id
and message whole, no padding behind a line. JSON is canonical protobuf JSON either way.

Text that comes from elsewhere (labels, messages of participants) may hold control characters that steer a terminal: it
is shown through `visible`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any as PythonAny
from typing import Final

import typer
from google.protobuf.descriptor import EnumDescriptor
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

NOTHING: Final = "-"

_PIPED_WIDTH: Final = 65_536
_UNSAFE_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Cell = str | Text


class Format(StrEnum):
    """What a command writes."""

    TEXT = "text"
    JSON = "json"


def console() -> Console:
    """The standard output."""
    terminal = sys.stdout.isatty()
    return Console(
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=None if terminal else _PIPED_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def show(*parts: RenderableType) -> None:
    """Writes text."""
    screen = console()
    if screen.is_terminal:
        screen.print(Group(*parts))
        return
    with screen.capture() as captured:
        screen.print(Group(*parts))
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_line(line: Text) -> None:
    """Writes a line of any length at once, so that whoever reads the pipe sees it now."""
    console().print(line, soft_wrap=True)
    sys.stdout.flush()


def show_json(document: PythonAny, *, indent: int | None = None) -> None:
    """Writes one JSON document; without `indent` in one line."""
    typer.echo(json_text(document, indent=indent))


def json_text(document: PythonAny, *, indent: int | None = None) -> str:
    """The document as JSON, readable beyond ASCII, without a character that could steer a terminal."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, drop_empty: bool = False) -> Table:
    """Aligned columns. An empty cell shows `-`; with `drop_empty` a column of empty cells is left out."""
    cells = [[_text(cell) for cell in row] for row in rows]
    kept = [index for index in range(len(headers)) if not drop_empty or any(row[index].plain for row in cells)]
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index in kept:
        result.add_column(headers[index], overflow="fold")
    for row in cells:
        result.add_row(*(row[index] if row[index].plain else Text(NOTHING) for index in kept))
    return result


def visible(text: str) -> str:
    """The text in one line, with control characters written out rather than obeyed."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def short_name(enum: EnumDescriptor, value: int) -> str:
    """An enum's value without the enum's prefix; of one that is newer than this program, its number."""
    described = enum.values_by_number.get(value)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return described.name.removeprefix(prefix) if described else str(value)


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(visible(cell))
