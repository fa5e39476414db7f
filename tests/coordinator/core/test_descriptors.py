from collections.abc import Iterator

import pytest
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from coordinator.core.descriptors import (
    WELL_KNOWN,
    Clash,
    InvalidDescriptorsError,
    Merged,
    build_pool,
    closure,
    complete,
    in_import_order,
    merge,
)
from tests.coordinator.core.protos import files, proto

WELL_KNOWN_NAMES = {file.name for file in WELL_KNOWN.file}


def own_files(merged: Merged) -> dict[str, FileDescriptorProto]:
    return {file.name: file for file in merged.files if file.name not in WELL_KNOWN_NAMES}


def fields_of(pool: DescriptorPool, full_name: str) -> list[str]:
    return [field.name for field in pool.FindMessageTypeByName(full_name).fields]


def assert_stands_by_itself(merged: Merged) -> None:
    """Each file comes behind its imports, and names only what it imports: stricter clients than ours check that."""
    defined: dict[str, set[str]] = {}
    for file in merged.files:
        assert all(imported in defined for imported in file.dependency), file.name
        seen = {name for imported in file.dependency for name in defined[imported]}
        defined[file.name] = {f".{file.package}.{message.name}" for message in file.message_type}
        seen |= defined[file.name]
        assert file.name in WELL_KNOWN_NAMES or set(types_named(file)) <= seen, file.name


def types_named(file: FileDescriptorProto) -> Iterator[str]:
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                yield field.type_name


def test_a_file_that_two_owners_ship_is_there_once() -> None:
    money = proto("shop/money.proto", "shop", {"Money": ["cents:int64"]})
    merged = merge({"payment": files(money), "inventory": files(money)})
    assert list(own_files(merged)) == ["shop/money.proto"]
    assert merged.clashes == ()


def test_unrelated_files_of_one_name_are_told_apart_by_their_owner() -> None:
    merged = merge(
        {
            "payment": files(proto("api.proto", "payment", {"Charge": ["card"]})),
            "inventory": files(proto("api.proto", "inventory", {"Reserve": ["sku"]})),
        }
    )
    assert set(own_files(merged)) == {"api.proto", "payment/api.proto"}
    assert fields_of(merged.pool, "payment.Charge") == ["card"]
    assert fields_of(merged.pool, "inventory.Reserve") == ["sku"]
    assert merged.clashes == ()


def test_an_import_follows_the_file_that_got_another_name() -> None:
    merged = merge(
        {
            "a": files(proto("types.proto", "a", {"T": []})),
            "b": files(
                proto("api.proto", "b", {"Call": ["t:.b.T"]}, imports=["types.proto"]),
                proto("types.proto", "b", {"T": ["x"]}),
            ),
        }
    )
    assert list(own_files(merged)["api.proto"].dependency) == ["b/types.proto"]
    assert_stands_by_itself(merged)


def test_of_two_versions_of_a_file_the_later_adds_what_is_new() -> None:
    old = proto("shop.proto", "shop", {"Money": ["cents:int64"]})
    new = proto("shop.proto", "shop", {"Money": ["cents:int64"], "Price": ["money:.shop.Money"]})
    merged = merge({"a": files(old), "b": files(new)})
    assert list(own_files(merged)["b/shop.proto"].dependency) == ["shop.proto"]
    assert [message.name for message in own_files(merged)["b/shop.proto"].message_type] == ["Price"]
    assert merged.clashes == ()
    assert_stands_by_itself(merged)


def test_what_means_something_else_is_left_out_with_all_that_imports_it() -> None:
    a = files(proto("money.proto", "shop", {"Money": ["cents:int64"]}))
    b = files(
        proto("money.proto", "shop", {"Money": ["units:int64", "nanos:int64"]}),
        proto("pay.proto", "pay", {"Charge": ["amount:.shop.Money"]}, imports=["money.proto"]),
        proto("other.proto", "pay", {"Ping": []}),
    )
    merged = merge({"a": a, "b": b})
    assert fields_of(merged.pool, "shop.Money") == ["cents"]
    assert set(own_files(merged)) == {"money.proto", "other.proto"}
    assert merged.clashes == (Clash("b", "money.proto", "shop.Money", "a"),)
    assert str(merged.clashes[0]) == "shop.Money of participant b differs from shop.Money of participant a"


def test_a_clash_with_a_shared_file_names_the_coordinator() -> None:
    shared = files(proto("saga.proto", "saga.v1", {"Saga": ["id"]}))
    merged = merge({"a": files(proto("mine.proto", "saga.v1", {"Saga": ["name"]}))}, shared)
    assert [str(clash) for clash in merged.clashes] == [
        "saga.v1.Saga of participant a differs from saga.v1.Saga of the coordinator"
    ]


