"""A participant on a real socket that keeps the contract, or breaks it in one way that a test names.

It runs on threads of its own, so that a command line with an event loop of its own can be tried against it.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any as Anything
from typing import TypeVar

import grpc
from google.protobuf.any_pb2 import Any

from coordinator.core.descriptors import closure
from coordinator.dataflow.types import encode
from saga.v1 import participant_pb2 as pb
from saga.v1.participant_pb2_grpc import ParticipantServiceServicer, add_ParticipantServiceServicer_to_server
from saga.v1.types_pb2 import Compensated, Completed, Confirmed, Rejected, StepKind
from sample_services.orders.v1 import inventory_pb2, orders_pb2

T = TypeVar("T")

INPUT = json.dumps({"order_id": "${saga_id}", "lines": [{"sku": "cup", "quantity": 1}]})

DEFINITION = """
name: errand
input_type: sample_services.orders.v1.Order
timeout: 2m
steps:
  - {name: hold, participant: shop, action: Act, kind: RESERVABLE, input: &request "ReserveStockRequest{order_id: input.order_id}"}
  - {name: pay, participant: shop, action: Act, kind: COMPENSATABLE, timeout: 1m, input: *request}
  - {name: send, participant: shop, action: Act, kind: PIVOT, input: *request}
  - {name: tell, participant: shop, action: Act, kind: RETRIABLE, input: *request}
