"""Generates the Python of every .proto file, or checks that what is committed is what would be generated.

    python protos/generate.py [--check]

The generator is pinned (grpcio-tools, mypy-protobuf): newer generated code refuses older protobuf runtimes. This
script must not touch a file that it does not generate.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
PLUGIN_NAMES = ("mypy", "mypy_grpc")
PAYLOADS = ("sample_services", "benchmarks")  # types only, named by their folders from the root


def generate(out: Path) -> None:
    """Generate everything below `out`, laid out as in the repository."""
    contract = sorted((ROOT / "protos" / "saga").rglob("*.proto"))
    (out / "protos").mkdir(exist_ok=True)
    _protoc(contract, ROOT / "protos", out / "protos", services=True)
    payloads = sorted(path for folder in PAYLOADS for path in (ROOT / folder).rglob("*.proto"))
    _protoc(payloads, ROOT, out, services=False)


def _protoc(files: list[Path], root: Path, out: Path, *, services: bool) -> None:
    if not files:
        return
    scripts = Path(sys.executable).parent
    outs = ["python", "mypy", *(["grpc_python", "mypy_grpc"] if services else [])]
    status = protoc.main(
        [
            "protoc",
            *(f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in PLUGIN_NAMES),
            f"-I{root}",
            f"-I{ROOT / 'protos' / 'third_party'}",
            f"-I{WELL_KNOWN}",
            *(f"--{name}_out={'quiet:' if 'mypy' in name else ''}{out}" for name in outs),
            *map(str, files),
        ]
    )
    if status:
        raise SystemExit(status)


def generated_files(root: Path) -> Iterator[Path]:
    """The generated files below `root`, relative to it."""
    for folder in ("protos/saga", *PAYLOADS):
        yield from (
            path.relative_to(root) for path in sorted((root / folder).rglob("*_pb2*.py*")) if path.suffix != ".pyc"
        )


def check() -> int:
    """Say which committed files differ from what would be generated; 1 where any does."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = {*generated_files(fresh), *generated_files(ROOT)}
        wrong = [
            name
            for name in sorted(names)
            if not (
                (fresh / name).is_file() and (ROOT / name).is_file() and filecmp.cmp(fresh / name, ROOT / name, False)
            )
        ]
    for name in wrong:
        sys.stderr.write(f"{name} is not what the .proto files generate: run `make generate`\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        raise SystemExit(check())
    generate(ROOT)
