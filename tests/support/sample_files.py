"""The files that the samples bring along, beside their code."""

from pathlib import Path
from typing import Final

_SAMPLES: Final = Path(__file__).parents[2] / "sample_services"

CONFORMANCE: Final = sorted(_SAMPLES.glob("*/*.conformance.yaml"))
"""How each service can be tried by `saga conform`."""
DEFINITIONS: Final = sorted(set(_SAMPLES.glob("*/*.yaml")) - set(CONFORMANCE))
"""The definitions of sagas."""
