"""`order_fulfillment.yaml` fits the services: every expression type-checks against what they describe."""

from pathlib import Path

from sample_services.orders import demo, inventory, payment, shipping
from sample_services.orders.card_gateway import CardGateway
from tests.sample_services.definitions import problems


def test_the_definition_fits_the_services(tmp_path: Path) -> None:
    [path] = demo.Orders(tmp_path).definitions()
    participants = (
        inventory.participant(tmp_path / "inventory.db"),
        payment.participant(tmp_path / "payment.db", CardGateway(tmp_path / "gateway.db")),
        shipping.participant(tmp_path / "shipping.db"),
    )
    assert problems(path, participants) == []
