"""What a hostile client writes: messages of any type field by field, and bytes that are no message any more.

Plausible values let a message pass the first checks; one hostile value then reaches what stands behind them. This
module must not know what any service does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.tape import Tape

CANARY: Final = "cAnArY-5f2e"
"""Stands in whatever is a client's or a participant's own business: no log line may have it."""

Plausible = Mapping[str, Sequence[Any]]
"""Values that are right somewhere, by the name of the field."""

_DEPTH_MAX: Final = 6
_NESTED_ANYS: Final = 64
_INT_LIMITS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}
# What a log may name: whoever chooses it knows that operators see it.
_NAMES: Final = frozenset(
    ("saga_id", "saga_uid", "definition", "name", "step", "action", "participant", "reason", "service", "version")
)


def _texts(canary: str) -> Sequence[str]:
    return (
        "",
        canary,
        " ",
        "a" * 129,
        "x\x00y",
        "\x1b[2J\x07\r\n2026-01-01T00:00:00.000Z INFO forged",
        "\u202egnirts\u2066\ufeff",
        "\U0001f4a9" * 40,
        "'; DROP TABLE sagas; --",
        "../../../etc/passwd",
        "%s%n{0}{__class__}",
        "/".join(["s"] * 200),
        canary * 700,
        "a/" * 9 + "b",
        "\u0301" * 2000,
        canary + "\n" * 100,
        "й" * 600_000,
    )


_TEXTS: Final = _texts(CANARY)
_NAMED: Final = _texts("a")


def text(tape: Tape, field: str = "") -> str:
    """A text that somebody did not expect."""
    return tape.pick(_NAMED if field in _NAMES else _TEXTS)


def number(tape: Tape, kind: int) -> int:
    low, high = _INT_LIMITS[kind]
    return max(low, min(high, tape.pick((0, 1, high, low, high - 1, 2, 99, 1001, -1, 253_402_300_800))))


def fraction(tape: Tape) -> float:
    return tape.pick((0.0, 1.0, float("nan"), float("inf"), -float("inf"), -1.0, 5e-324, 1.7e308, 11.0))


def packed(tape: Tape, plausible: Plausible) -> AnyMessage:
    """An Any that is wrong in some way."""
    right: AnyMessage = tape.pick(plausible["input"])
    url, value = right.type_url, right.value
    match tape.below(10):
        case 0:
            return nested(right, _NESTED_ANYS)
        case 1:
            return AnyMessage()
        case 2:
            return AnyMessage(type_url=url, value=b"\xff\xff" + CANARY.encode())
        case 3:
            return AnyMessage(type_url="type.googleapis.com/google.protobuf.Struct", value=CANARY.encode())
        case 4:
            return AnyMessage(type_url="type.googleapis.com/no.such.Type", value=CANARY.encode())
        case 5:
            return AnyMessage(type_url=text(tape), value=value)
        case 6:
            return AnyMessage(type_url=url.rpartition("/")[2], value=value)
        case 7:
            return AnyMessage(type_url=url, value=value + deep(tape.pick((10, 5000))))
        case 8:
            return AnyMessage(type_url=url, value=value + _length_delimited(2, CANARY.encode() * 200_000))
        case _:
            return AnyMessage(
                type_url=url, value=value + _length_delimited(1, b"\xed\xa0\x80")
            )  # half a surrogate pair


def nested(payload: AnyMessage, levels: int) -> AnyMessage:
    """An Any in an Any, so many times."""
    for _ in range(levels):
        outer = AnyMessage()
        outer.Pack(payload)
        payload = outer
    return payload


def message(tape: Tape, descriptor: Descriptor, plausible: Plausible, depth: int = 0) -> Message:
    """A message of the type, its fields absent, plausible or hostile as the tape says."""
    built = GetMessageClass(descriptor)()
    taken: set[str] = set()
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if tape.once_in(4) or (oneof is not None and oneof.name in taken):
            continue
        if oneof is not None and len(oneof.fields) > 1 and tape.once_in(2):
            continue
        _set(tape, built, field, plausible, depth, spoil=tape.once_in(8))
        if oneof is not None:
            taken.add(oneof.name)
    return built


def spoiled(tape: Tape, template: Message, plausible: Plausible) -> Message:
    """A copy of the template in which one thing is hostile, however deep it stands."""
    copy = type(template)()
    copy.CopyFrom(template)
    _spoil(tape, copy, plausible)
    return copy


def _spoil(tape: Tape, message_: Message, plausible: Plausible) -> None:
    fields: Sequence[Any] = message_.DESCRIPTOR.fields
    if not fields:
        return
    field = tape.pick(fields)
    inner = _some_message_in(tape, message_, field)
    if inner is not None and tape.below(4):
        _spoil(tape, inner, plausible)
    else:
        _set(tape, message_, field, plausible, _DEPTH_MAX - 1, spoil=True)


def _some_message_in(tape: Tape, message_: Message, field: FieldDescriptor) -> Message | None:
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return None
    if not field.is_repeated:
        return getattr(message_, field.name) if message_.HasField(field.name) else None
    values = getattr(message_, field.name)
    return tape.pick(values) if len(values) else None


def _set(tape: Tape, into: Message, field: FieldDescriptor, plausible: Plausible, depth: int, *, spoil: bool) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(tape, getattr(into, field.name), field.message_type, plausible, spoil=spoil)
        return
    count = tape.pick((1, 0, 2, 3, 1200 if field.message_type is None else 40)) if spoil else 1
    slot: Any = getattr(into, field.name)
    for _ in range(count if field.is_repeated else 1):
        if field.message_type is None:
            value = _scalar(tape, field, plausible, spoil=spoil)
            slot.append(value) if field.is_repeated else setattr(into, field.name, value)
            continue
        inner = slot.add() if field.is_repeated else slot
        inner.SetInParent()
        inner.CopyFrom(_inner(tape, field, plausible, depth, spoil=spoil))


def _inner(tape: Tape, field: FieldDescriptor, plausible: Plausible, depth: int, *, spoil: bool) -> Any:
    kind = field.message_type
    assert kind is not None
    if not spoil and (fitting := _fitting(plausible, field)):
        return tape.pick(fitting)
    if kind.full_name == AnyMessage.DESCRIPTOR.full_name:
        return packed(tape, plausible) if spoil else tape.pick(plausible["input"])
    if depth >= _DEPTH_MAX:
        return GetMessageClass(kind)()
    return message(tape, kind, plausible, depth + 1)


def _fitting(plausible: Plausible, field: FieldDescriptor) -> Sequence[Any]:
    """The plausible values of that name which are of the field's type."""
    kind = field.message_type.full_name if field.message_type is not None else ""
    return [
        value
        for value in plausible.get(field.name, ())
        if (value.DESCRIPTOR.full_name if isinstance(value, Message) else "") == kind
    ]