def test_a_package_and_a_message_of_one_name_clash() -> None:
    a = files(proto("a.proto", "shop", {"money": []}))
    b = files(proto("b.proto", "shop.money", {"Coin": []}))
    assert [clash.symbol for clash in merge({"a": a, "b": b}).clashes] == ["shop.money"]


def test_an_enum_value_is_a_name_of_its_package() -> None:
    a, b = (FileDescriptorProto(name=f"{name}.proto", package="shop", syntax="proto3") for name in "ab")
    a.enum_type.add(name="Color").value.add(name="NONE", number=0)
    b.enum_type.add(name="Size").value.add(name="NONE", number=0)
    assert [clash.symbol for clash in merge({"a": files(a), "b": files(b)}).clashes] == ["shop.NONE"]


@pytest.mark.parametrize(
    "changed",
    [
        proto("f.proto", "p", {"M": ["x", "y:int64", "z"]}),
        proto("f.proto", "p", {"M": ["x", "renamed:int64"]}),
        proto("f.proto", "p", {"M": ["x", "y"]}),
        proto("f.proto", "p", {"M": ["x"]}),
    ],
)
def test_a_difference_in_any_field_is_a_clash(changed: FileDescriptorProto) -> None:
    original = proto("f.proto", "p", {"M": ["x", "y:int64"]})
    assert len(merge({"a": files(original), "b": files(changed)}).clashes) == 1


def test_presence_repetition_and_json_names_are_part_of_the_meaning() -> None:
    original = proto("f.proto", "p", {"M": ["long_name"]})
    for attribute, value in (("label", FieldDescriptorProto.LABEL_REPEATED), ("json_name", "other")):
        changed = FileDescriptorProto.FromString(original.SerializeToString())
        setattr(changed.message_type[0].field[0], attribute, value)
        assert len(merge({"a": files(original), "b": files(changed)}).clashes) == 1
    closed = FileDescriptorProto.FromString(original.SerializeToString())
    closed.syntax = "proto2"  # its fields know whether they are set
    assert len(merge({"a": files(original), "b": files(closed)}).clashes) == 1


def test_comments_options_and_how_json_names_are_written_make_no_difference() -> None:
    plain = proto("f.proto", "p", {"M": ["long_name"]})
    dressed = FileDescriptorProto.FromString(plain.SerializeToString())
    dressed.source_code_info.location.add(leading_comments="why")
    dressed.options.go_package = "example.com/p"
    dressed.message_type[0].options.deprecated = True
    dressed.message_type[0].field[0].json_name = "longName"
    merged = merge({"a": files(plain), "b": files(dressed)})
    assert merged.clashes == ()
    assert list(own_files(merged)) == ["f.proto"]


def test_services_and_extensions_are_compared_and_shared_like_messages() -> None:
    file = proto("f.proto", "p", {"M": []})
    file.service.add(name="S").method.add(name="Get", input_type=".p.M", output_type=".p.M")
    file.syntax = "proto2"
    file.message_type[0].extension_range.add(start=100, end=200)
    file.extension.add(
        name="extra",
        number=100,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        extendee=".p.M",
    )
    longer = FileDescriptorProto.FromString(file.SerializeToString())
    longer.message_type.add(name="N")
    merged = merge({"a": files(file), "b": files(longer)})
    added = own_files(merged)["b/f.proto"]
    assert ([m.name for m in added.message_type], len(added.service), len(added.extension)) == (["N"], 0, 0)

    streaming = FileDescriptorProto.FromString(file.SerializeToString())
    streaming.service[0].method[0].server_streaming = True
    assert [clash.symbol for clash in merge({"a": files(file), "b": files(streaming)}).clashes] == ["p.S"]


def test_extensions_that_take_one_number_cannot_stand_side_by_side() -> None:
    base = proto("base.proto", "base", {"M": []})
    base.syntax = "proto2"
    base.message_type[0].extension_range.add(start=100, end=200)

    def extending(package: str) -> FileDescriptorSet:
        file = proto(f"{package}.proto", package, {}, imports=["base.proto"])
        file.syntax = "proto2"
        file.extension.add(
            name="e",
            number=100,
            type=FieldDescriptorProto.TYPE_STRING,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
            extendee=".base.M",
        )
        return files(base, file)

    merged = merge({"a": extending("a"), "b": extending("b")})
    assert [(clash.owner, clash.file) for clash in merged.clashes] == [("b", "b.proto")]
    assert "cannot be built beside the others: duplicate extension" in str(merged.clashes[0])
    assert {"base.proto", "a.proto"} == set(own_files(merged))


@pytest.mark.parametrize("own", [{}, {"Front": []}])
def test_a_public_import_is_passed_on_to_importers(own: dict[str, list[str]]) -> None:
    a = files(
        proto("deep.proto", "a", {"Deep": []}),
        proto("front.proto", "a", own, public=["deep.proto"]),
        proto("user.proto", "a", {"User": ["deep:.a.Deep"]}, imports=["front.proto"]),
    )
    merged = merge({"a": a})
    assert merged.clashes == ()
    assert_stands_by_itself(merged)


