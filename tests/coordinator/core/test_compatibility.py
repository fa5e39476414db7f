"""Which changes of a message type lose something of what was written (G5, G11)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import assume, given
from hypothesis import strategies as st

from coordinator.core import limits
from coordinator.core.compatibility import incompatible_reader, incompatible_writer
from coordinator.core.descriptors import build_pool
from tests.coordinator.dataflow.shop import compile_protos
from tests.support.properties import drawing

GOOGLE = (
    "any",
    "duration",
    "empty",
    "struct",
    "timestamp",
    "wrappers",
)


def message(body: str, syntax: str = "proto3", name: str = "M") -> Descriptor:
    """The message `t.M`, or another one, of a file with that body; a body of fields alone is that of M."""
    text = body if "message M " in body else f"message M {{ {body} }}"
    imports = "\n".join(
        f'import "google/protobuf/{file}.proto";' for file in GOOGLE if f"google/protobuf/{file}" in text
    )
    files = {"t.proto": f'syntax = "{syntax}"; package t; {imports}\n' + text.replace("google/protobuf/", "")}
    return build_pool(compile_protos(files)).FindMessageTypeByName(f"t.{name}")


def fields(body: str) -> Descriptor:
    """M with fields in either syntax: those of proto2 say `optional`, `required` or `repeated` and end in `//2`."""
    return message(body.removesuffix("//2"), "proto2" if body.endswith("//2") else "proto3")


def wkt(name: str, file: str) -> str:
    return f"google.protobuf.{name} f = 1; // google/protobuf/{file}\n"


IN_A_LINE = "M.f: {} before, {} now"

SAFE = [
    ("int32 f = 1;", "int32 renamed = 1;"),
    ("int32 f = 1;", "int64 f = 1;"),
    ("uint32 f = 1;", "int64 f = 1;"),
    ("uint32 f = 1;", "uint64 f = 1;"),
    ("bool f = 1;", "int32 f = 1;"),
    ("bool f = 1;", "uint64 f = 1;"),
    ("sint32 f = 1;", "sint64 f = 1;"),
    ("string f = 1;", "bytes f = 1;"),
    ("int32 f = 1;", "repeated int32 f = 1;"),
    ("string f = 1;", "repeated string f = 1;"),
    ("repeated int32 f = 1;", "repeated int64 f = 1 [packed = false];"),
    ("int32 f = 1;", "optional int32 f = 1;"),
    ("optional int32 f = 1;", "int32 f = 1;"),
    ("int32 f = 1;", "int32 f = 1; string added = 2;"),
    ("int32 f = 1;", "oneof one { int32 f = 1; int32 added = 2; }"),
    ("oneof one { int32 f = 1; int32 g = 2; }", "int32 f = 1; int32 g = 2;"),
    ("oneof one { int32 f = 1; int32 g = 2; }", "oneof other { int32 g = 2; int32 f = 1; int32 h = 3; }"),
    ("optional int32 f = 1; //2", "int32 f = 1;"),
    ("required int32 f = 1; //2", "optional int32 f = 1; //2"),
    ("map<string, int32> f = 1;", "map<string, int64> f = 1;"),
    (
        "map<string, int32> f = 1;",
        "message M { repeated E f = 1; } message E { string key = 1; int32 value = 2; string added = 3; }",
    ),
    ("message M { N f = 1; } message N { int32 g = 1; }", "bytes f = 1;"),
    ("message M { N f = 1; } message N { int32 g = 1; }", "message M { O f = 1; } message O { int64 h = 1; }"),
    ("message M { E f = 1; } enum E { A = 0; B = 1; }", "int32 f = 1;"),
    ("message M { E f = 1; } enum E { A = 0; B = 1; }", "uint32 f = 1;"),
    ("message M { E f = 1; } enum E { A = 0; B = 1; }", "bool f = 1;"),
    ("message M { E f = 1; } enum E { A = 0; B = 1; }", "message M { E f = 1; } enum E { A = 0; C = 1; B = 2; }"),
    ("int32 f = 1;", "message M { E f = 1; } enum E { A = 0; }"),
    ("bool f = 1;", "message M { optional E f = 1; } enum E { A = 0; B = 1; } //2"),
    (wkt("Timestamp", "timestamp"), wkt("Timestamp", "timestamp")),
    (wkt("Struct", "struct"), wkt("Struct", "struct")),
    (wkt("Any", "any"), wkt("Any", "any")),
    (wkt("Timestamp", "timestamp"), "message M { I f = 1; } message I { int64 s = 1; int32 n = 2; }"),
    ("message M { M f = 1; int32 g = 2; }", "message M { M f = 1; int64 g = 2; }"),
    ("int32 f = 1; extensions 100 to 200; //2".replace("int32 f", "optional int32 f"), "optional int32 f = 1; //2"),
]

LOSSY = [
    ("int64 f = 1;", "string f = 1;", "M.f: int64 before, string now"),
    ("int64 f = 1;", "", "M.f: int64 before, not there now"),
    ("int64 f = 1;", "int64 f = 2;", "M.f: int64 before, not there now"),
    ("int64 f = 1;", "int32 f = 1;", "M.f: int64 before, int32 now (what does not fit becomes another value)"),
    ("int32 f = 1;", "uint32 f = 1;", "M.f: int32 before, uint32 now (what does not fit becomes another value)"),
    ("uint64 f = 1;", "int64 f = 1;", "M.f: uint64 before, int64 now (what does not fit becomes another value)"),
    ("uint32 f = 1;", "int32 f = 1;", "M.f: uint32 before, int32 now (what does not fit becomes another value)"),
    ("int32 f = 1;", "bool f = 1;", "M.f: int32 before, bool now (what does not fit becomes another value)"),
    ("sint64 f = 1;", "sint32 f = 1;", "M.f: sint64 before, sint32 now (what does not fit becomes another value)"),
    ("int32 f = 1;", "sint32 f = 1;", "M.f: int32 before, sint32 now"),
    (
        "fixed32 f = 1;",
        "sfixed32 f = 1;",
        "M.f: fixed32 before, sfixed32 now (what does not fit becomes another value)",
    ),
    (
        "sfixed64 f = 1;",
        "fixed64 f = 1;",
        "M.f: sfixed64 before, fixed64 now (what does not fit becomes another value)",
    ),
    ("fixed32 f = 1;", "fixed64 f = 1;", "M.f: fixed32 before, fixed64 now"),
    ("fixed32 f = 1;", "int32 f = 1;", "M.f: fixed32 before, int32 now"),
    ("float f = 1;", "double f = 1;", "M.f: float before, double now"),
    ("fixed32 f = 1;", "float f = 1;", "M.f: fixed32 before, float now"),
    ("bytes f = 1;", "string f = 1;", "M.f: bytes before, string now (only UTF-8 can be read)"),
    ("string f = 1;", "M f = 1;", "M.f: string before, t.M now"),
    ("M f = 1;", "string f = 1;", "M.f: t.M before, string now"),
    ("bytes f = 1;", "M f = 1;", "M.f: bytes before, t.M now (only an encoded message can be read)"),
    (
        "repeated int32 f = 1;",
        "int32 f = 1;",
        "M.f: repeated int32 before, int32 now (only the last element can be read)",
    ),
    ("repeated int32 f = 1;", "repeated string f = 1;", "M.f: repeated int32 before, repeated string now"),
    ("map<string, int32> f = 1;", "string f = 1;", "M.f: map<string, int32> before, string now"),
    (
        "message M { repeated E f = 1; } message E { string key = 1; int32 value = 2; }",
        "map<string, int32> f = 1;",
        "M.f: repeated t.E before, map<string, int32> now (of entries with one key only the last is kept)",
    ),
    ("map<string, int32> f = 1;", "map<string, string> f = 1;", "M.f.value: int32 before, string now"),
    ("map<string, M> f = 1; int32 g = 2;", "map<string, M> f = 1;", "M.g: int32 before, not there now"),
    ("int32 f = 1; int32 g = 2;", "oneof one { int32 f = 1; int32 g = 2; }", "M.(f, g): can be set together before, "),
    (
        "int32 f = 1; oneof one { int32 g = 2; int32 h = 3; }",
        "oneof one { int32 f = 1; int32 g = 2; int32 h = 3; }",
        "M.(f, g, h): can be set together before, only one of them now",
    ),
    ("optional int32 f = 1; //2", "required int32 f = 1; //2", "M.f: optional before, required now"),
    ("", "required int32 f = 1; //2", "M.f: not there before, required now"),
    ("int32 f = 1;", "optional int32 f = 1 [default = 5]; //2", "M.f: zero is not written, and then read as 5 now"),
    (
        "optional group F = 1 { optional int32 a = 1; } //2",
        "message M { optional F f = 1; } message F { optional int32 a = 1; } //2",
        "M.f: group t.M.F before, t.F now",
    ),
    (
        "message M { E f = 1; } enum E { A = 0; B = 1; C = 2; }",
        "message M { E f = 1; } enum E { A = 0; B = 1; }",
        "M.f: C = 2 is not known now",
    ),
    (
        "message M { E f = 1; } enum E { A = 0; B = -1; }",
        "uint32 f = 1;",
        "M.f: enum t.E before, uint32 now (what does not fit becomes another value)",
    ),
    (
        "int32 f = 1;",
        "message M { optional E f = 1; } enum E { A = 0; } //2",
        "M.f: int32 before, enum t.E now (numbers that the enum does not name are dropped)",
    ),
    ("int64 f = 1;", "message M { E f = 1; } enum E { A = 0; }", "M.f: int64 before, enum t.E now (what does not fit"),
    (
        wkt("Timestamp", "timestamp"),
        wkt("Duration", "duration"),
        "M.f: google.protobuf.Timestamp before, google.protobuf.Duration now",
    ),
]


@pytest.mark.parametrize(("before", "now"), SAFE)
def test_a_safe_change_is_not_reported(before: str, now: str) -> None:
    assert incompatible_reader(fields(before), fields(now)) == []


@pytest.mark.parametrize(("before", "now", "problem"), LOSSY)
def test_a_lossy_change_is_reported_with_the_path_and_both_types(before: str, now: str, problem: str) -> None:
    [found] = incompatible_reader(fields(before), fields(now))
    assert found.startswith(problem)


def test_what_is_added_to_an_output_is_missed_by_nobody_and_what_is_removed_is() -> None:
    before, now = fields("int64 cents = 1;"), fields("int64 cents = 1; string currency = 2;")
    assert incompatible_writer(before, now) == []
    assert incompatible_writer(now, before) == ["M.currency: string before, not there now"]


def test_an_output_may_get_narrower_and_not_wider() -> None:
    before, now = fields("int64 f = 1;"), fields("int32 f = 1;")
    assert incompatible_writer(before, now) == []
    assert incompatible_writer(now, before) == [
        "M.f: int32 before, int64 now (what does not fit becomes another value)"
    ]


def test_new_values_of_an_enum_pass_where_it_is_open_and_are_dropped_where_it_is_closed() -> None:
    few, more = "enum E { A = 0; }", "enum E { A = 0; B = 1; }"
    closed, wider = (message(f"message M {{ optional E f = 1; }} {enum}", "proto2") for enum in (few, more))
    assert incompatible_writer(closed, wider) == ["M.f: B = 1 is not known to who reads it"]
    before, now = (message(f"message M {{ E f = 1; }} {enum}") for enum in (few, more))
    assert incompatible_writer(before, now) == []


def test_an_output_must_have_what_its_reader_requires() -> None:
    before = fields("required int32 f = 1; //2")
    assert incompatible_writer(before, fields("optional int32 f = 1; //2")) == ["M.f: required before, optional now"]
    assert incompatible_writer(before, fields("")) == ["M.f: int32 before, not there now"]
    assert incompatible_writer(fields(""), before) == []


def test_one_oneof_of_the_reader_keeps_one_of_what_is_written() -> None:
    before, now = fields("oneof one { int32 f = 1; int32 g = 2; }"), fields("int32 f = 1; int32 g = 2;")
    assert incompatible_writer(before, now) == ["M.(f, g): only one of them before, can be set together now"]


def test_all_problems_are_named_the_nearest_first_and_each_pair_of_messages_once() -> None:
    text = "message M {{ N a = 1; N b = 2; {} f = 3; M self = 4; }} message N {{ {} deep = 1; M back = 2; }}"
    before, now = message(text.format("int64", "bool")), message(text.format("string", "bytes"))
    assert incompatible_reader(before, now) == [
        "M.f: int64 before, string now",
        "M.a.deep: bool before, bytes now",
    ]


def test_two_parts_of_one_message_that_become_two_messages_are_each_compared() -> None:
    before = message("message M { N a = 1; N b = 2; } message N { int64 f = 1; }")
    now = message("message M { N a = 1; O b = 2; } message N { int64 f = 1; } message O { string f = 1; }")
    assert incompatible_reader(before, now) == ["M.b.f: int64 before, string now"]


def test_of_many_values_some_are_named() -> None:
    values = " ".join(f"V{number} = {number};" for number in range(8))
    before = message(f"message M {{ E f = 1; }} enum E {{ {values} }}")
    now = message("message M { E f = 1; } enum E { V0 = 0; }")
    [found] = incompatible_reader(before, now)
    assert found == "M.f: V1 = 1, V2 = 2, V3 = 3, V4 = 4, V5 = 5 and 2 more are not known now"


def test_g14_types_without_end_are_compared_to_a_limit_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPARED_MESSAGES_MAX", 2)
    chain = "message M { N f = 1; } message N { O f = 1; } message O { int64 f = 1; }"
    found = incompatible_reader(message(chain), message(chain.replace("int64", "string")))
    assert found == ["M.f.f: the types are too large to be compared from here on"]


# --- Whatever is called safe loses nothing ----------------------------------------------------------------------------

ONE, OPTIONAL, REQUIRED, MANY, MAP = "one", "optional", "required", "many", "map"
SCALARS = {
    kind: FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    for kind in (
        *("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "float", "double"),
        *("fixed32", "fixed64", "sfixed32", "sfixed64", "string", "bytes"),
    )
}
KEYS = ("int32", "int64", "uint64", "bool", "string")
ENUM_VALUES = (0, 1, 2, -1)


@dataclass(frozen=True)
class Field:
    number: int
    kind: str  # a scalar, `enum`, or a message: `A` or `B`
    cardinality: str
    in_oneof: bool
    key: str = "string"


@dataclass(frozen=True)
class Schema:
    proto3: bool
    values: tuple[int, ...]
    messages: tuple[tuple[Field, ...], tuple[Field, ...]]

    def descriptor(self) -> Descriptor:
        """Its message `A`."""
        syntax = "proto3" if self.proto3 else "proto2"
        file = FileDescriptorProto(name="p.proto", package="p", syntax=syntax)
        enum = file.enum_type.add(name="E")
        has_enum_map = any(
            field.cardinality == MAP and field.kind == "enum" for part in self.messages for field in part
        )
        zero_first = [0] if self.proto3 or has_enum_map else []  # otherwise another one can be the default
        for value in dict.fromkeys([*zero_first, *self.values]):
            enum.value.add(name=f"V{value}".replace("-", "_"), number=value)
        for name, fields_ in zip("AB", self.messages, strict=True):
            _fill(file.message_type.add(name=name), fields_, proto3=self.proto3)
        return build_pool(FileDescriptorSet(file=[file])).FindMessageTypeByName("p.A")


def _fill(made: DescriptorProto, fields_: tuple[Field, ...], *, proto3: bool) -> None:
    in_oneof = [field for field in fields_ if field.in_oneof and field.cardinality == ONE]
    if in_oneof:
        made.oneof_decl.add(name="one")
    for field in fields_:
        label = FieldDescriptorProto.LABEL_OPTIONAL
        if field.cardinality in (MANY, MAP):
            label = FieldDescriptorProto.LABEL_REPEATED
        elif field.cardinality == REQUIRED and not proto3 and field.kind in SCALARS:
            label = FieldDescriptorProto.LABEL_REQUIRED
        part = made.field.add(name=f"f{field.number}", number=field.number, label=label, **_typed(field.kind))
        if field in in_oneof:
            part.oneof_index = 0
        elif field.cardinality == OPTIONAL and proto3:
            part.proto3_optional = True
            part.oneof_index = len(made.oneof_decl)
            made.oneof_decl.add(name=f"_f{field.number}")
        if field.cardinality == MAP:
            entry = made.nested_type.add(name=f"F{field.number}Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL, type=SCALARS[field.key])
            entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL, **_typed(field.kind))
            part.type, part.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".p.{made.name}.{entry.name}"


def _typed(kind: str) -> dict[str, Any]:
    if kind in SCALARS:
        return {"type": SCALARS[kind]}
    if kind == "enum":
        return {"type": FieldDescriptorProto.TYPE_ENUM, "type_name": ".p.E"}
    return {"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": f".p.{kind}"}


def some_field(number: int) -> st.SearchStrategy[Field]:
    kinds = st.sampled_from([*SCALARS, "enum", "A", "B"])
    cardinalities = st.sampled_from([ONE, ONE, OPTIONAL, REQUIRED, MANY, MAP])
    return st.builds(Field, st.just(number), kinds, cardinalities, st.booleans(), st.sampled_from(KEYS))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    numbers = st.sets(st.integers(1, 3), min_size=1)
    parts = [tuple(draw(some_field(number)) for number in sorted(draw(numbers))) for _ in "AB"]
    proto3 = draw(st.booleans())
    values = draw(st.sets(st.sampled_from(ENUM_VALUES), min_size=1))
    return Schema(proto3, tuple(draw(st.permutations(sorted(values)))), (parts[0], parts[1]))


NEAR_KINDS = (
    ("int32", "int64", "uint32", "uint64", "bool", "enum", "sint32"),
    ("sint32", "sint64", "int32"),
    ("fixed32", "sfixed32", "float"),
    ("fixed64", "sfixed64", "double"),
    ("string", "bytes", "A", "B"),
)


@st.composite
def changed(draw: st.DrawFn, schema: Schema) -> Schema:
    """The schema with one thing changed, so that no other change stands before what that one does."""
    other = draw(schemas())
    part = draw(st.sampled_from([0, 0, 1]))
    fields_ = list(schema.messages[part])
    index = draw(st.integers(0, len(fields_) - 1))
    field = fields_[index]
    match draw(st.sampled_from(["kind", "kind", "cardinality", "oneof", "removed", "enum", "syntax"])):
        case "kind":
            near = [kind for family in NEAR_KINDS if field.kind in family for kind in family]
            fields_[index] = replace(field, kind=draw(st.sampled_from(near or list(SCALARS))))
        case "cardinality":
            fields_[index] = replace(field, cardinality=draw(st.sampled_from([ONE, OPTIONAL, REQUIRED, MANY, MAP])))
        case "oneof":
            fields_ = [replace(field, in_oneof=draw(st.booleans())) for field in fields_]
        case "removed":
            del fields_[index]
        case "enum":
            return replace(schema, values=other.values)
        case "syntax":
            return replace(schema, proto3=not schema.proto3)
    messages = list(schema.messages)
    messages[part] = tuple(fields_)
    return replace(schema, messages=(messages[0], messages[1]))


def integers(least: int, most: int) -> st.SearchStrategy[int]:
    """Small ones, and those at the ends."""
    return st.sampled_from([*range(max(least, -2), 3), least, most])


FLOATS = st.floats(width=32, allow_nan=False)
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: integers(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: integers(0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: integers(0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_FLOAT: FLOATS,
    FieldDescriptor.CPPTYPE_DOUBLE: FLOATS,
}


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from(sorted(field.enum_type.values_by_number))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.sampled_from([b"", b"a", b"\x08\x01", b"\xff"])
    return st.text(max_size=4) if field.type == FieldDescriptor.TYPE_STRING else VALUES[field.cpp_type]


@st.composite
def values(draw: st.DrawFn, descriptor: Descriptor, depth: int = 3) -> Message:
    """A message with some of its fields set, and all that are required."""
    made: Message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not (field.is_required or draw(st.integers(0, 3))) or (field.message_type is not None and depth == 0):
            continue
        count = draw(st.integers(0, 2)) if field.is_repeated else 1
        for _ in range(count):
            _set(draw, made, field, depth)
    return made


def _set(draw: st.DrawFn, made: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        chosen, mapped = draw(scalars(key)), getattr(made, field.name)
        if value.message_type is None:
            mapped[chosen] = draw(scalars(value))
        else:
            mapped[chosen].CopyFrom(draw(values(value.message_type, depth - 1)))
    elif field.message_type is not None:
        drawn = draw(values(field.message_type, depth - 1))
        if field.is_repeated:
            getattr(made, field.name).append(drawn)
        else:
            getattr(made, field.name).CopyFrom(drawn)
            getattr(made, field.name).SetInParent()
    elif field.is_repeated:
        getattr(made, field.name).append(draw(scalars(field)))
    else:
        setattr(made, field.name, draw(scalars(field)))


def losses(written: Message, read: Message, *, all_that_is_written: bool) -> Iterator[str]:
    """What the reader has not got, or got otherwise; with or without the fields that it does not know."""
    if not read.IsInitialized():
        yield "a required field is missing"
    known = read.DESCRIPTOR.fields_by_number
    unknown: Iterable[Any] = UnknownFieldSet(read)  # type: ignore[assignment]  # the stub forgets __iter__
    if any(all_that_is_written or field.field_number in known for field in unknown):
        yield "a field became unknown"
    for field in written.DESCRIPTOR.fields:
        counterpart = known.get(field.number)
        if counterpart is not None:
            yield from _field_losses(written, field, read, counterpart, all_that_is_written)


def _field_losses(  # Any: the stubs have two classes of FieldDescriptor
    written: Message, field: Any, read: Message, counterpart: Any, all_that_is_written: bool
) -> Iterator[str]:
    sent = _elements(written, field)
    got = _elements(read, counterpart)
    if not sent and field.has_presence:
        return  # nothing was written
    if not field.is_repeated and not any(sent) and not counterpart.is_repeated:
        if any(got):
            yield f"{field.name}: zero became {got}"
        return  # zero and unset are one value
    if field.message_type is None and not field.has_presence and not field.is_repeated and not any(sent):
        return  # zero is not written; a list of none
    if len(sent) != len(got):
        yield f"{field.name}: {len(sent)} became {len(got)}"
    for one, other in zip(sent, got, strict=False):
        yield from _element_losses(field.name, one, other, all_that_is_written)


def _elements(made: Message, field: Any) -> list[Any]:
    """A field's elements; the entries of a map as pairs, in the order of their keys."""
    value = getattr(made, field.name)
    if not field.is_repeated:
        return [value] if not field.has_presence or made.HasField(field.name) else []
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return sorted(value.items(), key=lambda item: item[0])
    return list(value)


