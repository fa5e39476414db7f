"""What is read of the library's serialised tree."""

import pytest
from cel_expr_python import cel
from cel_expr_python.ext.ext_bindings import ExtBindings
from cel_expr_python.ext.ext_optional import ExtOptional

from coordinator.dataflow.tree import Call, Constant, Fold, Kind, Literal, Name, Node, Select, read

ENVIRONMENT = cel.NewEnv(
    variables={
        "text": cel.Type.STRING,
        "texts": cel.Type.List(cel.Type.STRING),
        "table": cel.Type.Map(cel.Type.STRING, cel.Type.INT),
        "anything": cel.Type.DYN,
    },
    extensions=(ExtBindings(), ExtOptional()),
)
TEXT = Name(Kind.TEXT, "text")
ONE = Constant(Kind.SCALAR, b"")
A = Constant(Kind.TEXT, b"a")


def tree(text: str) -> Node:
    return read(ENVIRONMENT.compile(text).serialize())


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("1", ONE),
        ("'a'", A),
        ("b'a'", A),
        ("text", TEXT),
        ("has(table.a)", Select(Kind.SCALAR, Name(Kind.STRUCTURE, "table"), is_test=True)),
        ("table.a", Select(Kind.SCALAR, Name(Kind.STRUCTURE, "table"), is_test=False)),
        ("anything.a", Select(Kind.ANYTHING, Name(Kind.ANYTHING, "anything"), is_test=False)),
        ("text.contains('a')", Call(Kind.SCALAR, "contains", (TEXT, A))),
        ("text + 'a'", Call(Kind.TEXT, "_+_", (TEXT, A))),
        ("texts[?1]", Call(Kind.TEXT, "_[?_]", (Name(Kind.STRUCTURE, "texts"), ONE))),
        ("timestamp('a')", Call(Kind.SCALAR, "timestamp", (A,))),
        ("[text, 'a']", Literal(Kind.STRUCTURE, "", (TEXT, A), 2)),
        ("{text: 1}", Literal(Kind.STRUCTURE, "", (TEXT, ONE), 1)),
        (
            "google.protobuf.Any{type_url: 'a'}",
            Literal(Kind.ANYTHING, "google.protobuf.Any", (A,), 1),
        ),
    ],
)
def test_each_form_is_read_with_the_kind_of_its_values(text: str, node: Node) -> None:
    assert tree(text) == node


def test_macros_come_expanded() -> None:
    found = tree("texts.map(each, each + 'a')")
    assert isinstance(found, Fold)
    assert (found.variable, found.range) == ("each", Name(Kind.STRUCTURE, "texts"))
    assert isinstance(found.step, Call)
    added = Call(Kind.TEXT, "_+_", (Name(Kind.TEXT, "each"), A))
    assert found.step.arguments == (Name(Kind.STRUCTURE, found.accumulator), Literal(Kind.STRUCTURE, "", (added,), 1))


def test_a_binding_is_a_fold_over_nothing() -> None:
    found = tree("cel.bind(twice, text + text, twice)")
    assert isinstance(found, Fold)
    assert found.range == Literal(Kind.STRUCTURE, "", (), 0)
    assert (found.accumulator, found.initial) == ("twice", Call(Kind.TEXT, "_+_", (TEXT, TEXT)))
    assert found.result == Name(Kind.TEXT, "twice")


def test_the_deepest_expression_that_the_library_takes_is_read() -> None:
    assert isinstance(tree("texts.all(each, " * 31 + "true" + ")" * 31), Fold)
