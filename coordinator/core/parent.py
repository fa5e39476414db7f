"""What a saga that runs as a step of another is told by its parent (rule 9).

Such a child leaves the last word to its parent where it can: while it is `held` its parent confirms it or takes it
back, and also when it has COMPLETED it can be taken back, unless it contains a point of no return of its own. What its
state does not allow is Forbidden. This module must not change the saga.
"""

from __future__ import annotations

from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import ParentConfirmed, ParentWentBack
from coordinator.core.state import Saga
from saga.v1.event_pb2 import CompensationStarted, PointOfNoReturnPassed
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, SAGA_STATE_PENDING, SAGA_STATE_RUNNING, SagaState


def went_back(saga: Saga, told: ParentWentBack) -> list[CompensationStarted]:
    """The child goes back, wherever it stands; one that already does is left as it is."""
    if saga.turned_back:
        return []
    under_way = saga.state in (SAGA_STATE_PENDING, SAGA_STATE_RUNNING) and not saga.committed
    if under_way or (saga.state == SAGA_STATE_COMPLETED and saga.parent_decides and not saga.past_no_return):
        return [CompensationStarted(cause=told.cause)]
    raise Forbidden(f"the saga stands {_name(saga)} behind its point of no return", "it is not compensated any more")


def confirmed(saga: Saga, _told: ParentConfirmed) -> list[PointOfNoReturnPassed]:
    """The child's holds become final; once they do, being told again changes nothing."""
    if saga.past_no_return:
        return []
    if saga.held:
        return [PointOfNoReturnPassed()]
    raise Forbidden(f"the saga stands {_name(saga)}", "a saga is confirmed when all its steps are done")


def _name(saga: Saga) -> str:
    return SagaState.Name(saga.state).removeprefix("SAGA_STATE_")
