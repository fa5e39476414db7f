"""`python -m sample_services.demo`: what `make demo` runs. Exits 0 where every scene went well and every sum adds up.

All files are in a directory of their own that goes away at the end, and all processes end with this one.
"""

import asyncio
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from participant_sdk import SagaError
from sample_services.accounts.demo import Accounts
from sample_services.demo import hints, show
from sample_services.demo.processes import ServerFailed, Supervisor
from sample_services.demo.sample import Example, Sample
from sample_services.demo.stage import SceneFailed, Stage
from sample_services.marketplace.demo import Marketplace
from sample_services.orders.demo import Orders
from sample_services.purchase.demo import Purchases
from sample_services.transfer.demo import Transfers
from sample_services.travel.demo import Travel

SAMPLES: Final = (Orders, Travel, Accounts, Purchases, Transfers, Marketplace)

_WELL_KNOWN_ADDRESS: Final = "127.0.0.1:7400"  # where the command line looks unless it is told otherwise
_FAILED: Final = 1
_INTERRUPTED: Final = 128 + signal.SIGINT
_ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


def main(
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
) -> None:
    """Start everything, show how sagas go, and check that the sums add up."""
    console = show.console()
    with tempfile.TemporaryDirectory(prefix="saga-demo-") as directory:
        try:
            added_up = asyncio.run(_run(console, Path(directory), keep=keep))
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.print("interrupted: everything has ended")
            raise typer.Exit(_INTERRUPTED) from None
        except (SceneFailed, ServerFailed, SagaError) as failure:
            console.print(f"The demo failed: {failure}", style="red", markup=False)
            added_up = False
    raise typer.Exit(0 if added_up else _FAILED)


async def _run(console: Console, directory: Path, *, keep: bool) -> bool:
    """Run the demo, and return whether all sums add up."""
    _end_by_cancellation()
    async with Supervisor(directory) as supervisor:
        stage = Stage(supervisor, directory, console)
        samples = [sample(directory) for sample in SAMPLES]
        try:
            await _start(stage, samples, _WELL_KNOWN_ADDRESS if keep else "")
            for sample in samples:
                await sample.play(stage)
        except (SceneFailed, SagaError):
            stage.show_last_words()
            raise
        added_up = _check(stage, samples)
        _tell_what_to_try(stage, samples, keep=keep)
        if keep:
            await _interrupt()
        return added_up


def _end_by_cancellation() -> None:
    """Have other signals end the demo as Ctrl-C does: in good order."""
    task = asyncio.current_task()
    assert task is not None
    for number in _ENDING_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _start(stage: Stage, samples: Sequence[Sample], preferred: str) -> None:
    stage.scene("Processes")
    # Samples may share services and definitions.
    await stage.start_services({service.name: service for sample in samples for service in sample.services()}.values())
    await stage.start_coordinator(preferred)
    await stage.register(dict.fromkeys(definition for sample in samples for definition in sample.definitions()))


def _check(stage: Stage, samples: Sequence[Sample]) -> bool:
    stage.scene("The sums")
    added_up = True
    for sample in samples:
        checked = sample.sums()
        stage.console.print(show.sums(f"Do they add up? {sample.name}", checked))
        added_up &= all(each.adds_up for each in checked)
    stage.say("All sums add up." if added_up else "SOME SUMS DO NOT ADD UP.")
    return added_up


def _tell_what_to_try(stage: Stage, samples: Sequence[Sample], *, keep: bool) -> None:
    stage.scene("Look at it yourself")
    stage.say(
        "Everything keeps running until Ctrl-C. Paste any of these:"
        if keep
        else "Everything ends now. With `make demo KEEP=1` it keeps running, and lines such as these can be pasted:"
    )
    for line in _lines(stage.coordinator.address, [sample.example() for sample in samples]):
        # Not folded: a line must still be one when it is pasted.
        stage.console.print(f"  {line}", markup=False, soft_wrap=True)


def _lines(address: str, examples: Sequence[Example]) -> Iterator[str]:
    """Yield everything that can be done with the first example, and how the others are started."""
    yield from hints.grpcurl(address, examples[0])
    yield from hints.command_line(address, examples[0])
    yield from (hints.start(address, example) for example in examples[1:])


async def _interrupt() -> None:
    """Return at Ctrl-C, or when another signal asks to end."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


if __name__ == "__main__":
    typer.run(main)
