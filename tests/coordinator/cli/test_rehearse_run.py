"""What a rehearsal needs: everything that is wrong with it is said before any participant is called."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.cli.errors import ExitCode
from tests.coordinator.cli.conftest import Live
from tests.coordinator.rehearse.shop import DEFINITION, INPUT, Shop


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--invariant", "saga.stat == 1"], ExitCode.USAGE, "undefined field 'stat'"),
        (["--check", "no-such-command-anywhere"], ExitCode.USAGE, "there is no such command"),
        (["--path", "pay.execute#1=gone"], ExitCode.USAGE, "`gone` is none of request-lost, reply-lost"),
        (["--path", "fly.execute#1=late"], ExitCode.USAGE, "`fly` is no step of `errand`"),
        (["--depth", "0"], ExitCode.USAGE, "--depth"),
        (["--config", "no-such-file"], ExitCode.USAGE, "there is no file no-such-file"),
        (["--child", "no-such-file"], ExitCode.USAGE, "the definition cannot be read"),
    ],
)
def test_wrong_usage_is_said_at_once_and_nothing_is_called(
    run: Live, shop: Shop, options: list[str], code: ExitCode, said: str
) -> None:
    result = run(*options)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert not shop.calls


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "the input is not JSON"),
        ('{"order_name": "1"}', "the input does not fit"),
        ("@no-such-file", "the input cannot be read"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_at_once(run: Live, shop: Shop, given: str, said: str) -> None:
    result = run(given=given)
    assert result.exit_code in (ExitCode.REFUSED, ExitCode.USAGE)
    assert said in result.stderr
    assert not shop.calls


def test_an_input_that_the_definition_s_own_expressions_refuse_is_said(run: Live, shop: Shop, file: Path) -> None:
    file.write_text(DEFINITION + "exclusive_keys: [input.card_token]\n", encoding="utf-8")
    result = run()
    assert result.exit_code == ExitCode.REFUSED
    assert "an empty key" in result.stderr
    assert not shop.calls


def test_ids_differ_from_saga_to_saga(run: Live) -> None:
    given = '{"order_id": "${n}-${saga_id}"}'
    seen = "input.order_id == (path.name == 'no-failure' ? '1-' : '2-') + saga.saga_id"
    paths = ("--path", "no-failure", "--path", "pay.execute#1=refused")
    assert run("--invariant", seen, *paths, given=given).exit_code == ExitCode.OK


def test_a_definition_that_does_not_type_check_is_shown_at_its_place(run: Live, shop: Shop, file: Path) -> None:
    file.write_text(DEFINITION.replace("action: Act, kind: PIVOT", "action: Fly, kind: PIVOT"), encoding="utf-8")
    result = run()
    assert result.exit_code == ExitCode.REFUSED
    assert f"{file}:8:" in result.stderr
    assert "Fly" in result.stderr
    file.write_text("name: [", encoding="utf-8")
    assert "the definition is invalid" in run().stderr
    assert not shop.calls


def test_what_shortening_would_hide_is_still_a_problem(run: Live, file: Path) -> None:
    text = DEFINITION.replace("timeout: 1m", "execute: {initial_backoff: 100s, max_backoff: 1s}")
    file.write_text(text, encoding="utf-8")
    assert run().exit_code == ExitCode.REFUSED


def test_a_participant_that_is_not_there_is_named(file: Path) -> None:
    words = ["explore", str(file), "--live", "--input", INPUT, "--participant", "shop=127.0.0.1:1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "shop at 127.0.0.1:1: UNAVAILABLE" in result.stderr
    result = CliRunner().invoke(app, words[:-2])
    assert result.exit_code == ExitCode.USAGE
    assert "give it with --participant shop=HOST:PORT" in result.stderr
