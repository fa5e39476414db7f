"""What the reading half does is held by the contract (`test_port`), on the journal, and by `test_sqlite_view`."""

from pathlib import Path

from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_reading import SqliteReading
from coordinator.journal.sqlite_view import SqliteView
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import FAILURE_KIND_REJECTED, Failure
from tests.coordinator.journal.builders import start


async def test_the_coordinator_and_who_looks_on_read_alike(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "journal.db")
    await journal.append(start("a", 2, failure=Failure(kind=FAILURE_KIND_REJECTED, message="no funds")))
    await journal.append(start("b"))
    view = await SqliteView.open(tmp_path / "journal.db")

    async def seen(reading: SqliteReading) -> list[object]:
        return [
            await reading.find("a"),
            await reading.read("a"),
            await reading.unfinished(None, 10),
            await reading.list_sagas(SagaFilter(failure_text="fund"), None, 10),
            await reading.count_unfinished(),
        ]

    assert await seen(view) == await seen(journal)
    await view.close()
    await journal.close()
