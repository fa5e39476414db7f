"""Protobuf descriptors of several owners, checked and brought together in one pool.

Each participant ships the files of its own types. Two of them may ship the same file, two versions of it, or two
unrelated files of one name; and in one pool a file name and a symbol can stand only once. `merge` keeps what all owners
agree on and says what they do not agree on.

This module must not do I/O, and must not put anything into protobuf's default pool.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final, TypeVar

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool

COORDINATOR: Final = ""  # the owner of the shared files, beside the participants' names

_PACKAGE: Final = "package"
_NO_FILE: Final = ""  # where a package stands

_Definition = TypeVar("_Definition", DescriptorProto, EnumDescriptorProto, ServiceDescriptorProto, FieldDescriptorProto)


class InvalidDescriptorsError(ValueError):
    """A set of files does not stand by itself; `problems` says why."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Clash:
    """A file of `owner` is left out, because `holder` means something else by `symbol`.

    `detail` is set instead of `symbol` where the file cannot be built beside the others for another reason.
    """

    owner: str
    file: str
    symbol: str = ""
    holder: str = COORDINATOR
    detail: str = ""

    def __str__(self) -> str:
        if self.detail:
            return f"{self.file} of {_called(self.owner)} cannot be built beside the others: {self.detail}"
        return f"{self.symbol} of {_called(self.owner)} differs from {self.symbol} of {_called(self.holder)}"


@dataclass(frozen=True, slots=True)
class Merged:
    """What several owners agree on: one pool, its files with imports first, and what had to be left out."""

    pool: DescriptorPool
    files: tuple[FileDescriptorProto, ...]
    clashes: tuple[Clash, ...]


def closure(files: Iterable[FileDescriptor]) -> FileDescriptorSet:
    """The files and all that they import, imports first, each once."""
    found: dict[str, FileDescriptorProto] = {}
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
            waiting.extend(file.dependencies)
    return FileDescriptorSet(file=in_import_order(FileDescriptorSet(file=found.values())))


def in_import_order(descriptors: FileDescriptorSet) -> list[FileDescriptorProto]:
    """The files of the set, each behind those it imports.

    Raises:
        InvalidDescriptorsError: a file is there twice, is not there, or imports itself.
    """
    files = {file.name: file for file in descriptors.file}
    problems = []
    if len(files) < len(descriptors.file):
        problems.append("a file name stands twice")
    for file in files.values():
        missing = [imported for imported in file.dependency if imported not in files]
        problems.extend(f"{file.name} imports {name}, which is not there" for name in missing)
    if problems:
        raise InvalidDescriptorsError(problems)
    try:
        order = TopologicalSorter({name: files[name].dependency for name in sorted(files)}).static_order()
        return [files[name] for name in order]
    except CycleError as error:
        raise InvalidDescriptorsError([f"files import each other: {' -> '.join(error.args[1])}"]) from error


def complete(descriptors: FileDescriptorSet) -> FileDescriptorSet:
    """The set, and those of Google's well-known types that it imports without bringing them."""
    there = {file.name for file in descriptors.file}
    well_known = {file.name: file for file in WELL_KNOWN.file}
    added: dict[str, FileDescriptorProto] = {}
    waiting = list(descriptors.file)
    while waiting:
        for name in waiting.pop().dependency:
            if name in well_known and name not in there and name not in added:
                added[name] = well_known[name]
                waiting.append(well_known[name])
    return FileDescriptorSet(file=[*descriptors.file, *added.values()])


def build_pool(descriptors: FileDescriptorSet) -> DescriptorPool:
    """A pool of just these files, completed.

    Raises:
        InvalidDescriptorsError: they do not stand by themselves.
    """
    pool = DescriptorPool()
    for file in in_import_order(complete(descriptors)):
        if problem := _build(pool, file):
            raise InvalidDescriptorsError([f"{file.name}: {problem}"])
    return pool


