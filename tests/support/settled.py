"""What must be so once every saga has ended, whatever happened before. It must not know what the sagas are about."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from participant_sdk.barrier.rules import State
from saga.v1.coordinator_pb2 import Saga
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED

STANDS: Final = {
    SAGA_STATE_COMPLETED: {State.COMPLETED, State.CONFIRMED},
    SAGA_STATE_COMPENSATED: {State.REJECTED, State.COMPENSATED, State.BARRED},
}
"""How the steps of an ended saga may stand with the participants."""


def turns_by_key(ended: Iterable[Saga]) -> dict[str, list[tuple[int, int]]]:
    """Return for each exclusive key from when to when sagas had it, in nanoseconds, in order."""
    turns: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for saga in ended:
        for key in saga.exclusive_keys:
            turns[key].append((saga.start_time.ToNanoseconds(), saga.end_time.ToNanoseconds()))
    return {key: sorted(spans) for key, spans in turns.items()}


def overlapping(turns: dict[str, list[tuple[int, int]]]) -> Iterator[str]:
    """Yield the keys that two sagas had at the same time (rule 6)."""
    for key, spans in turns.items():
        if any(end > next_start for (_, end), (next_start, _) in pairwise(spans)):
            yield key
