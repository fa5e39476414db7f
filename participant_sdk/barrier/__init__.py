"""The barrier: what makes an effect happen once, whatever is retried, delayed or reordered.

`rules` is the pure state machine, `barrier` drives it over a `store`; `sqlite`, `aio_sqlite` and `memory` are stores.
"""

from participant_sdk.barrier.aio_sqlite import AiosqliteBarrier
from participant_sdk.barrier.base import Barrier, NoBarrier
from participant_sdk.barrier.memory import MemoryBarrier
from participant_sdk.barrier.sqlite import SqliteBarrier

__all__ = ["AiosqliteBarrier", "Barrier", "MemoryBarrier", "NoBarrier", "SqliteBarrier"]
