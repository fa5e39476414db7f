"""`book_trip.yaml` fits the services: every expression type-checks against what they describe."""

from pathlib import Path

from sample_services.travel import cars, demo, flights, hotels, itinerary, payment
from tests.sample_services.definitions import problems


def test_the_definition_fits_the_services(tmp_path: Path) -> None:
    [path] = demo.Travel(tmp_path).definitions()
    modules = (flights, hotels, cars, payment, itinerary)
    assert problems(path, [module.participant(tmp_path / "any.db") for module in modules]) == []
