"""`Action`: what a participant offers, as a class of its own with typed handlers.

The message types are found from the bases, so that they are said once and a type checker sees the same ones. This
module must not know the wire, the barrier or the server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar, get_args, get_origin

from google.protobuf.message import Message

from participant_sdk.outcome import Held, Noop, Pending, Rejected
from participant_sdk.transaction import Tx
from saga.v1.types_pb2 import (
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
    StepKind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from participant_sdk.step import Step

COMPENSATABLE: Final = STEP_KIND_COMPENSATABLE
RESERVABLE: Final = STEP_KIND_RESERVABLE
PIVOT: Final = STEP_KIND_PIVOT
RETRIABLE: Final = STEP_KIND_RETRIABLE
READ_ONLY: Final = STEP_KIND_READ_ONLY

In = TypeVar("In", bound=Message)
Out = TypeVar("Out", bound=Message)


class Action(ABC, Generic[In, Out, Tx]):
    """Something a step can call: `class ReserveStock(Action[ReserveStockRequest, Reservation])`.

    The first line of its docstring is its description. Class attributes:

    - `name`: what definitions call it; the class's own name unless its body says otherwise.
    - `kinds`: what it can serve as.
    - `external`: it has effects outside the barrier's database (a payment gateway). Its handlers run outside the
      database transaction and can run again after a crash, with the same `step.key`; business rows are written
      through `step.record`.
    - `rejections`: with which reasons it may refuse, and what each means.

    A third type argument says what `step.transaction` is, where it is not a `SqliteTransaction`.
    """

    name: ClassVar[str]
    kinds: ClassVar[Sequence[StepKind.ValueType]] = (COMPENSATABLE,)
    external: ClassVar[bool] = False
    rejections: ClassVar[Mapping[str, str]] = {}
    input_type: ClassVar[type[Message]]
    output_type: ClassVar[type[Message]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get("name", cls.__name__)
        input_type, output_type = _type_arguments(cls)[:2]
        if any(isinstance(argument, TypeVar) for argument in (input_type, output_type)):
            return  # a generic action: its subclasses say the types
        cls.input_type = _message_type(cls, input_type)
        cls.output_type = _message_type(cls, output_type)

    @classmethod
    def description(cls) -> str:
        """Return the first line of the class's own docstring, or nothing."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @abstractmethod
    async def execute(self, request: In, step: Step[Tx]) -> Out | Held[Out] | Pending:
        """Run the step's local transaction.

        Return the output, `Held` with the time a hold lasts, or `Pending`; raise `Rejected` to refuse. Any other
        exception leaves the outcome unknown: what was written is rolled back, and another attempt follows.
        """

    async def poll(self, request: In, step: Step[Tx]) -> Out | Held[Out] | Pending:
        """Say what became of an `execute` that answered `Pending`. Unless overridden: `execute` is called again."""
        return await self.execute(request, step)

    async def compensate(
        self,
        request: In,  # noqa: ARG002 - for those that override it, as the next two
        output: Out | None,  # noqa: ARG002
        step: Step[Tx],  # noqa: ARG002
    ) -> Noop | Pending | None:
        """Reverse it semantically. `output` is None where it is not known what `execute` did.

        Return None when it is done, `Noop` where there was nothing to compensate, or `Pending`; raise `Rejected`
        where it cannot be compensated and an operator is needed. Any other exception: another attempt follows.
        """
        if set(self.kinds) == {READ_ONLY}:
            return Noop()
        raise Rejected("NOT_COMPENSATABLE", f"{self.name} has no compensation")

    async def confirm(self, request: In, output: Out, step: Step[Tx]) -> Pending | None:
        """Make a hold final (RESERVABLE only). Return None when it is done, or `Pending`; errors as `compensate`."""
        raise NotImplementedError(f"{self.name} is RESERVABLE and has no confirm")


def _type_arguments(cls: type) -> tuple[Any, ...]:
    """Return what `cls` says of Action's type parameters, through however many generic classes in between."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, Action)):
            continue
        given = get_args(base)
        if origin is Action:
            if not given:
                raise TypeError(f"{cls.__name__}: write Action[Input, Output] with the action's message types")
            return given
        bound = dict(zip(getattr(origin, "__parameters__", ()), given, strict=False))
        return tuple(bound.get(argument, argument) for argument in _type_arguments(origin))
    raise TypeError(f"{cls.__name__} does not derive from Action[Input, Output]")


def _message_type(cls: type, argument: Any) -> type[Message]:
    if isinstance(argument, type) and issubclass(argument, Message) and argument is not Message:
        return argument
    raise TypeError(f"{cls.__name__}: not a message type in Action[Input, Output]: {argument!r}")
