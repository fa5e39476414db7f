"""What a participant answered to each delivery of each call: how many it had seen before, and answered as before.

The barrier's promise (G2, G8), seen from the wire: once an operation of a step is done, every further delivery of it
gets the same bytes; only an Execute that comes after its Compensate is refused instead, as BARRED.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeAlias

from saga.v1.participant_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ConfirmRequest,
    ConfirmResponse,
    ExecuteRequest,
    ExecuteResponse,
)

SERVICE: Final = "saga.v1.ParticipantService"

Request: TypeAlias = type[ExecuteRequest | CompensateRequest | ConfirmRequest]
Response: TypeAlias = ExecuteResponse | CompensateResponse | ConfirmResponse

_REQUESTS: Final[Mapping[str, Request]] = {
    f"/{SERVICE}/Execute": ExecuteRequest,
    f"/{SERVICE}/Compensate": CompensateRequest,
    f"/{SERVICE}/Confirm": ConfirmRequest,
}
_RESPONSES: Final[Mapping[Request, type[Response]]] = {
    ExecuteRequest: ExecuteResponse,
    CompensateRequest: CompensateResponse,
    ConfirmRequest: ConfirmResponse,
}
_DONE: Final = frozenset({"completed", "compensated", "confirmed"})


def is_operation(method: str) -> bool:
    """Whether a method of a participant works on a step."""
    return method in _REQUESTS


class Deliveries:
    """The answers that a participant gave, and what is wrong with them."""

    def __init__(self) -> None:
        self.suppressed = Counter[str]()
        """Deliveries of what was done before, by who delivered them again."""
        self.problems: list[str] = []
        self._done: dict[str, bytes] = {}

    def answered(self, method: str, request: bytes, reply: bytes, deliverer: str) -> None:
        """Take note of an answer. `deliverer` says who sent the call, where it is not the first one."""
        kind = _REQUESTS[method]
        context = kind.FromString(request).context
        response = _RESPONSES[kind].FromString(reply)
        outcome = response.WhichOneof("outcome")
        first = self._done.get(context.idempotency_key)
        if first is None:
            if outcome in _DONE:
                self._done[context.idempotency_key] = reply
        elif reply == first or (kind is ExecuteRequest and _is_barred(response)):
            self.suppressed[deliverer] += 1
        else:
            self.problems.append(f"{context.idempotency_key}, attempt {context.attempt}: done, and then {outcome}")


def _is_barred(response: Response) -> bool:
    return response.WhichOneof("outcome") == "rejected" and response.rejected.reason == "BARRED"
