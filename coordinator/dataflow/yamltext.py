"""Reading a YAML text so that everything that is wrong with it can be shown where it stands: file, line, column, path.

The nodes are walked, and never constructed: a text cannot make objects, and each value knows its place. What a text is
about is for those who read it, as `yamlform` reads definitions; this module must not know any of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import yaml

_SHOWN_MAX: Final = 60
_HALF: Final = re.compile("[\ud800-\udfff]")
_KINDS: Final = {
    "bool": "a boolean",
    "float": "a number",
    "int": "a number",
    "map": "a mapping",
    "null": "nothing",
    "seq": "a list",
    "str": "text",
    "timestamp": "a date",
}


@dataclass(frozen=True, slots=True)
class TextProblem:
    """One thing that is wrong with a text. `line` and `column` count from 1 in the file."""

    source: str
    line: int
    column: int
    path: str
    message: str
    expected: str = ""

    def __str__(self) -> str:
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{self.source}:{self.line}:{self.column}: {what}" + (
            f"; expected {self.expected}" if self.expected else ""
        )


class _StopReadingError(Exception):
    """Nothing that follows is worth reading."""


class TextReader:
    """One walk over the nodes of a text; `problems` is what it found wrong.

    `source` names the text in problems, `subject` is what the text should be ("a definition"), and `size_max` bounds
    its characters, those that its aliases unfold to included.
    """

    def __init__(self, source: str, size_max: int, subject: str) -> None:
        self.problems: list[TextProblem] = []
        self._source = source
        self._size_max = size_max
        self._subject = subject
        self._size = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, whatever makes the rest not worth reading ends the walk."""
        with suppress(_StopReadingError):
            yield

    def compose(self, text: str) -> yaml.Node:
        """The root of the text's one document."""
        if len(text) > self._size_max:
            self._stop(1, 1, f"{len(text)} characters", f"at most {self._size_max}")
        loader = None
        try:
            loader = yaml.SafeLoader(text)
            root: yaml.Node | None = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._stop(line, column, f"not YAML: {error.problem or error.context}", "one document of YAML or JSON")
        except yaml.reader.ReaderError as error:
            line, column = line_and_column(text, error.position)
            self._stop(line, column, f"not YAML: {error.reason}", "printable text")
        except RecursionError:
            self._stop(1, 1, "the text is nested too deeply", self._subject)
        except (ValueError, OverflowError):  # of the library itself: a character or a version beyond all numbers
            mark = loader.get_mark() if loader else None
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._stop(line, column, "not YAML: a number that is too large", "characters up to \\U0010FFFF")
        finally:
            if loader is not None:
                loader.dispose()
        if root is None:
            self._stop(1, 1, "the text is empty", self._subject)
        return root

    def add(self, node: yaml.Node, path: str, message: str, expected: str = "") -> None:
        """Notes a problem."""
        self.problems.append(TextProblem(self._source, *place(node), path, message, expected))

    def entries(self, node: yaml.Node, path: str, expected: str) -> Iterator[tuple[yaml.Node, str, yaml.Node]]:
        """The entries of a mapping whose keys are texts, each once."""
        self.weigh(node)
        if not isinstance(node, yaml.MappingNode):
            self.add(node, path, found(node), expected)
            return
        seen: set[str] = set()
        for key, value in node.value:
            self.weigh(key)
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
                self.add(key, path, f"{found(key)} as a key", "text")
            elif key.value in seen:
                self.add(key, path, f"`{key.value}` stands twice", "it once")
            else:
                seen.add(key.value)
                yield key, key.value, value

    def items(self, node: yaml.Node, path: str) -> list[yaml.Node]:
        """The items of a list."""
        self.weigh(node)
        if not isinstance(node, yaml.SequenceNode):
            self.add(node, path, found(node), "a list")
            return []
        items: list[yaml.Node] = node.value
        return items

    def weigh(self, node: yaml.Node) -> None:
        """To be called for every node that is read.

        It bounds what aliases can unfold to, and keeps out what is no text: an escape can name half a character.
        """
        if isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
            self._stop(*place(node), "half of a surrogate pair", "whole characters")
        self._size += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self._size > self._size_max:
            self._stop(
                *place(node), "with its aliases unfolded, the text is too long", f"at most {self._size_max} characters"
            )

    def _stop(self, line: int, column: int, message: str, expected: str) -> NoReturn:
        self.problems.append(TextProblem(self._source, line, column, "", message, expected))
        raise _StopReadingError


def kind_of(node: yaml.Node) -> str:
    """What YAML takes the node for, such as `str`, `int` or `map`."""
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def found(node: yaml.Node) -> str:
    """What stands there, in words, cut where it is long."""
    kind = _KINDS.get(kind_of(node), f"something of type {kind_of(node)}")
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        return kind if kind != "text" else "an empty text"
    shown = node.value if len(node.value) <= _SHOWN_MAX else node.value[:_SHOWN_MAX] + "…"
    return f"{kind} `{shown}`"


def place(node: yaml.Node) -> tuple[int, int]:
    """Line and column, from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def line_and_column(text: str, index: int) -> tuple[int, int]:
    """Those of a character, from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
