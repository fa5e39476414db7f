"""What our coordinator journals and answers for one saga, taken from a real run, so that the floor does just as much.

A saga's rows are copied column for column, whatever the schema is. Which events were one append is not in the journal,
but follows: the coordinator calls a participant only when the attempt is on the disk, so each append of a sequential
saga ends with an attempt that started, or with the saga. This module must not write to a journal.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from coordinator.journal.codec import decode_event
from saga.v1.coordinator_pb2 import Saga

Row: TypeAlias = Mapping[str, Any]

_TURNS_BACK: Final = "compensation_started"
_CALLS: Final = "attempt_started"
_BYTES: Final = "base64"


@dataclass(frozen=True, slots=True)
class Shape:
    """A saga that ended: its row as it is then, the row of its pin, its events' bodies by append, and what is answered.

    The first append makes the saga's row, the last one changes it, and so does the one in which the saga turns back:
    `turns_back` is that one's number, None where there is none.
    """

    saga: Row
    pin: Row
    appends: tuple[tuple[bytes, ...], ...]
    turns_back: int | None
    answer: Saga

    @property
    def events(self) -> int:
        """How many rows of events it has."""
        return sum(map(len, self.appends))


def read(journal: Path, answer: Saga) -> Shape:
    """The shape of a saga that has ended, as the coordinator answered it. The journal may be in use."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        saga = dict(db.execute("SELECT * FROM sagas WHERE saga_id = ?", (answer.saga_id,)).fetchone())
        pin = dict(db.execute("SELECT * FROM pins WHERE pin = ?", (saga["pin"],)).fetchone())
        rows = db.execute("SELECT sequence, body FROM events WHERE saga = ? ORDER BY sequence", (saga["saga"],))
        bodies = [(sequence, body) for sequence, body in rows.fetchall()]
    names = [decode_event(answer.saga_id, *row).WhichOneof("event") for row in bodies]
    appends = _appends(names)
    turns = [number for number, append in enumerate(appends) if _TURNS_BACK in [names[place] for place in append]]
    return Shape(
        saga=saga,
        pin=pin,
        appends=tuple(tuple(bodies[place][1] for place in append) for append in appends),
        turns_back=turns[0] if turns else None,
        answer=answer,
    )


def _appends(names: Sequence[str | None]) -> list[range]:
    """The places of the events of each append."""
    ends = [place + 1 for place, name in enumerate(names) if name == _CALLS] + [len(names)]
    return [range(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def dump(completed: Shape, compensated: Shape) -> str:
    """Both shapes as text."""
    return json.dumps([_plain(completed), _plain(compensated)], default=_encoded)


def load(text: str) -> tuple[Shape, Shape]:
    """The completed and the compensated shape."""
    completed, compensated = (_shape(plain) for plain in json.loads(text, object_hook=_decoded))
    return completed, compensated


def _plain(shape: Shape) -> Mapping[str, Any]:
    return {
        "saga": shape.saga,
        "pin": shape.pin,
        "appends": shape.appends,
        "turns_back": shape.turns_back,
        "answer": shape.answer.SerializeToString(),
    }


def _shape(plain: Mapping[str, Any]) -> Shape:
    return Shape(
        saga=plain["saga"],
        pin=plain["pin"],
        appends=tuple(tuple(append) for append in plain["appends"]),
        turns_back=plain["turns_back"],
        answer=Saga.FromString(plain["answer"]),
    )


def _encoded(value: object) -> object:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is no part of a shape")


def _decoded(value: dict[str, Any]) -> Any:
    return base64.b64decode(value[_BYTES]) if value.keys() == {_BYTES} else value
