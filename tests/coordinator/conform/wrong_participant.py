"""A participant that keeps the contract, and can be told to break it in exactly one way: the twin of each check.

It is written over grpc alone, so that it shares nothing with the SDK. Its rows and effects are in a SQLite file, and
survive a kill where the fault lets them. In a process of its own: `python -m … --listen … --database … --fault NAME`.
"""

import argparse
import asyncio
import base64
import json
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from saga.v1.participant_pb2 import (
    Action,
    CompensateRequest,
    CompensateResponse,
    ConfirmRequest,
    ConfirmResponse,
    DescribeResponse,
    ExchangeCall,
    ExchangeLimits,
    ExchangeRequest,
    ExchangeResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga.v1.types_pb2 import STEP_KIND_PIVOT, STEP_KIND_RESERVABLE, STEP_KIND_UNSPECIFIED, Confirmed, StepKind
from sample_services.transfer.v1 import bank_pb2, transfer_pb2

HOLD, NOTE = "Hold", "Note"
REFUSED, SLOW = "refused", "slow"  # account ids that are treated so
WORK_S: Final = 0.004
LATE_S: Final = 0.1
SLOW_WORK_S: Final = 0.25  # so that calls overlap, and are lost while at work, on a busy machine too
KILLED_WORK_S: Final = 0.5  # and that a kill meets some of them
POLLS: Final = 2  # until what is slow is done
PARALLEL_MAX: Final = 7
IN_FLIGHT_MAX: Final = 8
DAY_S: Final = 86_400

FAULTS: Final = {
    "": "none: it keeps the contract",
    "no-types": "its descriptors are empty",
    "kind-unspecified": "an action's kind says nothing",
    "not-barriered": "it does not say that it is barriered",
    "no-retention": "it does not say how long it keeps keys",
    "short-retention": "it keeps keys for a day",
    "other-output": "the output is of another type",
    "no-effect": "it says completed and does nothing",
    "replays-differ": "each attempt gets a reply of its own",
    "executes-race": "two Executes of a step can both find it not done",
    "forgets-cancelled": "what is cancelled has its effect, and no row",
    "acts-late": "what is cancelled has its effect later, and no row",
    "forgets-overdue": "what is past its deadline has its effect, and no row",
    "mixes-keys": "one of many calls at once is refused",
    "any-input": "Execute takes another input for the same",
    "any-input-back": "Compensate takes another input for the same",
    "compares-bytes": "inputs are compared encoded",
    "refuses-otherwise": "a repeated refusal says something else",
    "refusal-sticks": "a refusal stands for later attempts too",
    "refusal-with-effect": "what is refused has its effect",
    "refused-not-barred": "Compensate of a refused step bars nothing",
    "pending-for-ever": "what is pending stays so",
    "pending-not-barred": "Compensate of a pending step bars nothing",
    "held-until-past": "a hold has lapsed before it begins",
    "not-compensated": "it says compensated and does nothing",
    "not-barred": "Execute runs again after Compensate",
    "compensates-again": "a repeated Compensate compensates again",
    "compensations-race": "two Compensates of a step can both find it not done",
    "needs-output": "Compensate of a completed step fails without its output",
    "first-not-noop": "Compensate without Execute is no noop",
    "first-not-barred": "Compensate without Execute bars nothing",
    "late-execute": "an Execute under way does not see a Compensate that came meanwhile",
    "refuses-confirm": "a hold cannot be confirmed",
    "confirms-once": "a repeated Confirm is refused",
    "confirm-keeps-nothing": "Confirm takes the effect away",
    "confirms-anything": "Confirm without Execute is confirmed",
    "confirms-pivots": "an action that is not RESERVABLE is confirmed",
    "runs-unknown": "an unknown action runs as another",
    "unknown-is-internal": "an unknown action is INTERNAL",
    "any-type": "the type of an input is not looked at",
    "garbage": "an input that does not decode is an empty one",
    "garbage-is-internal": "an input that does not decode is INTERNAL",
    "no-input": "no input is an empty one",
    "garbage-request": "a request that does not decode is completed",
    "no-context": "a request without a context is completed",
    "no-key": "a request without a key is completed",
    "any-size": "a request can have any size",
    "oversized-with-effect": "what is too large is refused after its effect",
    "forgets-completed": "completed rows are gone after a kill",
    "forgets-bars": "bars are gone after a kill",
    "effect-before-row": "the effect is committed before the row",
    "no-lane": "the fast lane is not offered, which is no fault",
    "lane-silent": "the fast lane's greeting is not answered",
    "lane-first-only": "of the calls in one message only the first is answered",
    "lane-drops-excess": "calls beyond its limit are not answered",
    "lane-drops-empty": "a call that asks for nothing is not answered",
    "lane-empty-is-internal": "a call that asks for nothing is INTERNAL",
    "lane-takes-duplicates": "an id can be used by two calls at once",
    "lane-takes-garbage": "a message that does not decode is passed over",
    "lane-garbage-is-internal": "a message that does not decode ends the stream with INTERNAL",
    "lane-drops-drain": "a stream that drains ends before its answers",
}

WORK_S_OF: Final = {
    "acts-late": SLOW_WORK_S,
    "compensations-race": SLOW_WORK_S,
    "effect-before-row": KILLED_WORK_S,
    "executes-race": SLOW_WORK_S,
    "forgets-cancelled": SLOW_WORK_S,
    "forgets-overdue": SLOW_WORK_S,
    "late-execute": SLOW_WORK_S,
    "mixes-keys": SLOW_WORK_S,
}

_SCHEMA: Final = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""


class Refusal(Exception):
    """The call ends with this status."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def status(self) -> Status:
        info = AnyMessage()
        info.Pack(ErrorInfo(reason=self.reason, domain="saga.v1"))
        return Status(code=self.code.value[0], message=self.reason, details=[info])


class WrongParticipant:
    """Serves `Hold` (RESERVABLE) and `Note` (PIVOT), with at most one fault."""

    def __init__(self, database: Path, fault: str) -> None:
        assert fault in FAULTS
        self._fault = fault
        self._work_s = WORK_S_OF.get(fault, WORK_S)
        self._directory = database.parent
        self._database = sqlite3.connect(database, isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._under_way = 0
        for state in {"forgets-completed": ("COMPLETED",), "forgets-bars": ("BARRED",)}.get(fault, ()):
            self._database.execute("DELETE FROM rows WHERE row ->> 'state' = ?", (state,))

    def close(self) -> None:
        self._database.close()

    def handlers(self) -> grpc.GenericRpcHandler:
        methods = {"Execute": self._execute, "Compensate": self._compensate, "Confirm": self._confirm}
        behaviors = {name: self._guarded(method) for name, method in methods.items()} | {"Describe": self._describe}
        unary: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in behaviors.items()}
        exchange: Any = Exchange(methods, self._fault).serve
        streams: dict[str, Any] = {"Exchange": grpc.stream_stream_rpc_method_handler(exchange)}
        return grpc.method_handlers_generic_handler("saga.v1.ParticipantService", unary | streams)

    def _guarded(self, method: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
        async def behavior(data: bytes, context: Any) -> bytes:
            try:
                return await method(data, context)
            except Refusal as refusal:
                details = (("grpc-status-details-bin", refusal.status().SerializeToString()),)
                await context.abort(refusal.code, refusal.reason, details)
                raise

        return behavior

    async def _describe(self, _data: bytes, _context: Any) -> bytes:
        more = [STEP_KIND_UNSPECIFIED] if self._is("kind-unspecified") else []
        hold = _described(HOLD, [STEP_KIND_RESERVABLE, *more], bank_pb2.DebitAccountRequest(), bank_pb2.Debit())
        note = _described(NOTE, [STEP_KIND_PIVOT], bank_pb2.SettleTransferRequest(), bank_pb2.Settlement())
        described = DescribeResponse(
            participant="wrong",
            actions=[hold, note],
            barriered=self._fault != "not-barriered",
            exchange=None if self._is("no-lane") else ExchangeLimits(max_in_flight=IN_FLIGHT_MAX),
        )
        if self._fault != "no-retention":
            described.key_retention.seconds = DAY_S * (1 if self._fault == "short-retention" else 400)
        if self._fault != "no-types":
            for file in (transfer_pb2.DESCRIPTOR, bank_pb2.DESCRIPTOR):
                content = FileDescriptorProto()
                file.CopyToProto(content)
                described.descriptors.file.append(content)
        return described.SerializeToString()

    # Execute.

    async def _execute(self, data: bytes, context: Any) -> bytes:
        request, message = self._read(ExecuteRequest, data)
        if request is None:
            return self._completed(message, "nobody", 1)
        if self._fault == "oversized-with-effect" and len(data) > 4 << 20:
            self._add_effect(request, 1)
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
        self._under_way += 1
        try:
            if self._fault == "mixes-keys" and self._under_way >= PARALLEL_MAX:
                return _rejected(ExecuteResponse, "BUSY")
            return await self._execute_checked(request, message, context)
        except asyncio.CancelledError:
            lost = "forgets-overdue" if context.time_remaining() < 1 else "forgets-cancelled"
            if self._fault == lost:
                self._add_effect(request, 1)
            if self._is("acts-late"):
                asyncio.get_running_loop().call_later(LATE_S, self._add_effect, request, 1)
            raise
        finally:
            self._under_way -= 1

    async def _execute_checked(self, request: ExecuteRequest, message: Any, context: Any) -> bytes:
        racing = self._fault in ("executes-race", "late-execute")
        if not racing:
            async with self._locks[_key(request)]:
                if self._fault == "effect-before-row" and self._load(request, "Execute", message) is None:
                    self._add_effect(request, 1)
                    return await asyncio.shield(self._work(request, message, self._load(request, "Execute", message)))
                return await self._work(request, message, self._load(request, "Execute", message))
        async with self._locks[_key(request)]:
            row = self._load(request, "Execute", message)
        await asyncio.sleep(self._work_s)
        async with self._locks[_key(request)]:
            now = self._load(request, "Execute", message)
            ignored = "COMPLETED" if self._fault == "executes-race" else "BARRED"
            return self._carried_out(request, message, row if now and now["state"] == ignored else now)

    async def _work(self, request: ExecuteRequest, message: Any, row: dict[str, Any] | None) -> bytes:
        if row is None:
            await asyncio.sleep(self._work_s)
        return self._carried_out(request, message, row)

    def _carried_out(self, request: ExecuteRequest, message: Any, row: dict[str, Any] | None) -> bytes:
        attempt = request.context.attempt
        state = row["state"] if row else ""
        if row and state in ("COMPLETED", "CONFIRMED"):
            return self._completed(message, _key(request), attempt) if self._is("replays-differ") else _stored(row)
        if row and state in ("BARRED", "COMPENSATED") and not (state == "COMPENSATED" and self._is("not-barred")):
            return _rejected(ExecuteResponse, "BARRED")
        if row and state == "REJECTED" and (attempt <= row["attempt"] or self._is("refusal-sticks")):
            again = _rejected(ExecuteResponse, "REFUSED", f"attempt {attempt}")
            return again if self._is("refuses-otherwise") else _stored(row)
        if self._is_refused(message):
            reply = _rejected(ExecuteResponse, "REFUSED")
            self._save(request, "REJECTED", reply)
            if self._is("refusal-with-effect"):
                self._add_effect(request, 1)
            return reply
        polls = row["polls"] if row and state == "PENDING" else 0
        if _account(message) == SLOW and (polls < POLLS or self._is("pending-for-ever")):
            pending = ExecuteResponse()
            pending.pending.poll_after.FromMilliseconds(10)
            self._save(request, "PENDING", b"", polls=polls + 1)
            return pending.SerializeToString()
        reply = self._completed(message, _key(request), attempt)
        self._save(request, "COMPLETED", reply)
        if not self._is("no-effect") and not (self._is("effect-before-row") and row is None):
            self._add_effect(request, 1)
        return reply

    def _completed(self, message: Any, key: str, attempt: int) -> bytes:
        reply = ExecuteResponse()
        named = f"{key}/{attempt}" if self._is("replays-differ") else key
        is_note = isinstance(message, bank_pb2.SettleTransferRequest) != self._is("other-output")
        reply.completed.output.Pack(
            bank_pb2.Settlement(settlement_id=named) if is_note else bank_pb2.Debit(debit_id=named)
        )
        if not is_note:
            reply.completed.hold_until.FromSeconds(1 if self._is("held-until-past") else 1 << 33)
        return reply.SerializeToString(deterministic=True)

    # Compensate and Confirm.

    async def _compensate(self, data: bytes, _context: Any) -> bytes:
        request, message = self._read(CompensateRequest, data)
        async with self._locks[_key(request)]:
            row = self._load(request, "Compensate", message)
            if not self._is("compensations-race"):
                return self._compensated(request, row)
        await asyncio.sleep(self._work_s)
        return self._compensated(request, row)

    def _compensated(self, request: CompensateRequest, row: dict[str, Any] | None) -> bytes:
        state = row["state"] if row else ""
        if state == "CONFIRMED":
            return _rejected(CompensateResponse, "CONFIRMED")
        if row and state in ("COMPENSATED", "BARRED"):
            if self._is("compensates-again"):
                self._add_effect(request, -1)
            return _stored(row, "compensate")
        if state == "COMPLETED" and self._is("needs-output") and not request.HasField("output"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "NO_OUTPUT")
        reply = CompensateResponse()
        reply.compensated.noop = state in ("", "REJECTED") and not (state == "" and self._is("first-not-noop"))
        body = reply.SerializeToString(deterministic=True)
        if state == "COMPLETED" and not self._is("not-compensated"):
            self._add_effect(request, -1)
        if {"": "first-not-barred", "REJECTED": "refused-not-barred", "PENDING": "pending-not-barred"}.get(
            state
        ) != self._fault or not self._fault:
            self._save(request, "COMPENSATED" if state == "COMPLETED" else "BARRED", b"", compensate=body)
        return body

    async def _confirm(self, data: bytes, _context: Any) -> bytes:
        request, message = self._read(ConfirmRequest, data)
        if request.context.action == NOTE and not self._is("confirms-pivots"):
            raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "NOT_RESERVABLE")
        async with self._locks[_key(request)]:
            row = self._load(request, "Confirm", message)
            state = row["state"] if row else ""
            body = ConfirmResponse(confirmed=Confirmed()).SerializeToString()
            if state == "CONFIRMED" and not self._is("confirms-once"):
                return body
            if self._is("refuses-confirm") or (state != "COMPLETED" and not self._is("confirms-anything")):
                return _rejected(ConfirmResponse, "NOT_EXECUTED")
            if row:
                self._save(request, "CONFIRMED", _stored(row))
                self._add_effect(request, -1 if self._is("confirm-keeps-nothing") else 0)
            return body

    # Requests, rows, effects.

    def _is(self, fault: str) -> bool:
        return self._fault == fault

    def _read(self, kind: Any, data: bytes) -> tuple[Any, Message]:
        """The request and its decoded input; no request where a fault lets a broken one pass."""
        invalid = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        try:
            request = kind.FromString(data)
        except DecodeError:
            if self._is("garbage-request"):
                return None, bank_pb2.DebitAccountRequest()
            raise invalid from None
        context = request.context
        if not request.HasField("context") and self._is("no-context"):
            return None, bank_pb2.DebitAccountRequest()
        if not context.saga_uid or not context.step or not (context.idempotency_key or self._is("no-key")):
            raise invalid
        if context.action not in (HOLD, NOTE) and not self._is("runs-unknown"):
            code = grpc.StatusCode.INTERNAL if self._is("unknown-is-internal") else grpc.StatusCode.UNIMPLEMENTED
            raise Refusal(code, "UNKNOWN_ACTION")
        is_note = context.action == NOTE
        message: Message = bank_pb2.SettleTransferRequest() if is_note else bank_pb2.DebitAccountRequest()
        if not request.HasField("input") and not self._is("no-input"):
            raise invalid
        wrong_type = request.input.TypeName() != message.DESCRIPTOR.full_name
        if wrong_type and request.HasField("input") and not self._is("any-type"):
            raise invalid
        try:
            message.ParseFromString(request.input.value)
        except DecodeError:
            message.Clear()
            if self._is("garbage-is-internal"):
                raise Refusal(grpc.StatusCode.INTERNAL, "OOPS") from None
            if not self._is("garbage"):
                raise invalid from None
        return request, message

    def _load(self, request: Any, operation: str, message: Message) -> dict[str, Any] | None:
        found = self._database.execute("SELECT row FROM rows WHERE key = ?", (_key(request),)).fetchone()
        if found is None:
            return None
        row: dict[str, Any] = json.loads(found[0])
        before = base64.b64decode(row["input"])
        same = before == request.input.value or (
            type(message).FromString(before) == message and not self._is("compares-bytes")
        )
        ignored = {"Execute": "any-input", "Compensate": "any-input-back"}.get(operation)
        if not same and ignored != self._fault:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED")
        return row

    def _save(self, request: Any, state: str, reply: bytes, *, compensate: bytes = b"", polls: int = 0) -> None:
        row = {
            "state": state,
            "input": base64.b64encode(request.input.value).decode(),
            "attempt": request.context.attempt,
            "reply": base64.b64encode(reply).decode(),
            "compensate": base64.b64encode(compensate).decode(),
            "polls": polls,
        }
        self._database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (_key(request), json.dumps(row)))

    def _add_effect(self, request: Any, change: int) -> None:
        self._database.execute(
            "INSERT INTO effects VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2", (_key(request), change)
        )

    def _is_refused(self, message: Any) -> bool:
        return _account(message) == REFUSED and not (self._directory / f"lifted-{message.transfer_id}").exists()


class Exchange:
    """The fast lane, with at most one fault of its own: each call is a task, each answer a message."""

    def __init__(self, methods: Mapping[str, Callable[..., Awaitable[bytes]]], fault: str) -> None:
        self._methods = {name.lower(): method for name, method in methods.items()}
        self._fault = fault

    async def serve(self, requests: AsyncIterator[bytes], given: Any) -> None:
        context = _OneWriter(given)
        calls: dict[int, asyncio.Task[None]] = {}
        try:
            async for data in requests:
                if self._fault != "lane-silent":
                    await context.write(b"")  # the greeting's answer; later ones say nothing
                message = await self._read(data, context)
                for call in message.calls:
                    await self._begin(call, calls, context)
                if message.drain:
                    break
            if self._fault != "lane-drops-drain":
                await asyncio.gather(*calls.values())
        finally:
            for task in calls.values():
                task.cancel()

    async def _read(self, data: bytes, context: Any) -> ExchangeRequest:
        try:
            message = ExchangeRequest.FromString(data)
        except DecodeError:
            if self._fault == "lane-takes-garbage":
                return ExchangeRequest()
            is_internal = self._fault == "lane-garbage-is-internal"
            await context.abort(grpc.StatusCode.INTERNAL if is_internal else grpc.StatusCode.INVALID_ARGUMENT, "")
            raise
        if self._fault == "lane-first-only":
            del message.calls[1:]
        return message

    async def _begin(self, call: ExchangeCall, calls: dict[int, asyncio.Task[None]], context: Any) -> None:
        open_ones = {number for number, task in calls.items() if not task.done()}
        if call.id in open_ones and self._fault != "lane-takes-duplicates":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the id of an open call")
        number = max(calls, default=0) + (1 << 32) if call.id in calls else call.id
        if len(open_ones) < IN_FLIGHT_MAX:
            calls[number] = asyncio.create_task(self._answer(call, context))
        elif self._fault != "lane-drops-excess":
            await _write(context, call, Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVER_LIMIT"))

    async def _answer(self, call: ExchangeCall, context: Any) -> None:
        kind = call.WhichOneof("request")
        if kind is None:
            code = grpc.StatusCode.INVALID_ARGUMENT
            if self._fault == "lane-empty-is-internal":
                code = grpc.StatusCode.INTERNAL
            if self._fault != "lane-drops-empty":
                await _write(context, call, Refusal(code, "EMPTY"))
            return
        timeout_s = call.timeout.ToTimedelta().total_seconds()
        try:
            async with asyncio.timeout(timeout_s):
                data = getattr(call, kind).SerializeToString()
                reply = await self._methods[kind](data, _Deadline(timeout_s))
        except Refusal as refusal:
            await _write(context, call, refusal)
        except TimeoutError:
            await _write(context, call, Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "LATE"))
        else:
            message = ExchangeResponse()
            getattr(message.answers.add(id=call.id), kind).MergeFromString(reply)
            await context.write(message.SerializeToString(deterministic=True))


class _OneWriter:
    """gRPC takes one message of a stream at a time."""

    def __init__(self, context: Any) -> None:
        self.abort = context.abort
        self._context = context
        self._turn = asyncio.Lock()

    async def write(self, message: bytes) -> None:
        async with self._turn:
            await self._context.write(message)


class _Deadline:
    """What the handlers ask of a call's context."""

    def __init__(self, timeout_s: float) -> None:
        self._until_s = asyncio.get_running_loop().time() + timeout_s

    def time_remaining(self) -> float:
        return self._until_s - asyncio.get_running_loop().time()


async def _write(context: Any, call: ExchangeCall, refusal: Refusal) -> None:
    message = ExchangeResponse()
    message.answers.add(id=call.id, status=refusal.status())
    await context.write(message.SerializeToString())


def _described(name: str, kinds: Sequence[StepKind.ValueType], taken: Message, given: Message) -> Action:
    input_type, output_type = taken.DESCRIPTOR.full_name, given.DESCRIPTOR.full_name
    return Action(name=name, kinds=kinds, input_type=input_type, output_type=output_type)


def _key(request: Any) -> str:
    return f"{request.context.saga_uid}/{request.context.step}"


def _account(message: Any) -> str:
    return str(getattr(message, "account_id", ""))


def _stored(row: dict[str, Any], reply: str = "reply") -> bytes:
    return base64.b64decode(row[reply])


def _rejected(kind: Any, reason: str, message: str = "") -> bytes:
    data: bytes = kind(rejected={"reason": reason, "message": message}).SerializeToString()
    return data


@asynccontextmanager
async def serving(database: Path, fault: str, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serves inside `async with`, which yields the address."""
    size_max = -1 if fault in ("any-size", "oversized-with-effect") else 4 << 20
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", size_max)])
    participant = WrongParticipant(database, fault)
    server.add_generic_rpc_handlers((participant.handlers(),))
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        participant.close()


async def _main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--listen", "--database", "--fault"):
        parser.add_argument(option, default="")
    options = parser.parse_args()
    async with serving(Path(options.database), options.fault, options.listen):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
