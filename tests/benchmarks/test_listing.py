from pathlib import Path

import pytest

from benchmarks.listing import Answer, build, measure, questions, run, show
from benchmarks.population import FIRST_FAILURE, LONG_GONE, Population
from coordinator.journal.sqlite_view import SqliteView

SMALL = Population(200)


async def test_every_question_is_answered_on_a_journal_of_the_population(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    assert await build(file, SMALL) > 0
    table = dict(await measure(file, SMALL, runs=1))
    assert table.keys() >= {name for name, _ in questions(SMALL)} | {"(find)", "(keyed)", "(count_unfinished)"}
    for answers in table.values():
        assert answers[0] is not None
    rows = {name: answers[0].rows for name, answers in table.items() if answers[0] is not None}
    assert rows["all"] == rows["(ended)"] == 50
    assert (rows["definition of no saga"], rows["label: none has it"], rows["failure text that none has"]) == (0, 0, 0)
    assert (rows["definition of one old saga"], rows["failure text of one old saga"]) == (1, 1)
    assert rows["label: order (one saga)"] == rows["parent"] == rows["(find)"] == 1
    assert rows["region, definition never used there"] == 0
    assert rows["exclusive key"] >= 1


async def test_the_journal_holds_the_population(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    await build(file, SMALL)
    view = await SqliteView.open(file)
    for number in (0, 1, 199):
        index = SMALL.index(number)
        assert await view.find(index.saga_id) == index
        assert len(await view.read(index.saga_id)) == index.last_sequence
    await view.close()


def test_a_population_is_always_the_same_and_its_first_saga_is_the_odd_one() -> None:
    assert [append.index for append in Population(30).appends()] == [
        append.index for append in Population(30).appends()
    ]
    indexes = [SMALL.index(number) for number in range(SMALL.sagas)]
    odd = [index for index in indexes if index.definition == LONG_GONE]
    assert odd == indexes[:1]
    assert odd[0].failure is not None
    assert odd[0].failure.message == FIRST_FAILURE


def test_a_file_that_is_there_is_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "journal.db"
    run(file, SMALL, 1)
    assert "200 sagas taken in" in capsys.readouterr().out
    run(file, SMALL, 1)
    assert capsys.readouterr().out.startswith("| question |")


def test_a_table_has_a_cell_for_every_page() -> None:
    assert show([("all", [Answer(50, 1.25), None])]).splitlines()[2] == "| all | 50 in 1.2 ms |  |  |  |"