def _element_losses(name: str, one: Any, other: Any, all_that_is_written: bool) -> Iterator[str]:
    if isinstance(one, tuple) or isinstance(other, tuple):
        assume(isinstance(one, tuple) and isinstance(other, tuple))  # maps against lists have tests of their own
        for part, counterpart in zip(one, other, strict=True):
            yield from _element_losses(name, part, counterpart, all_that_is_written)
    elif isinstance(one, Message) and isinstance(other, Message):
        yield from losses(one, other, all_that_is_written=all_that_is_written)
    elif isinstance(one, Message) and isinstance(other, bytes):
        if type(one).FromString(other) != one:
            yield f"{name}: another message"
    elif (one.encode() if isinstance(one, str) and isinstance(other, bytes) else one) != other:
        yield f"{name}: {one!r} became {other!r}"


def lost(data: st.DataObject, written_as: Descriptor, read_as: Descriptor, *, all_that_is_written: bool) -> list[str]:
    """What some values lose between two types."""
    found: list[str] = []
    for _ in range(4):
        written = data.draw(values(written_as))
        try:
            read = message_factory.GetMessageClass(read_as).FromString(written.SerializeToString())
        except DecodeError as error:
            found.append(f"it cannot be read: {error}")
        else:
            found += losses(written, read, all_that_is_written=all_that_is_written)
    return found


