"""Definitions as YAML that nobody should write: a definition, or problems with their places."""

from __future__ import annotations

import time
from typing import Final

from hypothesis import event, example, given

from coordinator.core.definition import check_structure
from coordinator.dataflow.yamlform import DefinitionTextError, dump, load
from tests.fuzz.tape import TAPES, Tape, profile
from tests.support.sample_files import DEFINITIONS

SAMPLES: Final = [path.read_text() for path in DEFINITIONS]
LOAD_MAX_S: Final = 10.0

_BOMB: Final = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [*{chr(97 + level)}, *{chr(97 + level)}]\n" for level in range(20)
)
_SNIPPETS: Final = (
    "\t",
    "\x00",
    "\ufeff",
    "\u2028",
    "\U0010ffff",
    "&a [*a, *a]",
    "*nobody",
    "<<: *a",
    "!!python/object/apply:os.system [ls]",
    "!!binary aGk=",
    "!!timestamp 2026-01-01",
    '"\\UFFFFFFFF"',
    '"\\ud800"',
    "'",
    '"',
    "|\n",
    ">+9\n",
    "{",
    "[" * 500,
    "- " * 500,
    "? ",
    ": ",
    "~",
    "010",
    "1e400",
    ".nan",
    "9" * 5000,
    "5m" * 100,
    "-1s",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "x" * 100_000,
    "[" + "{}, " * 5000 + "]",
    _BOMB,
    "name: again\n",
    "steps: []\n",
    "kind: NONE",
)


def mutated(tape: Tape) -> str:
    """A sample with lines and pieces deleted, doubled, swapped, or replaced by what hurts."""
    lines = tape.pick(SAMPLES).splitlines(keepends=True)
    for _ in range(1 + tape.below(5)):
        here, there = tape.below(len(lines)), tape.below(len(lines))
        match tape.below(7):
            case 0:
                column = tape.below(len(lines[here]) + 1)
                lines[here] = lines[here][:column] + tape.pick(_SNIPPETS) + lines[here][column:]
            case 1:
                lines[here] = ""
            case 2:
                lines.insert(there, lines[here])
            case 3:
                lines[here], lines[there] = lines[there], lines[here]
            case 4:
                lines[here] = " " * tape.below(9) + lines[here].lstrip()
            case 5:
                name, colon, _ = lines[here].partition(":")
                lines[here] = f"{name}{colon} {tape.pick(_SNIPPETS)}\n"
            case _:
                lines[here] = tape.data(20).decode("latin-1") + "\n"
    return "".join(lines)


@profile(80)
@given(TAPES)
def test_g13_any_text_is_a_definition_or_has_problems_with_their_places(numbers: bytes) -> None:
    text = mutated(Tape(numbers))
    begun = time.process_time()
    try:
        read = load(text, "fuzz.yaml")
    except DefinitionTextError as error:
        event("refused")
        height = len(text.splitlines()) + 1
        assert error.problems
        assert all(1 <= problem.line <= height and problem.column >= 1 for problem in error.problems)
        assert all(problem.message for problem in error.problems)
    else:
        event("read")
        for problem in check_structure(read.definition):
            assert read.locate(problem).line >= 1
        assert load(dump(read.definition), "again.yaml").definition == read.definition
    assert time.process_time() - begun < LOAD_MAX_S  # a text that takes that long takes for ever


@profile(25)
@given(TAPES)
@example(b"")
def test_g13_so_has_a_text_of_nothing_but_what_hurts(numbers: bytes) -> None:
    tape = Tape(numbers)
    text = "".join(tape.pick((*_SNIPPETS, "\n", " ", "a", "steps:")) for _ in range(1 + tape.below(6)))
    try:
        load(text, "fuzz.yaml")
    except DefinitionTextError as error:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
