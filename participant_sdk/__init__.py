"""Write a participant of sagas: typed actions, a barrier that makes their effects happen once, a gRPC server.

    class ReserveStock(Action[pb.ReserveStockRequest, pb.Reservation]):
        "Holds stock for an order."
        kinds = (RESERVABLE,)

        async def execute(self, request: pb.ReserveStockRequest, step: Step) -> pb.Reservation: ...
        async def compensate(
            self, request: pb.ReserveStockRequest, output: pb.Reservation | None, step: Step
        ) -> None: ...

        async def confirm(self, request: pb.ReserveStockRequest, output: pb.Reservation, step: Step) -> None: ...

    inventory = Participant("inventory", actions=[ReserveStock()], barrier=SqliteBarrier("inventory.db"))
    await inventory.serve("127.0.0.1:50061")

`participant_sdk.client` starts and follows sagas, `participant_sdk.testing` tests actions without a network. The SDK
knows the contract (`saga.v1`) and nothing of the coordinator behind it.
"""

from participant_sdk.action import COMPENSATABLE, PIVOT, READ_ONLY, RESERVABLE, RETRIABLE, Action
from participant_sdk.barrier import AiosqliteBarrier, Barrier, MemoryBarrier, NoBarrier, SqliteBarrier
from participant_sdk.client import CoordinatorClient, Waited, unpack
from participant_sdk.errors import SagaError
from participant_sdk.outcome import Held, Noop, Pending, Rejected
from participant_sdk.server import Participant
from participant_sdk.step import Step
from participant_sdk.transaction import AiosqliteTransaction, MemoryTransaction, SqliteTransaction

__all__ = [
    "COMPENSATABLE",
    "PIVOT",
    "READ_ONLY",
    "RESERVABLE",
    "RETRIABLE",
    "Action",
    "AiosqliteBarrier",
    "AiosqliteTransaction",
    "Barrier",
    "CoordinatorClient",
    "Held",
    "MemoryBarrier",
    "MemoryTransaction",
    "NoBarrier",
    "Noop",
    "Participant",
    "Pending",
    "Rejected",
    "SagaError",
    "SqliteBarrier",
    "SqliteTransaction",
    "Step",
    "Waited",
    "unpack",
]
