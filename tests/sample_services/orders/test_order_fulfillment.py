"""`order_fulfillment.yaml` fits the services: every expression type-checks against what they describe."""

from pathlib import Path

from coordinator.dataflow import yamlform
from coordinator.dataflow.check import check
from sample_services.orders import demo, inventory, payment, shipping
from sample_services.orders.card_gateway import CardGateway
from sample_services.orders.v1.orders_pb2 import Order


def test_the_definition_fits_the_services(tmp_path: Path) -> None:
    [path] = demo.Orders(tmp_path).definitions()
    text = yamlform.load(path.read_text(encoding="utf-8"), path.name)
    participants = (
        inventory.participant(tmp_path / "inventory.db"),
        payment.participant(tmp_path / "payment.db", CardGateway(tmp_path / "gateway.db")),
        shipping.participant(tmp_path / "shipping.db"),
    )

    checked = check(text.definition, {each.name: each.description for each in participants})

    assert [str(text.locate(problem)) for problem in checked.problems] == []
    assert text.definition.input_type == Order.DESCRIPTOR.full_name