output: "Order{order_id: input.order_id}"
"""  # noqa: E501  # one step in a line


class Defect(StrEnum):
    """What can be wrong with the shop."""

    FORGETS = "its compensation changes nothing, and says that it did"
    DOUBLES = "a repeated Execute takes effect again"
    LETS_THROUGH = "an Execute after its Compensate takes effect"
    CHANGES_ITS_MIND = "a rejected Execute takes effect when it is repeated"
    MUMBLES = "its reply to Execute has no outcome"
    TIRES = "it answers no Execute twice"
    REFUSES_TO_COMPENSATE = "it rejects each Compensate"


class Shop(ParticipantServiceServicer):
    """Counts its effects by saga and step, in memory and in a file. `out_of_stock` has steps that it refuses."""

    def __init__(self, ledger: Path, defect: Defect | None = None) -> None:
        self.effects: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.out_of_stock: set[str] = set()
        self.pending: set[str] = set()
        """Steps that are answered with pending, once each."""
        self.down: set[str] = set()
        """Steps whose Execute ends with UNAVAILABLE."""
        self.confused: set[str] = set()
        """Steps whose Execute ends with INVALID_ARGUMENT, once each."""
        self.slow: set[str] = set()
        """Steps whose Execute takes a moment."""
        self.overlapped = False
        """Two calls of Execute on one such step were under way at a time."""
        self._at_work: Counter[str] = Counter()
        self._ledger = ledger
        self._defect = defect
        self._answers: dict[str, pb.ExecuteResponse] = {}
        self._barred: set[str] = set()
        self._lock = threading.Lock()
        self._write()

    def Describe(self, _request: Anything, _context: Anything) -> pb.DescribeResponse:  # noqa: N802
        names = ("ReserveStockRequest", "Reservation")
        given, yielded = (inventory_pb2.DESCRIPTOR.message_types_by_name[name].full_name for name in names)
        kinds = [kind for kind in StepKind.values() if kind]
        act = pb.Action(name="Act", input_type=given, output_type=yielded, kinds=kinds)
        files = closure([inventory_pb2.DESCRIPTOR, orders_pb2.DESCRIPTOR])
        return pb.DescribeResponse(participant="shop", actions=[act], descriptors=files, barriered=True)

    def Execute(self, request: pb.ExecuteRequest, context: Anything) -> pb.ExecuteResponse:  # noqa: N802
        if request.context.step in self.slow:
            self._take_time(_row(request.context))
        with self._lock:
            return self._execute(request.context, context)

    def Compensate(self, request: pb.CompensateRequest, _context: Anything) -> pb.CompensateResponse:  # noqa: N802
        with self._lock:
            return self._compensate(request.context)

    def Confirm(self, request: pb.ConfirmRequest, _context: Anything) -> pb.ConfirmResponse:  # noqa: N802
        with self._lock:
            self.calls[f"{request.context.step} confirm"] += 1
            return pb.ConfirmResponse(confirmed=Confirmed())

    def Exchange(self, _requests: Anything, context: Anything) -> Anything:  # noqa: N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no fast lane")

    def _execute(self, step: pb.StepContext, context: Anything) -> pb.ExecuteResponse:
        self.calls[f"{step.step} execute"] += 1
        row = _row(step)
        if step.step in self.down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down for maintenance")
        if step.step in self.confused:
            self.confused.discard(step.step)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "what is this?")
        if row in self._answers and self._defect is Defect.TIRES:
            context.abort(grpc.StatusCode.UNAVAILABLE, "once is enough")
        if row in self._barred and self._defect is not Defect.LETS_THROUGH:
            return _rejected("BARRED")
        if row in self._answers and self._defect is not Defect.DOUBLES:
            return self._answers[row]
        if self._defect is Defect.MUMBLES:
            return pb.ExecuteResponse()
        if step.step in self.pending:
            self.pending.discard(step.step)
            return pb.ExecuteResponse(pending=pb.Pending())
        if step.step in self.out_of_stock:
            if self._defect is Defect.CHANGES_ITS_MIND:
                self.out_of_stock.discard(step.step)
            else:
                self._answers[row] = _rejected("OUT_OF_STOCK")
            return _rejected("OUT_OF_STOCK")
        self._take_effect(row)
        reservation = inventory_pb2.Reservation(reservation_id=f"{row}#{self.effects[row]}", total_cents=850)
        self._answers[row] = pb.ExecuteResponse(completed=Completed(output=encode(reservation)))
        return self._answers[row]

    def _compensate(self, step: pb.StepContext) -> pb.CompensateResponse:
        self.calls[f"{step.step} compensate"] += 1
        if self._defect is Defect.REFUSES_TO_COMPENSATE:
            return pb.CompensateResponse(rejected=Rejected(reason="TOO_LATE"))
        row = _row(step)
        noop = not self.effects[row]
        if row not in self._barred:
            self._barred.add(row)
            if self._defect is not Defect.FORGETS:
                self._take_back(row)
        return pb.CompensateResponse(compensated=Compensated(noop=noop))

    def _take_time(self, row: str) -> None:
        with self._lock:
            self._at_work[row] += 1
            self.overlapped |= self._at_work[row] > 1
        threading.Event().wait(0.2)
        with self._lock:
            self._at_work[row] -= 1

    def _take_effect(self, row: str) -> None:
        self.effects[row] += 1
        self._write()

    def _take_back(self, row: str) -> None:
        self.effects.pop(row, None)
        self._answers.pop(row, None)
        self._write()

    def _write(self) -> None:
        self._ledger.write_text(json.dumps(self.effects), encoding="utf-8")


@contextmanager
def serving(shop: Shop) -> Iterator[str]:
    """The shop behind a server; yields HOST:PORT."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    add_ParticipantServiceServicer_to_server(shop, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


CHECK = """
import json, os, sys
effects = json.load(open(sys.argv[1]))
mine = {row: count for row, count in effects.items() if row.startswith(os.environ["SAGA_ID"] + "/")}
saga = json.load(sys.stdin)
assert saga["sagaId"] == os.environ["SAGA_ID"]
steps = [] if os.environ["SAGA_STATE"] == "COMPENSATED" else saga["steps"]
wanted = {f"{saga['sagaId']}/{step['name']}": 1 for step in steps}
if mine != wanted:
    sys.exit(f"{mine} instead of {wanted} on {os.environ['SAGA_PATH']}")
"""
"""A check for users: it reads the shop's ledger."""


def _row(step: pb.StepContext) -> str:
    return f"{step.saga_id}/{step.step}"


def _rejected(reason: str) -> pb.ExecuteResponse:
    return pb.ExecuteResponse(rejected=Rejected(reason=reason))


def payload(total_cents: int = 0) -> Any:
    """An output of the shop."""
    return encode(inventory_pb2.Reservation(total_cents=total_cents))