def test_an_owners_copy_of_a_well_known_file_is_not_looked_at() -> None:
    stamp = FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    stamp.message_type[0].field.add(
        name="zone", number=9, type=FieldDescriptorProto.TYPE_STRING, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    user = proto("f.proto", "p", {"M": ["at:.google.protobuf.Timestamp"]}, imports=[stamp.name])
    merged = merge({"a": files(stamp, user)})
    assert merged.clashes == ()
    assert fields_of(merged.pool, "google.protobuf.Timestamp") == ["seconds", "nanos"]
    assert fields_of(merged.pool, "p.M") == ["at"]


def test_a_shared_file_stands_in_for_a_copy_that_could_not_be_taken() -> None:
    shared = files(proto("base.proto", "base", {"Base": []}), proto("saga.proto", "saga", {"Saga": []}))
    a = files(
        proto("mine.proto", "base", {"Base": ["x"]}),
        proto("saga.proto", "saga", {"Saga": ["base:.base.Base"]}, imports=["mine.proto"]),
        proto("user.proto", "a", {"User": ["saga:.saga.Saga"]}, imports=["saga.proto"]),
    )
    merged = merge({"a": a}, shared)
    assert [clash.symbol for clash in merged.clashes] == ["base.Base"]
    assert fields_of(merged.pool, "a.User") == ["saga"]


def test_well_known_files_may_be_left_out_of_a_set() -> None:
    user = proto("f.proto", "p", {"M": ["t:.google.protobuf.Type"]}, imports=["google/protobuf/type.proto"])
    assert fields_of(build_pool(files(user)), "p.M") == ["t"]
    assert fields_of(merge({"a": files(user)}).pool, "p.M") == ["t"]
    assert {file.name for file in complete(files(user)).file} == {
        "f.proto",
        "google/protobuf/type.proto",
        "google/protobuf/any.proto",
        "google/protobuf/source_context.proto",
    }


def test_all_that_a_set_misses_is_named() -> None:
    broken = files(
        proto("a.proto", "p", {}, imports=["x.proto", "y.proto"]), proto("b.proto", "p", {}, imports=["x.proto"])
    )
    with pytest.raises(InvalidDescriptorsError) as caught:
        build_pool(broken)
    assert caught.value.problems == (
        "a.proto imports x.proto, which is not there",
        "a.proto imports y.proto, which is not there",
        "b.proto imports x.proto, which is not there",
    )


def test_files_that_import_each_other_are_refused() -> None:
    ring = files(proto("a.proto", "p", {}, imports=["b.proto"]), proto("b.proto", "p", {}, imports=["a.proto"]))
    with pytest.raises(InvalidDescriptorsError, match=r"import each other: .*a\.proto"):
        build_pool(ring)


def test_a_file_name_may_stand_once_only() -> None:
    with pytest.raises(InvalidDescriptorsError, match="twice"):
        build_pool(files(proto("a.proto", "p", {}), proto("a.proto", "q", {})))


def test_a_file_that_does_not_build_is_named_with_the_reason() -> None:
    with pytest.raises(InvalidDescriptorsError, match=r"^f\.proto: couldn't resolve name '.p.Gone'$"):
        build_pool(files(proto("f.proto", "p", {"M": ["gone:.p.Gone"]})))


def test_imports_come_first_whatever_the_order_of_the_set() -> None:
    c = proto("c.proto", "p", {"C": ["b:.p.B"]}, imports=["b.proto"])
    b = proto("b.proto", "p", {"B": ["a:.p.A"]}, imports=["a.proto"])
    a = proto("a.proto", "p", {"A": []})
    for mixed in (files(c, b, a), files(b, a, c), files(a, b, c)):
        assert [file.name for file in in_import_order(mixed)] == ["a.proto", "b.proto", "c.proto"]


def test_the_closure_of_a_file_is_all_that_it_imports() -> None:
    pool = build_pool(
        files(
            proto("a.proto", "p", {"A": []}),
            proto("b.proto", "p", {"B": ["a:.p.A"]}, imports=["a.proto"]),
            proto("c.proto", "p", {}),
        )
    )
    assert [file.name for file in closure([pool.FindFileByName("b.proto")]).file] == ["a.proto", "b.proto"]


def test_the_same_sets_give_the_same_files() -> None:
    a = files(proto("f.proto", "p", {"M": ["x"]}))
    b = files(proto("f.proto", "p", {"M": ["y"]}), proto("g.proto", "q", {"N": []}))
    assert merge({"a": a, "b": b}).files == merge({"b": b, "a": a}).files
