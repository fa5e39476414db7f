"""Descriptors in any order, payloads in and out, and what several participants ship brought together."""

import itertools

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from coordinator.core.descriptors import InvalidDescriptorsError, complete
from coordinator.dataflow.types import (
    DescriptorsClashError,
    PayloadError,
    Types,
    UnknownTypeError,
    encode,
    needed_files,
    type_name,
)
from tests.coordinator.dataflow.shop import FILES, MONEY, compile_protos, packed, types


def test_files_may_come_in_any_order() -> None:
    shop = compile_protos({"common/v1/money.proto": MONEY, **{k: FILES[k] for k in ("payment/v1/payment.proto",)}})
    for order in itertools.permutations(shop.file):
        assert Types(FileDescriptorSet(file=order)).knows("payment.v1.ChargeRequest")


def test_missing_imports_are_all_named() -> None:
    lone = FileDescriptorSet(
        file=[f for f in compile_protos(FILES).file if f.name.startswith(("inventory", "payment"))]
    )
    with pytest.raises(InvalidDescriptorsError) as caught:
        Types(lone)
    assert "shop/v1/order.proto" in str(caught.value)
    assert "common/v1/money.proto" in str(caught.value)


def test_well_known_types_are_filled_in() -> None:
    bare = FileDescriptorSet(file=[f for f in compile_protos(FILES).file if not f.name.startswith("google/")])
    assert Types(bare).knows("google.protobuf.Timestamp")
    assert not Types(bare).knows("google.protobuf.Empty"), "only what is imported"


def test_a_well_known_file_that_is_shipped_is_kept_as_it_is() -> None:
    shipped = compile_protos(FILES)
    assert complete(shipped) == shipped


def test_unknown_types_are_named() -> None:
    with pytest.raises(UnknownTypeError, match=r"shop\.v1\.Nothing"):
        types().descriptor("shop.v1.Nothing")


def test_names_are_those_of_messages_and_enums_outside_of_messages() -> None:
    names = set(types().names())
    assert {"shop.v1.Order", "shop.v1.Priority", "common.v1.Money"} <= names
    assert "shop.v1.Order.Address" not in names


def test_a_payload_is_decoded_by_the_end_of_its_url() -> None:
    order = packed("shop.v1.Order", '{"orderId": "o-1"}')
    order.type_url = "example.org/some/path/shop.v1.Order"
    decoded = types().decode(order, "shop.v1.Order")
    assert decoded.DESCRIPTOR.full_name == "shop.v1.Order"
    assert encode(decoded) == packed("shop.v1.Order", '{"orderId": "o-1"}')


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (Any(), "no type URL"),
        (Any(type_url="shop.v1.Order"), "is no type URL"),
        (Any(type_url="type.googleapis.com/"), "is no type URL"),
        (Any(type_url="type.googleapis.com/shop.v1.Line"), "is a `shop.v1.Line`, not a `shop.v1.Order`"),
        (Any(type_url="type.googleapis.com/shop.v1.Order", value=b"\xff"), "1 bytes do not decode as `shop.v1.Order`"),
        (Any(type_url="type.googleapis.com/shop.v1.Order", value=b"\x0a\x02\xff\xfe"), "do not decode"),
    ],
)
def test_a_payload_that_is_not_what_is_wanted_is_refused(payload: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        types().decode(payload, "shop.v1.Order")


def test_a_payload_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"`other\.Thing` is not described"):
        types().decode(Any(type_url="type.googleapis.com/other.Thing"))


def test_missing_required_fields_are_refused() -> None:
    old = compile_protos({"old.proto": 'syntax = "proto2"; package old; message M { required string a = 1; }'})
    with pytest.raises(PayloadError, match="required"):
        Types(old).decode(Any(type_url="x/old.M"))


def test_type_name_wants_a_url() -> None:
    assert type_name(Any(type_url="a/b/c.D")) == "c.D"


def test_canonical_bytes_do_not_depend_on_order_or_prefix() -> None:
    """G10: requests are compared decoded."""
    first, second = b"\x0a\x03o-1", b"\x10\x05"
    entry_a, entry_b = b"\x2a\x05\x0a\x01a\x10\x01", b"\x2a\x05\x0a\x01b\x10\x02"
    one = Any(type_url="type.googleapis.com/shop.v1.Order", value=first + second + entry_a + entry_b)
    other = Any(type_url="example.org/shop.v1.Order", value=entry_b + second + entry_a + first)
    assert types().canonical(one) == types().canonical(other)
    different = Any(type_url="type.googleapis.com/shop.v1.Order", value=first + second + entry_a)
    assert types().canonical(one) != types().canonical(different)


def test_canonical_bytes_reach_into_packed_messages() -> None:
    """G10."""

    def order(prefix: str, line: bytes) -> Any:
        message = types().decode(packed("shop.v1.Order"))
        for target in (message.attachment, message.attachments.add()):  # type: ignore[attr-defined]  # a dynamic message
            target.type_url, target.value = f"{prefix}/shop.v1.Line", line
        return encode(message)

    sku, quantity = b"\x0a\x01x", b"\x10\x07"
    assert types().canonical(order("a", sku + quantity)) == types().canonical(order("b/c", quantity + sku))
    assert types().canonical(order("a", sku + quantity)) != types().canonical(order("a", sku))


def test_canonical_bytes_of_an_unknown_packed_message_are_its_own() -> None:
    message = types().decode(packed("shop.v1.Order"))
    message.attachment.type_url = "x/other.Thing"  # type: ignore[attr-defined]  # a dynamic message
    message.attachment.value = b"\x01"  # type: ignore[attr-defined]  # a dynamic message
    assert b"other.Thing" in types().canonical(encode(message))


