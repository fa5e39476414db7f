"""What is wrong with a YAML text is shown where it stands; `test_yamlform` has the rest, by way of definitions."""

import pytest
import yaml

from coordinator.dataflow.yamltext import TextProblem, TextReader, found, kind_of, line_and_column, place


def read(text: str, size_max: int = 1000) -> tuple[yaml.Node | None, list[str]]:
    reader = TextReader("file.yaml", size_max, "a list of friends")
    root = None
    with reader.reading():
        root = reader.compose(text)
    return root, [str(problem) for problem in reader.problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "file.yaml:1:1: the text is empty; expected a list of friends"),
        ("a: [1,\nb: 2", "file.yaml:2:5: not YAML: expected ',' or ']', but got '<stream end>'; expected one document"),
        ("a: \x00", "file.yaml:1:4: not YAML: special characters are not allowed; expected printable text"),
        ("[" * 5000, "file.yaml:1:1: the text is nested too deeply; expected a list of friends"),
        ("a" * 9000, "file.yaml:1:1: 9000 characters; expected at most 8000"),
    ],
)
def test_what_is_no_document_is_refused_as_a_whole(text: str, problem: str) -> None:
    root, problems = read(text, 8000)
    assert root is None
    assert [one[: len(problem)] for one in problems] == [problem]


def test_entries_and_items_are_read_with_their_places() -> None:
    reader = TextReader("f", 1000, "something")
    root = reader.compose("a: 1\nb: [x, y]\na: 2\n~: 3\n")
    entries = {name: value for _, name, value in reader.entries(root, "", "a mapping")}
    assert {name: place(value) for name, value in entries.items()} == {"a": (1, 4), "b": (2, 4)}
    assert [item.value for item in reader.items(entries["b"], "b")] == ["x", "y"]
    assert reader.items(entries["a"], "a") == []
    assert list(reader.entries(entries["a"], "a", "a mapping")) == []
    assert reader.problems == [
        TextProblem("f", 3, 1, "", "`a` stands twice", "it once"),
        TextProblem("f", 4, 1, "", "nothing `~` as a key", "text"),
        TextProblem("f", 1, 4, "a", "a number `1`", "a list"),
        TextProblem("f", 1, 4, "a", "a number `1`", "a mapping"),
    ]


def test_what_aliases_unfold_to_is_bounded() -> None:
    reader = TextReader("f", 60, "something")
    with reader.reading():
        root = reader.compose(f"- &a {'x' * 20}\n- *a\n- *a\n")
        for item in reader.items(root, ""):
            reader.weigh(item)
    assert [problem.message for problem in reader.problems] == ["with its aliases unfolded, the text is too long"]


def test_a_node_in_words() -> None:
    words = {text: found(_node(text)) for text in ("1", "x", "''", "[]", "{}", "~", "!odd 3", "x" * 99)}
    assert words == {
        "1": "a number `1`",
        "x": "text `x`",
        "''": "an empty text",
        "[]": "a list",
        "{}": "a mapping",
        "~": "nothing `~`",
        "!odd 3": "something of type !odd `3`",
        "x" * 99: f"text `{'x' * 60}…`",
    }
    assert kind_of(_node("2026-01-01")) == "timestamp"
    assert line_and_column("ab\ncd", 4) == (2, 2)


def _node(text: str) -> yaml.Node:
    node = yaml.compose(text)
    assert node is not None
    return node