@given(data=st.data(), before=schemas())
@drawing(150)
def test_g11_no_recorded_value_loses_anything_to_a_reader_that_is_called_compatible(
    data: st.DataObject, before: Schema
) -> None:
    old, new = before.descriptor(), data.draw(changed(before)).descriptor()
    if not incompatible_reader(old, new):
        assert lost(data, old, new, all_that_is_written=True) == []


@given(data=st.data(), before=schemas())
@drawing(150)
def test_g11_no_reader_of_before_misses_anything_of_a_writer_that_is_called_compatible(
    data: st.DataObject, before: Schema
) -> None:
    old, new = before.descriptor(), data.draw(changed(before)).descriptor()
    if not incompatible_writer(old, new):
        assert {field.number for field in old.fields} <= {field.number for field in new.fields}
        assert lost(data, new, old, all_that_is_written=False) == []


@given(schema=schemas())
@drawing(50)
def test_a_type_fits_itself(schema: Schema) -> None:
    assert incompatible_reader(schema.descriptor(), schema.descriptor()) == []
    assert incompatible_writer(schema.descriptor(), schema.descriptor()) == []


ANOTHER_KIND = {"string": "int64", "bytes": "int64", "float": "int64", "double": "int64"}


@given(data=st.data(), schema=schemas())
@drawing(100)
def test_a_field_that_is_gone_or_reads_otherwise_is_named(data: st.DataObject, schema: Schema) -> None:
    """Mutants of which each loses data: the report has the very field's path."""
    victim = data.draw(st.sampled_from(schema.messages[0]))
    others = tuple(field for field in schema.messages[0] if field != victim)
    reads_otherwise = replace(victim, kind=ANOTHER_KIND.get(victim.kind, "double"))
    mutated = data.draw(st.sampled_from([others, (*others, reads_otherwise)]))
    mutant = replace(schema, messages=(mutated, schema.messages[1])).descriptor()
    for find in (incompatible_reader, incompatible_writer):
        paths = [problem.partition(":")[0] for problem in find(schema.descriptor(), mutant)]
        assert any(path in (f"A.f{victim.number}", f"A.f{victim.number}.value") for path in paths)