def test_canonical_bytes_of_messages_packed_in_each_other_without_end() -> None:
    """G14: what is nested deeper than anybody would is compared as bytes."""
    payload = packed("shop.v1.Order")
    for _ in range(5000):
        outer = types().decode(packed("shop.v1.Order"))
        outer.attachment.type_url = payload.type_url  # type: ignore[attr-defined]  # a dynamic message
        outer.attachment.value = payload.value  # type: ignore[attr-defined]  # a dynamic message
        payload = encode(outer)
    assert types().canonical(payload) == types().canonical(payload)
    with pytest.raises(PayloadError, match="JSON"):
        types().to_json(types().decode(payload))


def test_json_resolves_packed_messages_with_this_pool() -> None:
    text = '{"orderId": "o-1", "attachment": {"@type": "type.googleapis.com/shop.v1.Line", "sku": "s"}}'
    message = types().from_json(text, "shop.v1.Order")
    assert types().from_json(types().to_json(message), "shop.v1.Order") == message
    assert '"@type": "type.googleapis.com/shop.v1.Order"' in types().to_json(encode(message))


@pytest.mark.parametrize(
    "text", ["{", '{"nope": 1}', '{"amount": "x"}', '{"priority": "NOPE"}', "[]", '{"lines":' * 5000]
)
def test_json_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match=r"not a `shop\.v1\.Order`"):
        types().from_json(text, "shop.v1.Order")


def test_json_of_well_known_types_is_their_own() -> None:
    assert types().from_json('"2026-01-02T03:04:05Z"', "google.protobuf.Timestamp").ByteSize()


def test_json_of_an_unknown_packed_message_is_refused() -> None:
    with pytest.raises(PayloadError, match="not writable as JSON"):
        types().to_json(Any(type_url="x/other.Thing", value=b"1"))


def test_only_the_files_that_are_needed_are_taken() -> None:
    everything = Types(compile_protos(FILES))
    needed = needed_files({"a": everything}, {"a": {"payment.v1.Receipt"}})
    assert [file.name for file in needed.file] == [
        "common/v1/money.proto",
        "google/protobuf/timestamp.proto",
        "payment/v1/payment.proto",
    ]


def test_the_same_needs_give_the_same_bytes_whatever_else_is_shipped() -> None:
    """G11: the digest of a version must not depend on what it does not use."""
    much, little = compile_protos(FILES), compile_protos(FILES, "payment/v1/payment.proto")
    little.file.sort(key=lambda file: file.name, reverse=True)
    wanted = {"payment": {"payment.v1.ChargeRequest"}}
    results = {needed_files({"payment": Types(files)}, wanted).SerializeToString() for files in (much, little)}
    assert len(results) == 1


def test_an_owner_that_lacks_what_is_wanted() -> None:
    with pytest.raises(UnknownTypeError):
        needed_files({"a": types()}, {"a": {"nope.Nope"}})


def _owner(**files: str) -> Types:
    headed = {f"{name}.proto": f'syntax = "proto3"; package {name}; {text}' for name, text in files.items()}
    return Types(compile_protos(headed))


def test_files_of_one_name_with_different_messages_live_side_by_side() -> None:
    one = Types(compile_protos({"types.proto": 'syntax = "proto3"; package a; message A { string x = 1; }'}))
    two = Types(compile_protos({"types.proto": 'syntax = "proto3"; package b; message B { int32 y = 1; }'}))
    merged = Types(needed_files({"one": one, "two": two}, {"one": {"a.A"}, "two": {"b.B"}}))
    assert merged.knows("a.A")
    assert merged.knows("b.B")
    assert {file.name for file in merged.descriptors.file} == {"types.proto", "two/types.proto"}


def test_imports_follow_a_file_that_was_renamed() -> None:
    common = 'syntax = "proto3"; package {0}; message Id {{ {1} value = 1; }}'
    user = 'syntax = "proto3"; package {0}; import "common.proto"; message Use {{ {0}.Id id = 1; }}'
    owners = {
        name: Types(compile_protos({"common.proto": common.format(name, kind), f"{name}.proto": user.format(name)}))
        for name, kind in (("one", "string"), ("two", "int32"))
    }
    merged = Types(needed_files(owners, {"one": {"one.Use"}, "two": {"two.Use"}}))
    found = merged.descriptor("two.Use").fields_by_name["id"].message_type
    assert found is not None
    assert found.file.name == "two/common.proto"


def test_a_message_with_two_meanings_names_both_participants() -> None:
    one, two = _owner(common="message Money { int64 units = 1; }"), _owner(common="message Money { string units = 1; }")
    with pytest.raises(DescriptorsClashError, match=r"common\.Money of participant two .* participant one"):
        needed_files({"one": one, "two": two}, {"one": {"common.Money"}, "two": {"common.Money"}})


def test_a_message_with_two_meanings_that_nobody_needs_is_no_clash() -> None:
    one = _owner(common="message Money { int64 units = 1; }", one="message A {}")
    two = _owner(common="message Money { string units = 1; }", two="message B {}")
    assert needed_files({"one": one, "two": two}, {"one": {"one.A"}, "two": {"two.B"}}).file


def test_json_of_a_packed_message_that_does_not_decode_is_refused() -> None:
    message = types().decode(packed("shop.v1.Order"))
    message.attachment.type_url = "type.googleapis.com/shop.v1.Line"  # type: ignore[attr-defined]  # a dynamic message
    message.attachment.value = b"\xff"  # type: ignore[attr-defined]
    with pytest.raises(PayloadError, match="JSON"):
        types().to_json(message)
