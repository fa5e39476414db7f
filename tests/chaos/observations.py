"""What clients were told, and whether it fits together: nothing that was shown once may be taken back (G1, G10).

It must not know how it was asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from saga.v1.coordinator_pb2 import Saga
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SAGA_STATE_FAILED, SagaState
from sample_services.transfer.v1.transfer_pb2 import Transfer
from tests.chaos.ledger import Problem, Wrong
from tests.chaos.transfers import Wish

ENDED: Final = frozenset({SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED})


@dataclass(slots=True)
class Observations:
    """All that the clients of a round know."""

    wishes: dict[str, Wish] = field(default_factory=dict)
    """Every transfer that was ever asked for."""
    wanted: dict[str, Transfer] = field(default_factory=dict)
    """The same, as the banks should see them."""
    uids: dict[str, str] = field(default_factory=dict)
    """The acknowledged ones."""
    ended: dict[str, SagaState.ValueType] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    """Those that somebody asked to cancel, whatever came of it."""
    events: dict[str, list[SagaEvent]] = field(default_factory=dict)
    """What was watched."""
    problems: list[Problem] = field(default_factory=list)
    _sequences: dict[str, int] = field(default_factory=dict)

    def wish(self, wish: Wish) -> None:
        """A transfer is about to be asked for."""
        self.wishes[wish.saga_id] = wish
        self.wanted[wish.saga_id] = wish.transfer

    def see(self, saga: Saga) -> None:
        """A saga was shown, by a call that began after the one before had ended."""
        if self.uids.setdefault(saga.saga_id, saga.uid) != saga.uid:
            self._report(Wrong.DOUBLED, saga.saga_id, f"it was {self.uids[saga.saga_id]}, and is {saga.uid}")
        seen = self._sequences.get(saga.saga_id, 0)
        if saga.last_sequence < seen:
            self._report(Wrong.LOST, saga.saga_id, f"it was at event {seen}, and is at {saga.last_sequence}")
        self._sequences[saga.saga_id] = max(seen, saga.last_sequence)
        if saga.state in ENDED:
            self._end(saga.saga_id, saga.state)
        elif saga.saga_id in self.ended:
            self._report(Wrong.UNTRUE, saga.saga_id, f"it had ended, and is {SagaState.Name(saga.state)}")
        if saga.state == SAGA_STATE_FAILED:
            self._report(Wrong.UNTRUE, saga.saga_id, f"it stands FAILED: {saga.failure}")

    def watch(self, event: SagaEvent, state: SagaState.ValueType) -> None:
        """An event of a saga was shown to the one who watches it."""
        events = self.events.setdefault(event.saga_id, [])
        events.append(event)
        if event.sequence != len(events):
            self._report(Wrong.LOST, event.saga_id, f"after event {len(events) - 1} came {event.sequence}")
        self._sequences[event.saga_id] = max(event.sequence, self._sequences.get(event.saga_id, 0))
        if state in ENDED:
            self._end(event.saga_id, state)

    def compare(self, journal: Mapping[str, Sequence[SagaEvent]]) -> Iterator[Problem]:
        """Yield where what was watched is not what the journal has in the end (G1)."""
        for saga_id, watched in self.events.items():
            kept = journal.get(saga_id, ())
            if list(kept[: len(watched)]) != watched:
                yield Problem(Wrong.LOST, saga_id, "events that were shown are not those in the journal")

    def report(self, saga_id: str, text: str) -> None:
        """Something was answered that should not have been."""
        self._report(Wrong.UNTRUE, saga_id, text)

    def _end(self, saga_id: str, state: SagaState.ValueType) -> None:
        if self.ended.setdefault(saga_id, state) != state:
            known = SagaState.Name(self.ended[saga_id])
            self._report(Wrong.UNTRUE, saga_id, f"it was {known}, and is {SagaState.Name(state)}")

    def _report(self, wrong: Wrong, saga_id: str, text: str) -> None:
        self.problems.append(Problem(wrong, saga_id, text))
