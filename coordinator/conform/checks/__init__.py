"""The checks, by what they are about. `CHECKS` is all of them, in the order in which they are made and shown.

An id never changes its meaning: pipelines name it in --skip.
"""

from collections.abc import Sequence
from typing import Final

from coordinator.conform.check import Check
from coordinator.conform.checks import compensate, confirm, describe, exchange, execute, malformed, outcomes, restart

CHECKS: Final[Sequence[Check]] = (
    *describe.CHECKS,
    *execute.CHECKS,
    *outcomes.CHECKS,
    *compensate.CHECKS,
    *confirm.CHECKS,
    *malformed.CHECKS,
    *exchange.CHECKS,
    *restart.CHECKS,
)
