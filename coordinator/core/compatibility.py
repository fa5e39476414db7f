"""Whether values outlive a change of their message type.

A saga's inputs and outputs are recorded with the types of its definition's version (G11); a participant that comes back
may have others. Protobuf then decodes what it can and drops the rest without a word, so the types are compared before
that happens. The rules are those of protobuf's "Updating A Message Type" in their strict reading: an exchange of types
that keeps most values but not all (int64 read as int32) is reported too.

Not compared, each for a reason:
- names of messages and fields: the wire has numbers, and expressions read by the names that are pinned;
- extensions: no expression of a definition can set or read one;
- Google's well-known types of one name: copies of them only ever grow; and what an `Any` holds names its own type;
- what a field that is not set means: no value of it was written.

This module must not do I/O, and must not know definitions or participants.
"""

from collections import deque
from collections.abc import Collection
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from coordinator.core import limits

_GOOGLE: Final = "google.protobuf."
_NOT_THERE: Final = "not there"
_NAMED_MAX: Final = 5  # of the values of an enum

_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_INT64: Final = (-(1 << 63), (1 << 63) - 1)
_UINT32: Final = (0, (1 << 32) - 1)
_UINT64: Final = (0, (1 << 64) - 1)

_F: Final = FieldDescriptor

_FAMILIES: Final = (  # types of one encoding, with the values that each can hold
    {
        _F.TYPE_BOOL: (0, 1),
        _F.TYPE_INT32: _INT32,
        _F.TYPE_INT64: _INT64,
        _F.TYPE_UINT32: _UINT32,
        _F.TYPE_UINT64: _UINT64,
        _F.TYPE_ENUM: _INT32,
    },
    {_F.TYPE_SINT32: _INT32, _F.TYPE_SINT64: _INT64},
    {_F.TYPE_FIXED32: _UINT32, _F.TYPE_SFIXED32: _INT32},
    {_F.TYPE_FIXED64: _UINT64, _F.TYPE_SFIXED64: _INT64},
)

_SCALAR_NAMES: Final = {
    _F.TYPE_BOOL: "bool",
    _F.TYPE_BYTES: "bytes",
    _F.TYPE_DOUBLE: "double",
    _F.TYPE_FIXED32: "fixed32",
    _F.TYPE_FIXED64: "fixed64",
    _F.TYPE_FLOAT: "float",
    _F.TYPE_INT32: "int32",
    _F.TYPE_INT64: "int64",
    _F.TYPE_SFIXED32: "sfixed32",
    _F.TYPE_SFIXED64: "sfixed64",
    _F.TYPE_SINT32: "sint32",
    _F.TYPE_SINT64: "sint64",
    _F.TYPE_STRING: "string",
    _F.TYPE_UINT32: "uint32",
    _F.TYPE_UINT64: "uint64",
}


def incompatible_reader(before: Descriptor, now: Descriptor) -> list[str]:
    """What is lost, or changed, of values that were written as `before` where they are read as `now`.

    Each in a sentence that begins with the field's path: `ChargeRequest.amount_cents: int64 before, string now`. Empty
    where every value reads the same. Fields that only `now` has are no loss, unless they are required.
    """
    return _Comparison(before, now, now_reads=True).problems


def incompatible_writer(before: Descriptor, now: Descriptor) -> list[str]:
    """What a reader that knows `before` misses, or misreads, in values that are written as `now`.

    Sentences as of `incompatible_reader`. Fields that only `now` has are no loss: nobody asks for them.
    """
    return _Comparison(before, now, now_reads=False).problems


