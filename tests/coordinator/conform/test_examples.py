"""The author's file: what is read, what is refused and where, and whether it fits what the participant describes."""

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from coordinator.conform.examples import EffectsSource, Examples, ExamplesError, load, message_of, typed_problems
from coordinator.dataflow.types import Types
from saga.v1.participant_pb2 import Action
from sample_services.transfer.v1 import bank_pb2, transfer_pb2

GOOD = """\
start: exec pay
effects: {command: count-them}
actions:
  Pay:
    inputs:
      - {transfer_id: "x-${unique}", account_id: a, amount: {minor_units: "${number}", currency: EUR}}
      - {}
    refused:
      - {input: {account_id: 'no'}, reason: NOPE, lifted_by: pay-in}
    pending:
      - {input: {account_id: b}, completes_within: 1m30s, completed_by: approve}
      - input: {account_id: c}
  Other:
    inputs: [{}]
    effects:
      sqlite: $DIRECTORY/x.db
      query: SELECT 1
"""


def read(text: str) -> Examples:
    return load(text, "pay.yaml", Path("/tmp"))


def problems(text: str) -> list[str]:
    with pytest.raises(ExamplesError) as caught:
        read(text)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def test_everything_is_read() -> None:
    examples = read(GOOD)
    assert (examples.start, examples.directory, list(examples.actions)) == ("exec pay", Path("/tmp"), ["Pay", "Other"])
    pay, other = examples.actions.values()
    assert pay.effects is not None
    assert pay.effects.command == "count-them"
    assert (
        other.effects == EffectsSource(other.effects.place, "", "$DIRECTORY/x.db", "SELECT 1") if other.effects else 0
    )
    [refusal], [slow, slower] = pay.refused, pay.pending
    assert (refusal.input.json, refusal.reason, refusal.lifted_by) == ({"account_id": "no"}, "NOPE", "pay-in")
    assert (slow.completes_within_s, slow.completed_by, slower.completes_within_s) == (90.0, "approve", 10.0)
    assert len(list(pay.all_inputs())) == 5


def test_placeholders_are_filled_wherever_text_stands() -> None:
    first, second = read(GOOD).actions["Pay"].inputs
    assert json.loads(first.filled("u", 7)) == {
        "transfer_id": "x-u",
        "account_id": "a",
        "amount": {"minor_units": "7", "currency": "EUR"},
    }
    assert json.loads(second.filled("u", 7)) == {}


def test_scalars_are_what_json_has() -> None:
    text = "actions: {A: {inputs: [{a: 1, b: -1.5, c: true, d: null, e: 2026-01-01, f: '1', g: [1e3, [x]]}]}}"
    [given] = read(text).actions["A"].inputs
    assert given.json == {"a": 1, "b": -1.5, "c": True, "d": None, "e": "2026-01-01", "f": "1", "g": ["1e3", ["x"]]}


def test_every_mistake_is_named_where_it_stands() -> None:
    text = """\
begin: x
effects: {command: x, query: y}
actions:
  Pay:
    inputs: []
    refusd: 1
  Get:
    inputs:
      - hello
      - {a: 010, b: "${uniqe}", a: 1}
    refused:
      - {reason: NOPE}
      - {input: {}, reason: ''}
    pending:
      - {input: {}, completes_within: soon}
  Put: {}
"""
    assert problems(text) == [
        "pay.yaml:1:1: begin: unknown field `begin`; expected one of: start, effects, actions",
        "pay.yaml:2:10: effects: there is command and query; expected either command, or sqlite and query",
        "pay.yaml:5:13: actions.Pay.inputs: an empty list; expected at least one",
        "pay.yaml:6:5: actions.Pay.refusd: unknown field `refusd`; expected `refused`",
        "pay.yaml:9:9: actions.Get.inputs[0]: text `hello`; expected a mapping with the fields of the action's input",
        "pay.yaml:10:13: actions.Get.inputs[1].a: a number `010`; expected a number as in JSON, or text in quotes",
        "pay.yaml:10:21: actions.Get.inputs[1].b: unknown placeholder `${uniqe}`; expected ${unique} or ${number}",
        "pay.yaml:10:33: actions.Get.inputs[1]: `a` stands twice; expected it once",
        "pay.yaml:12:9: actions.Get.refused[0]: `input` is missing",
        "pay.yaml:13:29: actions.Get.refused[1].reason: an empty text; expected text",
        "pay.yaml:15:39: actions.Get.pending[0].completes_within: text `soon`; expected a duration such as 5m, 300s,"
        " 1.5s, 100ms or 2h30m",
        "pay.yaml:16:8: actions.Put: `inputs` is missing",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "pay.yaml:1:1: the text is empty; expected examples for `saga conform`"),
        ("start: x", "pay.yaml:1:1: `actions` is missing"),
        ("actions: {A: {inputs: [" + "{a: " * 40 + "1" + "}" * 40 + "]}}", "nested too deeply; expected at most 32"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str, problem: str) -> None:
    [found] = problems(text)
    assert problem in found


def test_inputs_are_compared_with_what_the_participant_describes() -> None:
    files = FileDescriptorSet()
    for described in (transfer_pb2.DESCRIPTOR, bank_pb2.DESCRIPTOR):
        content = FileDescriptorProto()
        described.CopyToProto(content)
        files.file.append(content)
    types = Types(files)
    action = Action(name="Pay", input_type=bank_pb2.DebitAccountRequest.DESCRIPTOR.full_name)
    examples = read(GOOD)
    assert [str(problem) for problem in typed_problems(examples, {"Pay": action}, types)] == [
        "pay.yaml:14:5: actions.Other: the participant has no action `Other`; expected one of: Pay"
    ]
    message = message_of(examples.actions["Pay"].inputs[0], action, types, "u", 7)
    expected = bank_pb2.DebitAccountRequest(
        transfer_id="x-u", account_id="a", amount=transfer_pb2.Money(minor_units=7, currency="EUR")
    )
    assert message.SerializeToString() == expected.SerializeToString()
    wrong = read("actions: {Payy: {inputs: [{}]}, Pay: {inputs: [{amount: 5}, {acount_id: a}]}}")
    found = [str(problem) for problem in typed_problems(wrong, {"Pay": action}, types)]
    assert found[0].startswith("pay.yaml:1:17: actions.Payy: the participant has no action `Payy`; expected `Pay`")
    assert found[1].startswith("pay.yaml:1:48: actions.Pay.inputs[0]: not a `sample_services.transfer.v1.DebitAccount")
    assert 'no field named "acount_id"' in found[2]
