import pytest

from benchmarks.peers.steps import Refused, run_steps


@pytest.mark.parametrize("refused", [None, 0, 2])
async def test_a_refused_step_has_those_before_it_compensated_latest_first(refused: int | None) -> None:
    done: list[str] = []

    async def execute(number: int) -> str:
        if number == refused:
            raise Refused
        done.append(f"execute {number}")
        return f"receipt {number}"

    async def compensate(number: int, receipt: str) -> None:
        done.append(f"compensate {number} {receipt}")

    completed = await run_steps(execute, compensate, Refused)
    assert completed is (refused is None)
    assert (
        done
        == {
            None: ["execute 0", "execute 1", "execute 2"],
            0: [],
            2: ["execute 0", "execute 1", "compensate 1 receipt 1", "compensate 0 receipt 0"],
        }[refused]
    )
