"""Flags over environment over a TOML file over defaults."""

from pathlib import Path

import pytest

from coordinator.config import ConfigurationError, Settings, load
from coordinator.core.limits import CALLS_PER_PARTICIPANT_MAX, DAY_NS, HOUR_NS

TOML = """
listen = "0.0.0.0:1"
journal = "from_file.db"
log_level = "debug"
unfinished_sagas_max = 5

[participants]
inventory = "127.0.0.1:50061"
payment = "127.0.0.1:50062"
"""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SAGA_{name.upper()}", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "saga.toml"
    path.write_text(TOML)
    return path


def problems(path: Path | None = None, **flags: object) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load(path, **flags)
    return str(refused.value).splitlines()


def test_everything_has_a_default() -> None:
    settings = load()
    assert settings.listen == "127.0.0.1:7400"
    assert settings.journal == Path("saga.db")
    assert settings.participants == {}
    assert (settings.log_level, settings.log_format) == ("info", "text")
    assert settings.unfinished_sagas_max == 100_000
    assert settings.drain_seconds == 10
    assert settings.fast_lane
    assert (settings.retention, settings.export_directory) == (None, None)
    assert settings.tombstone_retention == 30 * DAY_NS


def test_a_file_is_read(file: Path) -> None:
    settings = load(file)
    assert settings.listen == "0.0.0.0:1"
    assert settings.journal == Path("from_file.db")
    assert settings.targets == {"inventory": "127.0.0.1:50061", "payment": "127.0.0.1:50062"}
    assert settings.unfinished_sagas_max == 5


def test_the_environment_wins_over_the_file_and_flags_over_both(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("SAGA_JOURNAL", "from_environment.db")
    monkeypatch.setenv("SAGA_PARTICIPANTS", '{"payment": "other:1", "shipping": "other:2"}')
    settings = load(file, listen="127.0.0.1:3", journal=None)
    assert settings.listen == "127.0.0.1:3"
    assert settings.journal == Path("from_environment.db")
    assert settings.log_level == "debug"
    assert settings.targets == {
        "inventory": "127.0.0.1:50061",
        "payment": "other:1",
        "shipping": "other:2",
    }
    assert load(file, participants={"payment": "flag:1"}).targets["payment"] == "flag:1"


def test_a_participant_is_a_target_or_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "saga.toml"
    path.write_text(
        '[participants]\ninventory = "i:1"\npayment = { target = "p:1", calls_max = 8 }\n'
        '[participants.shipping]\ntarget = "s:1"\n'
    )
    monkeypatch.setenv("SAGA_PARTICIPANTS", '{"bank": {"target": "b:1", "calls_max": 1}}')
    settings = load(path)
    assert settings.targets == {"inventory": "i:1", "payment": "p:1", "shipping": "s:1", "bank": "b:1"}
    usual = CALLS_PER_PARTICIPANT_MAX
    assert {name: each.calls_max for name, each in settings.participants.items()} == {
        "inventory": usual,
        "payment": 8,
        "shipping": usual,
        "bank": 1,
    }


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"target": "p:1", "calls_max": 0}, "calls_max"),
        ({"calls_max": 1}, "target"),
        ({"target": "p:1", "colour": "blue"}, "colour"),
    ],
)
def test_what_is_wrong_with_a_participants_table_is_named(given: dict[str, object], wrong: str) -> None:
    (line,) = problems(participants={"payment": given})
    assert line.startswith(f"participants.payment.{wrong}: ")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:7400", "[::1]:65535", "0.0.0.0:1", "a-host.example:80"])
def test_addresses(listen: str) -> None:
    assert load(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["", "7400", ":7400", "localhost", "localhost:", "::1:80", "host:65536", "h:1\n"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    assert problems(listen=listen) == (f"listen: `{listen}` is not HOST:PORT").splitlines()


def test_every_problem_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        'listen = "x"\nlog_level = "loud"\nunfinished_sagas_max = 0\ndrain_seconds = -1\ncolour = "blue"\n'
        '[participants]\nUpper = "a:1"\nempty = " "\n'
    )
    lines = problems(path)
    assert sorted(line.partition(":")[0] for line in lines) == [
        "colour",
        "drain_seconds",
        "listen",
        "log_level",
        "participants.Upper",
        "participants.empty.target",
        "unfinished_sagas_max",
    ]
    assert "participants.empty.target: there is no target, for instance `127.0.0.1:50061`" in lines


@pytest.mark.parametrize("name", ["", "A", "1a", "with space", "a" * 65, "a/b", "a.b"])
def test_names_of_participants(name: str) -> None:
    assert len(problems(participants={name: "h:1"})) == 1
    assert load(participants={"a-b_9" + "x" * 59: "h:1"}).participants


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert problems(missing) == [f"--config: there is no file {missing}"]
    assert problems(tmp_path) == [f"--config: there is no file {tmp_path}"]
    broken = tmp_path / "broken.toml"
    broken.write_text("listen = \n")
    (line,) = problems(broken)
    assert line.startswith(f"{broken}: ")
    assert "line 1" in line
    broken.write_bytes(b"\xff\xfe")
    (line,) = problems(broken)
    assert line.startswith(f"{broken}: ")


def test_an_environment_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_PARTICIPANTS", "shop=127.0.0.1:1")
    (line,) = problems()
    assert "SAGA_PARTICIPANTS is a JSON object" in line


def test_a_flag_that_nobody_knows_is_refused() -> None:
    (line,) = problems(colour="blue")
    assert line.startswith("colour: ")


def test_lengths_are_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "saga.toml"
    file.write_text('retention = "720h"\nexport_directory = "old"\n')
    monkeypatch.setenv("SAGA_TOMBSTONE_RETENTION", "1h30m")
    settings = load(file)
    assert (settings.retention, settings.tombstone_retention) == (30 * DAY_NS, HOUR_NS + HOUR_NS // 2)
    assert settings.export_directory == Path("old")


@pytest.mark.parametrize("wrong", ["soon", "-1h", "3"])
def test_a_length_that_is_none_is_named(wrong: str) -> None:
    [problem] = problems(retention=wrong)
    assert problem.startswith("retention: ")
    assert wrong in problem