class _Comparison:
    """Two messages and all that they hold, the nearest first. Each pair of messages is compared once."""

    def __init__(self, before: Descriptor, now: Descriptor, *, now_reads: bool) -> None:
        self.problems: list[str] = []
        self._now_reads = now_reads
        self._seen: set[tuple[str, str]] = set()
        self._waiting: deque[tuple[str, Descriptor, Descriptor]] = deque()
        self._expect(before.name, before, now)
        while self._waiting:
            path, before, now = self._waiting.popleft()
            if len(self._seen) > limits.COMPARED_MESSAGES_MAX:
                self.problems.append(f"{path}: the types are too large to be compared from here on")
                return
            self._compare(path, before, now)

    def _expect(self, path: str, before: Descriptor, now: Descriptor) -> None:
        """Have two messages compared, unless they have been elsewhere or are one well-known type."""
        pair = (before.full_name, now.full_name)
        well_known = before.full_name == now.full_name and before.full_name.startswith(_GOOGLE)
        if pair not in self._seen and not well_known:
            self._seen.add(pair)
            self._waiting.append((path, before, now))

    def _compare(self, path: str, before: Descriptor, now: Descriptor) -> None:
        for field in before.fields:
            counterpart = now.fields_by_number.get(field.number)
            if counterpart is None:
                self._report(f"{path}.{field.name}", _type(field), _NOT_THERE)
            else:
                self._compare_fields(f"{path}.{field.name}", field, counterpart)
        self._compare_required(path, before, now)
        self._compare_oneofs(path, before, now)

    def _compare_fields(self, path: str, before: FieldDescriptor, now: FieldDescriptor) -> None:
        written, read = (before, now) if self._now_reads else (now, before)
        loss = _type_loss(written, read)
        if loss is None and read.enum_type is not None:
            loss = self._enum_loss(written, read.enum_type)
        if loss is None:
            loss = _cardinality_loss(written, read)
        if loss is not None:
            self._report(path, _type(before), _type(now), loss)
        elif before.message_type is not None and now.message_type is not None:
            self._expect(path, before.message_type, now.message_type)

    def _enum_loss(self, written: FieldDescriptor, read: EnumDescriptor) -> str | None:
        """A closed enum drops a number that it does not name; an open one keeps it, but who reads it is at a loss."""
        known = read.values_by_number
        if written.enum_type is None:
            named = written.type == _F.TYPE_BOOL and 0 in known and 1 in known
            return "numbers that the enum does not name are dropped" if read.is_closed and not named else None
        unknown = [value for number, value in written.enum_type.values_by_number.items() if number not in known]
        if not unknown or not (self._now_reads or read.is_closed):
            return None
        names = _listed([f"{value.name} = {value.number}" for value in unknown])
        return f"{names} is not known" if len(unknown) == 1 else f"{names} are not known"

    def _compare_required(self, path: str, before: Descriptor, now: Descriptor) -> None:
        """A message without a field that its reader requires cannot be read at all."""
        written, read = (before, now) if self._now_reads else (now, before)
        for field in read.fields:
            counterpart = written.fields_by_number.get(field.number)
            if not field.is_required or (counterpart is not None and counterpart.is_required):
                continue
            if counterpart is not None:
                texts = ("optional", "required") if self._now_reads else ("required", "optional")
                self._report(f"{path}.{field.name}", *texts)
            elif self._now_reads:  # otherwise it has been reported as not there
                self._report(f"{path}.{field.name}", _NOT_THERE, "required")

    def _compare_oneofs(self, path: str, before: Descriptor, now: Descriptor) -> None:
        """Of fields that could be set together, one oneof keeps only the last."""
        written, read = (before, now) if self._now_reads else (now, before)
        for oneof in read.oneofs:
            members = [written.fields_by_number.get(field.number) for field in oneof.fields]
            groups: dict[str, list[int]] = {}
            for member in members:
                if member is not None:
                    group = member.containing_oneof.full_name if member.containing_oneof else member.full_name
                    groups.setdefault(group, []).append(member.number)
            if len(groups) > 1:
                names = _listed([before.fields_by_number[number].name for group in groups.values() for number in group])
                texts = ("can be set together", "only one of them")
                self._report(f"{path}.({names})", *(texts if self._now_reads else reversed(texts)))

    def _report(self, path: str, before: str, now: str, loss: str = "") -> None:
        if before == now:
            self.problems.append(f"{path}: {loss} now" if self._now_reads else f"{path}: {loss} to who reads it")
        else:
            self.problems.append(f"{path}: {before} before, {now} now" + (f" ({loss})" if loss else ""))


def _type_loss(written: FieldDescriptor, read: FieldDescriptor) -> str | None:
    """What the types alone lose; the empty text where there is nothing more to say than that they differ."""
    if written.type == read.type:
        return _message_loss(written, read)
    if read.type == _F.TYPE_BYTES and written.type in (_F.TYPE_STRING, _F.TYPE_MESSAGE):
        return None
    if written.type == _F.TYPE_BYTES and read.type == _F.TYPE_STRING:
        return "only UTF-8 can be read"
    if written.type == _F.TYPE_BYTES and read.type == _F.TYPE_MESSAGE:
        return "only an encoded message can be read"
    for family in _FAMILIES:
        if written.type in family and read.type in family:
            low, high = _values(written, family[written.type])
            least, most = family[read.type]
            return None if least <= low and high <= most else "what does not fit becomes another value"
    return ""


def _message_loss(written: FieldDescriptor, read: FieldDescriptor) -> str | None:
    """A well-known type is what its name says, whatever fields it has: a Timestamp is no Duration."""
    if written.message_type is None or read.message_type is None:
        return None
    names = {written.message_type.full_name, read.message_type.full_name}
    return "" if len(names) > 1 and all(name.startswith(_GOOGLE) for name in names) else None


def _values(field: FieldDescriptor, of_type: tuple[int, int]) -> tuple[int, int]:
    """The least and the greatest value that a field is written with."""
    if field.enum_type is None:
        return of_type
    return min(field.enum_type.values_by_number), max(field.enum_type.values_by_number)


def _cardinality_loss(written: FieldDescriptor, read: FieldDescriptor) -> str | None:
    if written.is_repeated and not read.is_repeated:
        return "only the last element can be read"
    if written.is_repeated and _map_entry(read) and not _map_entry(written):
        return "of entries with one key only the last is kept"
    if not written.has_presence and not written.is_repeated and not read.is_repeated and read.default_value:
        return f"zero is not written, and then read as {read.default_value!r}"
    return None


def _map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of a map's entries; None where the field is no map."""
    message = field.message_type
    return message if message is not None and message.GetOptions().map_entry else None


def _type(field: FieldDescriptor) -> str:
    """As a `.proto` file would say it, with full names."""
    if entry := _map_entry(field):
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        return f"map<{_element_type(key)}, {_element_type(value)}>"
    return f"repeated {_element_type(field)}" if field.is_repeated else _element_type(field)


def _element_type(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"enum {field.enum_type.full_name}"
    if field.message_type is not None:
        return f"group {field.message_type.full_name}" if field.type == _F.TYPE_GROUP else field.message_type.full_name
    return _SCALAR_NAMES[field.type]


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:_NAMED_MAX]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
