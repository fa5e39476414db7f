"""Problems are shown where they stand in the file, all at once; where there are any, nothing is registered (G13)."""

import json
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest

from coordinator.cli.errors import ExitCode
from coordinator.dataflow import yamlform
from saga.v1 import definition_pb2 as pb
from saga.v1 import types_pb2 as types
from tests.coordinator.cli.fake import FakeCoordinator, at, status

TEXT = """\
name: order_fulfillment
input_type: shop.v1.Order
steps:
  - name: reserve
    participant: inventory
    action: ReserveStock
    input: |
      ReserveStockRequest{
        order_id: input.orderid
      }
"""
UNDEFINED = pb.DefinitionProblem(
    path="steps[0].input", line=2, column=18, message="undefined field `orderid`", expected="a field of shop.v1.Order"
)
UNKNOWN_ACTION = pb.DefinitionProblem(path="steps[0].action", message="there is no such action")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "order.yaml"
    path.write_text(TEXT)
    return path


def registered(version: int, *, created: bool) -> pb.RegisterDefinitionResponse:
    definition = pb.SagaDefinition(name="order_fulfillment", version=version)
    return pb.RegisterDefinitionResponse(definition=definition, created=created)


def test_apply_registers(fake: FakeCoordinator, file: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse()
    fake.answers["RegisterDefinition"] = [registered(1, created=True), registered(1, created=False)]
    assert fake.run("definition", "apply", str(file)).stdout == "order_fulfillment version 1 registered\n"
    result = fake.run("definition", "apply", "-", stdin=TEXT)
    assert (result.exit_code, result.stdout) == (0, "order_fulfillment unchanged (version 1)\n")
    expected = yamlform.load(TEXT, "").definition
    assert [request.definition for request in fake.requests["RegisterDefinition"]] == [expected, expected]


def test_apply_as_json(fake: FakeCoordinator, file: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse()
    fake.answers["RegisterDefinition"] = registered(2, created=True)
    lines = fake.run("definition", "apply", "-o", "json", str(file), str(file)).stdout.splitlines()
    shown = [json.loads(line) for line in lines]
    assert shown == [{"definition": {"name": "order_fulfillment", "version": 2}, "created": True}] * 2


def family(tmp_path: Path, **children: str) -> list[str]:
    """A file for each definition, in their order, that runs another one as its step."""
    files = []
    for name, action in children.items():
        path = tmp_path / f"{name}.yaml"
        step = f"{{name: run, participant: coordinator, action: {action}, input: input}}"
        path.write_text(f"name: {name}\ninput_type: shop.v1.Order\nsteps: [{step}]\n")
        files.append(str(path))
    return files


def test_what_others_run_is_registered_before_they_are_checked(fake: FakeCoordinator, tmp_path: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse()
    fake.answers["RegisterDefinition"] = registered(1, created=True)
    files = family(tmp_path, market="order", order="parcel", parcel="elsewhere")
    assert fake.run("definition", "apply", *files).exit_code == ExitCode.OK
    in_order = [request.definition.name for request in fake.requests["RegisterDefinition"]]
    assert in_order == ["parcel", "order", "market"]


def test_definitions_that_run_each_other_are_left_to_the_coordinator(fake: FakeCoordinator, tmp_path: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse(problems=[UNKNOWN_ACTION])
    files = family(tmp_path, first="second", second="first")
    result = fake.run("definition", "apply", *files)
    assert result.exit_code == ExitCode.REFUSED
    assert len(result.stderr.splitlines()) == 2
    assert "RegisterDefinition" not in fake.requests


def test_problems_of_the_coordinator_are_shown_at_their_place_in_the_file(fake: FakeCoordinator, file: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse(problems=[UNKNOWN_ACTION, UNDEFINED])
    result = fake.run("definition", "apply", str(file))
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr.splitlines() == [
        f"{file}:6:13: steps[0].action: there is no such action",
        f"{file}:9:24: steps[0].input: undefined field `orderid`; expected a field of shop.v1.Order",
    ]
    assert result.stdout == ""
    assert "RegisterDefinition" not in fake.requests


def test_where_one_file_has_problems_none_is_registered(fake: FakeCoordinator, file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [1]\ncolour: red\n")
    fake.answers["ValidateDefinition"] = [
        pb.ValidateDefinitionResponse(problems=[UNKNOWN_ACTION]),
        pb.ValidateDefinitionResponse(),
    ]
    result = fake.run("definition", "apply", str(broken), str(file), "-", stdin=TEXT)
    assert result.exit_code == ExitCode.REFUSED
    places = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert places == [f"{broken}:1:7", f"{broken}:2:1", f"{file}:6:13"]
    assert "RegisterDefinition" not in fake.requests


def test_problems_that_only_registering_finds_are_located_too(fake: FakeCoordinator, file: Path) -> None:
    bad = BadRequest()
    bad.field_violations.add(field="steps[0].input", description="2:18: undefined field `orderid` (expected: a field)")
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse()
    fake.answers["RegisterDefinition"] = status(
        grpc.StatusCode.INVALID_ARGUMENT, "…", types.ERROR_REASON_DEFINITION_INVALID, bad
    )
    result = fake.run("definition", "apply", str(file))
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr.splitlines() == [
        "error: the definition is invalid (DEFINITION_INVALID)",
        f"  {file}:9:24: steps[0].input: undefined field `orderid` (expected: a field)",
    ]


def test_validate(fake: FakeCoordinator, file: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse()
    result = fake.run("definition", "validate", str(file))
    assert (result.exit_code, result.stdout) == (0, "order_fulfillment is valid\n")
    assert "RegisterDefinition" not in fake.requests


def test_validate_shows_problems_as_its_result(fake: FakeCoordinator, file: Path) -> None:
    fake.answers["ValidateDefinition"] = pb.ValidateDefinitionResponse(problems=[UNKNOWN_ACTION])
    result = fake.run("definition", "validate", str(file))
    assert result.exit_code == ExitCode.REFUSED
    assert result.stdout == f"{file}:6:13: steps[0].action: there is no such action\n"
    assert json.loads(fake.run("definition", "validate", "-o", "json", str(file)).stdout) == {
        "source": str(file),
        "line": 6,
        "column": 13,
        "path": "steps[0].action",
        "message": "there is no such action",
        "expected": "",
    }


def entry(version: int, *, deprecated: bool = False) -> pb.DefinitionEntry:
    return pb.DefinitionEntry(
        definition=pb.SagaDefinition(
            name="order_fulfillment", version=version, description="Orders.\nAll.", steps=[pb.StepDefinition()]
        ),
        metadata=pb.DefinitionMetadata(create_time=at(0), deprecated=deprecated, unfinished_saga_count=5),
    )


def test_list_follows_the_pages(fake: FakeCoordinator) -> None:
    pages = [
        pb.ListDefinitionsResponse(definitions=[entry(2)], next_page_token="more"),
        pb.ListDefinitionsResponse(definitions=[entry(1, deprecated=True)]),
    ]
    fake.answers["ListDefinitions"] = [*pages, *pages]
    assert fake.run("definition", "list", "--name", "order_fulfillment").stdout == (
        "NAME               VERSION  STEPS  REGISTERED                UNFINISHED  DEPRECATED  DESCRIPTION\n"
        "order_fulfillment  2        1      2026-09-21T14:13:20.000Z  5           -           Orders.\n"
        "order_fulfillment  1        1      2026-09-21T14:13:20.000Z  5           yes         Orders.\n"
    )
    assert [(r.name, r.page_token) for r in fake.requests["ListDefinitions"]] == [
        ("order_fulfillment", ""),
        ("order_fulfillment", "more"),
    ]
    shown = fake.run("definition", "list", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["definition"]["version"] for line in shown] == [2, 1]


def test_show_is_what_apply_takes_back(fake: FakeCoordinator) -> None:
    definition = yamlform.load(TEXT, "").definition
    stored = pb.SagaDefinition()
    stored.CopyFrom(definition)
    stored.version = 3
    fake.answers["GetDefinition"] = pb.GetDefinitionResponse(
        definition=stored, metadata=pb.DefinitionMetadata(create_time=at(0), deprecated=True)
    )
    shown = fake.run("definition", "show", "order_fulfillment", "--version", "3").stdout
    assert shown.startswith("# version 3, registered 2026-09-21T14:13:20.000Z, deprecated\n")
    assert yamlform.load(shown, "").definition == stored
    assert fake.asked("GetDefinition") == pb.GetDefinitionRequest(name="order_fulfillment", version=3)
    as_json = json.loads(fake.run("definition", "show", "order_fulfillment", "-o", "json").stdout)
    assert as_json["definition"]["steps"][0]["participant"] == "inventory"
    assert as_json["metadata"]["deprecated"] is True


def test_deprecate(fake: FakeCoordinator) -> None:
    old = entry(1, deprecated=True)
    fake.answers["DeprecateDefinition"] = pb.DeprecateDefinitionResponse(
        definition=old.definition, metadata=old.metadata
    )
    result = fake.run("definition", "deprecate", "order_fulfillment", "--version", "1")
    assert result.stdout == "order_fulfillment version 1 deprecated; 5 unfinished sagas run on\n"
    assert fake.asked("DeprecateDefinition") == pb.DeprecateDefinitionRequest(name="order_fulfillment", version=1)
    assert fake.run("definition", "deprecate", "order_fulfillment").exit_code == ExitCode.USAGE