WELL_KNOWN: Final = closure(
    module.DESCRIPTOR
    for module in (
        any_pb2,
        api_pb2,
        descriptor_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        source_context_pb2,
        struct_pb2,
        timestamp_pb2,
        type_pb2,
        wrappers_pb2,
    )
)


def merge(sets: Mapping[str, FileDescriptorSet], shared: FileDescriptorSet = WELL_KNOWN) -> Merged:
    """Brings the files of several owners into one pool.

    - `shared` comes first; its files stand in for an owner's files of the same name and package, unseen: such copies
      differ from release to release, and only ever grow.
    - Owners follow by name. What one defines exactly as an earlier one does is taken over from there.
    - A file name that is taken gets the owner's name in front.
    - A file that defines a known symbol differently is left out, and so is what imports it: its messages would be read
      with fields they do not have. Each such symbol is a clash.

    Raises:
        InvalidDescriptorsError: a set does not stand by itself.
    """
    merger = _Merger(shared)
    for owner in sorted(sets):
        merger.add(owner, sets[owner])
    return Merged(merger.pool, tuple(merger.files.values()), tuple(merger.clashes))


@dataclass(frozen=True, slots=True)
class _Symbol:
    """What a name of the pool means, and who says so. A package stands in no one file."""

    shape: Hashable
    owner: str
    file: str


class _Merger:
    """The pool while it grows."""

    def __init__(self, shared: FileDescriptorSet) -> None:
        self.pool = DescriptorPool()
        self.files: dict[str, FileDescriptorProto] = {}
        self.clashes: list[Clash] = []
        self._symbols: dict[str, _Symbol] = {}
        self._stand_ins: dict[tuple[str, str], tuple[str, ...]] = {}
        offers = self.add(COORDINATOR, shared)
        self._stand_ins = {(file.name, file.package): offers[file.name] for file in shared.file if file.name in offers}

    def add(self, owner: str, descriptors: FileDescriptorSet) -> dict[str, tuple[str, ...]]:
        """Takes the owner's files; answers which files of this pool offer what each of them offered."""
        built = build_pool(descriptors)
        offers: dict[str, tuple[str, ...]] = {}
        for file in in_import_order(complete(descriptors)):
            offered = self._stand_ins.get((file.name, file.package))
            imports_are_here = all(imported in offers for imported in file.dependency)
            if offered is None and imports_are_here:  # otherwise it is left out with the clash that its import has
                offered = self._take(owner, file, built.FindFileByName(file.name), offers)
            if offered is not None:
                offers[file.name] = offered
        return offers

    def _take(
        self, owner: str, file: FileDescriptorProto, built: FileDescriptor, offers: Mapping[str, tuple[str, ...]]
    ) -> tuple[str, ...] | None:
        """Brings one file in, without what the pool has already; None if it has to stay out."""
        shapes = dict(_shapes(built))
        known = {name: self._symbols[name] for name in shapes if name in self._symbols}
        differing = sorted(name for name, symbol in known.items() if symbol.shape != shapes[name])
        if differing:
            self.clashes.extend(Clash(owner, file.name, name, known[name].owner) for name in differing)
            return None
        holders = sorted({symbol.file for symbol in known.values()} - {_NO_FILE})
        passed_on = [name for index in file.public_dependency for name in offers[file.dependency[index]]]
        fresh = {name: shape for name, shape in shapes.items() if name not in known}
        if all(shape == _PACKAGE for shape in fresh.values()):
            return _each_once([*holders, *passed_on])
        imports = _each_once([name for imported in file.dependency for name in offers[imported]] + holders)
        merged = _rewritten(file, self._free_name(owner, file.name), imports, known.keys())
        if problem := _build(self.pool, merged):
            self.clashes.append(Clash(owner, file.name, detail=problem))
            return None
        self.files[merged.name] = merged
        for name, shape in fresh.items():
            self._symbols[name] = _Symbol(shape, owner, _NO_FILE if shape == _PACKAGE else merged.name)
        return _each_once([merged.name, *holders, *passed_on])

    def _free_name(self, owner: str, name: str) -> str:
        while name in self.files:
            name = f"{owner}/{name}"
        return name