def _scalar(tape: Tape, field: FieldDescriptor, plausible: Plausible, *, spoil: bool) -> Any:
    if not spoil and (fitting := _fitting(plausible, field)):
        return tape.pick(fitting)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return tape.pick((b"", CANARY.encode(), tape.data(16), deep(2000), CANARY.encode() * 100_000))
        case FieldDescriptor.CPPTYPE_STRING:
            return text(tape, field.name)
        case FieldDescriptor.CPPTYPE_BOOL:
            return tape.once_in(2)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return fraction(tape)
        case FieldDescriptor.CPPTYPE_ENUM if not spoil or (field.enum_type and field.enum_type.is_closed):
            assert field.enum_type is not None
            return tape.pick([value.number for value in field.enum_type.values])
        case kind:
            return number(tape, kind) if spoil else tape.pick((0, 1, 2, 10))


def _fill_map(tape: Tape, slot: Any, entry: Descriptor, plausible: Plausible, *, spoil: bool) -> None:
    if not spoil:
        slot["place"] = "label"
        return
    many = tape.pick((1, 65, 3000))
    value_field = entry.fields_by_name["value"]
    for index in range(many):
        key = text(tape)[:2000] if many == 1 else f"{CANARY}{index}"
        slot[key] = _scalar(tape, value_field, plausible, spoil=many == 1)


# --- Bytes ------------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _length_delimited(number_: int, body: bytes) -> bytes:
    return varint(number_ << 3 | 2) + varint(len(body)) + body


def deep(levels: int, number_: int = 1) -> bytes:
    """A field that holds itself, so many levels deep."""
    head = bytes([number_ << 3 | 2])
    body = b""
    for _ in range(levels):
        body = head + varint(len(body)) + body
    return body


def _flipped(tape: Tape, raw: bytes) -> bytes:
    spoilt = bytearray(raw)
    for _ in range(1 + tape.below(4)):
        if spoilt:
            spoilt[tape.below(len(spoilt))] ^= 1 << tape.below(8)
    return bytes(spoilt)


_WIRE: Final[Sequence[Callable[[Tape, bytes], bytes]]] = (
    lambda _tape, raw: raw,
    _flipped,
    lambda tape, raw: raw[: tape.below(len(raw) + 1)],  # truncated
    lambda _tape, raw: raw + raw,  # every field twice
    lambda tape, raw: raw + tape.data(24),
    lambda tape, raw: raw[tape.below(len(raw) + 1) :] + raw,
    lambda tape, raw: raw + varint((1 + tape.below(12)) << 3 | tape.below(8)) + tape.data(12),  # any type of wire
    lambda _tape, raw: raw + b"\x0b" * 3000 + b"\x0c" * 3000,  # groups in groups
    lambda _tape, raw: raw + deep(20_000, 15),  # deep in a field that nobody knows
    lambda tape, raw: raw + deep(20_000, 1 + tape.below(8)),
    lambda _tape, raw: raw + b"\x0a\xff\xff\xff\xff\x07",  # a length of 2 GiB
    lambda _tape, raw: raw + _length_delimited(1, b"\xed\xa0\x80\xff"),  # no UTF-8
    lambda _tape, raw: raw + varint(14 << 3 | 2) + varint(4 << 20) + bytes(4 << 20),  # over the message limit
    lambda tape, _raw: tape.data(40),
)


def damaged(tape: Tape, raw: bytes) -> bytes:
    """The bytes as a broken or hostile client sends them; half of the time they are left alone."""
    return tape.pick(_WIRE)(tape, raw) if tape.once_in(2) else raw
