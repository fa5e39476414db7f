import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import shape
from benchmarks.floor import Floor, Journal, open_journal
from benchmarks.listing import build
from benchmarks.population import Population, saga_id
from benchmarks.shape import Shape
from benchmarks.workload import ACTIONS, order
from saga.v1.coordinator_pb2 import Saga, StartSagaRequest
from saga.v1.participant_pb2 import CompensateRequest, CompensateResponse, ExecuteRequest, ExecuteResponse


class Participant:
    """Answers as the benchmarks' participants do, and shows what was on the disk when it was called."""

    def __init__(self, journal: Path) -> None:
        self.called: list[str] = []
        self.durable: list[int] = []
        self._journal = journal

    async def execute(self, request: ExecuteRequest) -> ExecuteResponse:
        self._note("execute", request.context.step)
        response = ExecuteResponse()
        if request.context.action == "Ship" and request.context.saga_id == "refused":
            response.rejected.reason = "REFUSED"
        else:
            response.completed.output.Pack(request)
        return response

    async def compensate(self, request: CompensateRequest) -> CompensateResponse:
        self._note("compensate", request.context.step)
        response = CompensateResponse()
        response.compensated.SetInParent()
        return response

    def _note(self, operation: str, step: str) -> None:
        self.called.append(f"{operation} {step}")
        self.durable.append(len(rows(self._journal, "SELECT * FROM events")))


def rows(journal: Path, query: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query)]


@pytest.fixture
async def recorded(tmp_path: Path) -> Shape:
    """A saga that our own journal wrote."""
    file = tmp_path / "ours.db"
    await build(file, Population(3, all_ended=True))
    return shape.read(file, Saga(saga_id=saga_id(2), version=7))


async def test_it_journals_the_very_rows_of_the_saga_that_was_recorded_each_before_the_call_that_follows(
    recorded: Shape, tmp_path: Path
) -> None:
    assert [len(append) for append in recorded.appends] == [3, 2, 2, 1]
    assert recorded.events == 8
    file = tmp_path / "floor.db"
    journal = Journal(await open_journal(file, recorded), list(recorded.saga))
    participant = Participant(file)
    floor = Floor(journal, participant, recorded, recorded)
    answer = await floor.run(StartSagaRequest(saga_id="one", input=order("one")))
    assert (answer.saga_id, answer.version) == ("one", 7)
    assert participant.called == [f"execute {action.lower()}_{number}" for number, action in enumerate(ACTIONS)]
    assert participant.durable == [3, 5, 7]
    await journal.close()
    bodies = [row["body"] for row in rows(file, "SELECT body FROM events ORDER BY sequence")]
    assert bodies == [body for append in recorded.appends for body in append]
    [saga] = rows(file, "SELECT * FROM sagas")
    own = ("saga", "saga_id", "uid")
    assert {name: saga[name] for name in saga if name not in own} == {
        name: value for name, value in recorded.saga.items() if name not in own
    }
    assert len(saga["uid"]) == len(recorded.saga["uid"])


async def test_a_refused_third_step_has_the_others_compensated_latest_first(recorded: Shape, tmp_path: Path) -> None:
    [body] = recorded.appends[-1]
    compensated = Shape(recorded.saga, recorded.pin, (*recorded.appends[:3], *[(body,)] * 3), 3, Saga(version=8))
    file = tmp_path / "floor.db"
    journal = Journal(await open_journal(file, recorded), list(recorded.saga))
    participant = Participant(file)
    answer = await Floor(journal, participant, recorded, compensated).run(StartSagaRequest(saga_id="refused"))
    await journal.close()
    assert answer.version == 8
    assert participant.called[3:] == ["compensate charge_1", "compensate reserve_0"]
    assert participant.durable == [3, 5, 7, 8, 9]
    assert len(rows(file, "SELECT * FROM events")) == compensated.events == 10


def test_shapes_survive_being_text(recorded: Shape) -> None:
    assert shape.load(shape.dump(recorded, recorded)) == (recorded, recorded)