def _build(pool: DescriptorPool, file: FileDescriptorProto) -> str:
    """Adds the file to the pool; says why it could not be, in which case the pool is as before."""
    try:
        pool.AddSerializedFile(file.SerializeToString())
    except TypeError as error:
        return str(error).partition("descriptor pool: ")[2] or str(error)
    return ""


def _rewritten(
    file: FileDescriptorProto, name: str, imports: Sequence[str], known: Collection[str]
) -> FileDescriptorProto:
    """The file under another name, with other imports, and without the definitions that are known."""
    new = FileDescriptorProto()
    new.CopyFrom(file)
    new.name = name
    new.dependency[:] = imports
    for field in ("public_dependency", "weak_dependency", "source_code_info"):
        new.ClearField(field)
    _keep_unknown(new.message_type, file.package, known)
    _keep_unknown(new.enum_type, file.package, known)
    _keep_unknown(new.service, file.package, known)
    _keep_unknown(new.extension, file.package, known)
    return new


def _keep_unknown(definitions: MutableSequence[_Definition], package: str, known: Collection[str]) -> None:
    kept = [definition for definition in definitions if _qualified(package, definition.name) not in known]
    if len(kept) < len(definitions):
        del definitions[:]
        definitions.extend(kept)


def _qualified(package: str, name: str) -> str:
    return f"{package}.{name}" if package else name


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _called(owner: str) -> str:
    return f"participant {owner}" if owner else "the coordinator"


def _shapes(file: FileDescriptor) -> Iterator[tuple[str, Hashable]]:
    """Each name that the file takes in a pool, with what it means on the wire and in JSON.

    Built descriptors are compared rather than the files' text, so that syntax, comments and custom options make no
    difference.
    """
    parts = file.package.split(".") if file.package else []
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length]), _PACKAGE
    for message in file.message_types_by_name.values():
        yield message.full_name, _message_shape(message)
    for enum in file.enum_types_by_name.values():
        yield enum.full_name, _enum_shape(enum)
        for value in enum.values:  # in protobuf an enum's values are the enum's siblings
            yield _qualified(file.package, value.name), ("value", enum.full_name, value.number)
    for service in file.services_by_name.values():
        yield service.full_name, _service_shape(service)
    for extension in file.extensions_by_name.values():
        yield extension.full_name, _field_shape(extension)


def _message_shape(message: Descriptor) -> Hashable:
    return (
        "message",
        frozenset(_field_shape(field) for field in message.fields),
        frozenset((nested.full_name, _message_shape(nested)) for nested in message.nested_types),
        frozenset((enum.full_name, _enum_shape(enum)) for enum in message.enum_types),
        frozenset(_field_shape(extension) for extension in message.extensions),
    )


def _field_shape(field: FieldDescriptor) -> Hashable:
    return (
        "field",
        field.name,
        field.number,
        field.type,
        field.json_name,
        field.is_repeated,
        field.is_required,
        field.has_presence,
        field.containing_oneof.name if field.containing_oneof else "",
        field.message_type.full_name if field.message_type else "",
        field.enum_type.full_name if field.enum_type else "",
        repr(field.default_value),  # a default can be NaN, which equals nothing
    )


def _enum_shape(enum: EnumDescriptor) -> Hashable:
    return ("enum", enum.is_closed, frozenset((value.name, value.number) for value in enum.values))


def _service_shape(service: ServiceDescriptor) -> Hashable:
    return ("service", frozenset(_method_shape(method) for method in service.methods))


def _method_shape(method: MethodDescriptor) -> Hashable:
    return (
        method.name,
        method.input_type.full_name,
        method.output_type.full_name,
        method.client_streaming,
        method.server_streaming,
    )
