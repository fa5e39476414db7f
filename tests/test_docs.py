"""What the documents show works: the README's participant, definitions, configurations, every link."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator import config as configuration
from coordinator.cli import app
from coordinator.core.definition import check_structure
from coordinator.dataflow.check import check
from coordinator.dataflow.yamlform import load
from participant_sdk.testing import ActionHarness
from saga.v1.participant_pb2 import DescribeResponse
from sample_services.orders import inventory, payment, shipping
from sample_services.orders.card_gateway import CardGateway
from sample_services.orders.v1.inventory_pb2 import ReserveStockRequest
from sample_services.orders.v1.orders_pb2 import OrderLine

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("sample_services/**/*.md")])
README = (ROOT / "README.md").read_text()
ORDER_FULFILLMENT = ROOT / "sample_services/orders/order_fulfillment.yaml"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shown(command: str) -> list[str]:
    """The lines that the README shows after a command, those that it leaves out left out, spaces made one."""
    [session] = [block for block in blocks(README, "console") if block.startswith(f"$ {command}")]
    return [" ".join(line.split()) for line in session.splitlines()[1:] if line.strip() != "…"]


def anchors(text: str) -> set[str]:
    """What links can point at: the headings as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def descriptions(tmp_path: Path) -> dict[str, DescribeResponse | None]:
    """What the order services say of themselves."""
    gateway = CardGateway(tmp_path / "gateway.db")
    participants = (
        inventory.participant(tmp_path / "inventory.db"),
        payment.participant(tmp_path / "payment.db", gateway),
        shipping.participant(tmp_path / "shipping.db"),
    )
    return {participant.name: participant.description for participant in participants}


async def test_the_readme_participant_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = blocks(README, "python")
    assert len(code.splitlines()) <= 26
    shown: dict[str, object] = {}
    exec(code, shown)
    async with ActionHarness(shown["inventory"]) as harness:  # type: ignore[arg-type]  # it is a Participant
        few = ReserveStockRequest(order_id="1", lines=[OrderLine(sku="cup", quantity=5)])
        assert (await harness.execute(few, saga_uid="one")).completed.output.Is(shown["Reservation"].DESCRIPTOR)  # type: ignore[attr-defined]
        assert (await harness.compensate(few, saga_uid="one")).HasField("compensated")
        many = ReserveStockRequest(order_id="2", lines=[OrderLine(sku="cup", quantity=6)])
        assert (await harness.execute(many, saga_uid="two")).rejected.reason == "OUT_OF_STOCK"


def test_the_readme_saga_is_a_valid_definition(descriptions: dict[str, DescribeResponse | None]) -> None:
    [text] = blocks(README, "yaml")
    assert check(load(text, "README.md").definition, descriptions).problems == ()


def test_the_sample_definition_is_valid(descriptions: dict[str, DescribeResponse | None]) -> None:
    path = ROOT / "sample_services/orders/order_fulfillment.yaml"
    assert check(load(path.read_text(), path.name).definition, descriptions).problems == ()


def test_the_guide_shows_well_formed_definitions() -> None:
    whole, keys, attempts, child = blocks((ROOT / "docs/definitions.md").read_text(), "yaml")
    head = "name: d\ninput_type: a.B\n"
    plain = "steps:\n  - name: s\n    participant: p\n    action: A\n    input: input\n"
    before_a_child = "order: GRAPH\n" + plain.replace("name: s", "name: open")
    for text in (whole, head + keys + plain, head + plain + attempts, head + before_a_child + child):
        assert check_structure(load(text, "definitions.md").definition) == []


def test_the_guide_shows_the_marketplaces_child() -> None:
    child = blocks((ROOT / "docs/definitions.md").read_text(), "yaml")[-1]
    path = ROOT / "sample_services/marketplace/marketplace_order.yaml"
    [shown] = load(f"name: d\nsteps:\n{child}", "definitions.md").definition.steps
    assert shown in load(path.read_text(), path.name).definition.steps


def test_the_configurations_shown_can_be_used(tmp_path: Path) -> None:
    shown = blocks((ROOT / "docs/configuration.md").read_text(), "toml")
    assert shown
    for number, text in enumerate(shown):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        assert configuration.load(file).participants


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_into_a_document_leads_to_a_heading(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", document.read_text()):
        if not target.startswith("http"):
            file = document.parent / target if target else document
            assert anchor in anchors(file.read_text()), f"{document.name} links to {target}#{anchor}"


def test_every_decision_is_in_the_index() -> None:
    decisions = ROOT / "docs/decisions"
    index = (decisions / "README.md").read_text()
    for path in sorted(decisions.glob("0*.md")):
        title = path.read_text().splitlines()[0].removeprefix("# ")
        assert f"[{title}]({path.name})" in index


def test_every_guarantee_is_explained_and_cited_by_a_test() -> None:
    """G1–G14 each have a section, and a test that names them."""
    semantics = (ROOT / "docs/semantics.md").read_text()
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/*.py") if path != Path(__file__))
    for number in range(1, 15):
        assert re.search(rf"^## G{number} ", semantics, re.MULTILINE)
        assert re.search(rf"(?<![0-9A-Za-z])[Gg]{number}(?![0-9])", tests), f"no test cites G{number}"


def test_the_readme_shows_what_explore_says() -> None:
    said = CliRunner().invoke(app, ["explore", str(ORDER_FULFILLMENT), "--failures", "1"])
    lines = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert [line for line in shown("saga explore sample_services") if line not in lines] == []
