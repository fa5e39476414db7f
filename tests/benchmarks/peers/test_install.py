from pathlib import Path

import pytest

from benchmarks.peers import install
from benchmarks.peers.install import RESTATE


def test_a_peer_is_there_once_it_was_installed_whole_in_these_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*command: str) -> None:
        ran.append(command)
        (tmp_path / "restate").mkdir(exist_ok=True)

    monkeypatch.setattr(install, "_run", run)
    assert not RESTATE.is_installed(tmp_path)
    RESTATE.install(tmp_path)
    assert RESTATE.is_installed(tmp_path)
    _, pip, npm = ran
    assert "restate-sdk[serde]==1.3.0" in pip
    assert any(package.startswith("grpcio==") for package in pip)
    assert npm[-1] == "@restatedev/restate-server@1.7.12"
    monkeypatch.setattr(install, "_AS_OURS", ("protobuf",))
    assert not RESTATE.is_installed(tmp_path)


def test_the_program_is_found_and_not_the_script_round_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 programs"):
        RESTATE.program(tmp_path, "restate-server")
    modules = tmp_path / "restate" / "node_modules"
    program = modules / "@restatedev" / "restate-server-linux-x64" / "bin" / "restate-server"
    for file in (program, modules / ".bin" / "restate-server"):
        file.parent.mkdir(parents=True)
        file.touch()
    assert RESTATE.program(tmp_path, "restate-server") == program
