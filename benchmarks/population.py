"""A journal as one grows in production: most sagas completed, some compensated, a few waiting for an operator.

Every saga follows from its number alone, so that a journal of one size is always the same. This module must not write
anything: it says what to append.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import UUID

from coordinator.core.instants import to_timestamp
from coordinator.journal.port import Append, SagaIndex
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_REJECTED,
    FAILURE_KIND_UNAVAILABLE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
    Failure,
    SagaState,
)

EPOCH_NS: Final = 1_760_000_000_000_000_000
APART_NS: Final = 50_000_000  # twenty sagas a second: a million are half a day
TAKES_NS: Final = 2_000_000_000

DEFINITIONS: Final = 20
VERSIONS: Final = 3
STEPS: Final = 3
PARTICIPANTS: Final = tuple(f"participant-{number}" for number in range(12))
SAGAS_PER_CUSTOMER: Final = 100
ACCOUNTS: Final = 500

IN_US_ONLY: Final = DEFINITIONS - 1  # a definition whose sagas have no other region
LONG_GONE: Final = "gift_voucher"  # the definition of the very first saga, and of no other
FIRST_FAILURE: Final = "voucher 4711 has lapsed"  # and what went wrong with it

# Of 100,000 sagas, the states of those that are not simply COMPLETED.
_STATES: Final = (
    (800, SAGA_STATE_COMPENSATED),
    (25, SAGA_STATE_FAILED),
    (50, SAGA_STATE_RUNNING),
    (15, SAGA_STATE_COMPENSATING),
    (10, SAGA_STATE_PENDING),
)
_REASONS: Final = ("NO_FUNDS", "OUT_OF_STOCK", "ADDRESS_UNKNOWN", "FRAUD_SUSPECTED")
_ENDED: Final = (SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED)
_WENT_WRONG: Final = (SAGA_STATE_COMPENSATED, SAGA_STATE_COMPENSATING, SAGA_STATE_FAILED)


@dataclass(frozen=True, slots=True)
class Population:
    """A journal's sagas, oldest first. `all_ended`: none of them is left for a coordinator to go on with."""

    sagas: int
    all_ended: bool = False

    def appends(self) -> Iterator[Append]:
        """Each saga as one append, as an import writes it."""
        for number in range(self.sagas):
            index = self.index(number)
            yield Append(index.saga_id, _events(index), index)

    def index(self, number: int) -> SagaIndex:
        """What lists show of the saga of that number."""
        random = Random(number)  # to be alike every time, not to be secret
        created_ns = EPOCH_NS + number * APART_NS
        state = _state(random) if number else SAGA_STATE_COMPENSATED
        if self.all_ended and state not in _ENDED:
            state = SAGA_STATE_COMPLETED
        definition = random.randrange(DEFINITIONS)
        parent = saga_id(number - 1) if number and random.random() < 0.01 else ""
        return SagaIndex(
            saga_id=saga_id(number),
            uid=str(UUID(int=(created_ns // 1_000_000 << 80) | (7 << 76) | random.getrandbits(76))),
            definition=f"definition_{definition}" if number else LONG_GONE,
            version=1 + number * VERSIONS // self.sagas,
            state=state,
            create_time_ns=created_ns,
            last_sequence=2 + 2 * STEPS,
            start_time_ns=created_ns,
            end_time_ns=created_ns + TAKES_NS if state in _ENDED else None,
            deadline_ns=created_ns + 60 * TAKES_NS,
            needs_attention=state == SAGA_STATE_FAILED,
            paused=state == SAGA_STATE_RUNNING and random.random() < 0.4,
            overdue=random.random() < 0.0005,
            failure=_failure(number, random) if state in _WENT_WRONG else None,
            parent_saga_id=parent,
            labels={
                "order": f"{number:09}",
                "customer": str(random.randrange(-(-self.sagas // SAGAS_PER_CUSTOMER))),
                "region": "us" if definition == IN_US_ONLY else random.choice(("eu", "us")),
            },
            participants=tuple(PARTICIPANTS[(definition + place) % len(PARTICIPANTS)] for place in range(STEPS)),
            root_saga_id=parent,
            exclusive_keys=(f"account-{random.randrange(ACCOUNTS)}",) if random.random() < 0.005 else (),
        )


def saga_id(number: int) -> str:
    """The id of the saga of that number."""
    return f"order-{number:09}"


def _state(random: Random) -> SagaState.ValueType:
    drawn = random.randrange(100_000)
    for share, state in _STATES:
        drawn -= share
        if drawn < 0:
            return state
    return SAGA_STATE_COMPLETED


def _failure(number: int, random: Random) -> Failure:
    if number == 0:
        return Failure(kind=FAILURE_KIND_REJECTED, step="step_1", reason="LAPSED", message=FIRST_FAILURE)
    if random.random() < 0.2:
        return Failure(kind=FAILURE_KIND_UNAVAILABLE, step="step_2", message=f"connection {number} was refused")
    reason = random.choice(_REASONS)
    return Failure(kind=FAILURE_KIND_REJECTED, step="step_2", reason=reason, message=f"order {number:09}: {reason}")


def _events(index: SagaIndex) -> list[SagaEvent]:
    """Events of a usual number and size; which ones they are does not matter to a list."""
    events = [SagaEvent(), SagaEvent()]
    created = events[0].saga_created
    created.definition, created.version, created.uid = index.definition, index.version, index.uid
    created.input.type_url = "type.googleapis.com/shop.v1.Order"
    created.input.value = b"\0" * 60
    created.request_digest = b"\0" * 32
    created.labels.update(index.labels)
    events[1].saga_started.SetInParent()
    for step in range(1, STEPS + 1):
        started, completed = SagaEvent(), SagaEvent()
        started.attempt_started.step = completed.step_completed.step = f"step_{step}"
        started.attempt_started.input.value = completed.step_completed.output.value = b"\0" * 40
        events += [started, completed]
    for sequence, event in enumerate(events, 1):
        event.saga_id, event.sequence = index.saga_id, sequence
        event.time.CopyFrom(to_timestamp(index.create_time_ns + sequence))
    return events
