"""How properties draw their examples: by default the same ones each time, however busy the machine is.

SAGA_PROPERTY_EXAMPLES=n draws n new ones for each property, for as long as one likes.
"""

import os
from typing import Final

from hypothesis import HealthCheck, settings

EXAMPLES: Final = int(os.environ.get("SAGA_PROPERTY_EXAMPLES", "0"))
"""How many were asked for; 0 where nobody asked."""

DRAWN: Final = settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,  # a slow machine is not a defect
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],  # a run is as long as its tape
)
"""How every property draws that says nothing else."""


def drawing(examples: int) -> settings:
    """So many examples by default. Decorates a test."""
    return settings(DRAWN, max_examples=EXAMPLES or examples)
