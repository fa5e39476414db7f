"""The command `saga`, on a disk that fails as a file says.

The file CONTROL holds the name of one of the ways to fail of `faulty_disk`, such as `full_disk`; while it does not
exist nothing fails. Whoever controls the process writes and deletes it at any time. Usage: CONTROL, then what `saga`
takes.
"""

import sys
from pathlib import Path

from coordinator.cli import main as saga
from tests.support import faulty_disk
from tests.support.faulty_disk import Entry, Fault, FaultyDisk, Operation, installed


class ControlledDisk(FaultyDisk):
    """Takes its orders from a file, looked at whenever SQLite wants something, and remembers nothing."""

    def __init__(self, control: Path) -> None:
        super().__init__()
        self._control = control

    def write_down(self, entry: Entry) -> None:
        """A process that lives long would run out of memory."""

    def struck(self, operation: Operation, name: str) -> Fault | None:
        """The fault that this operation meets, as the file has it now."""
        try:
            ordered = self._control.read_text()
        except FileNotFoundError:
            return None
        return next((fault for fault in WAYS[ordered]() if fault.strikes(operation, name)), None)


WAYS = {
    way.__name__: way
    for way in (
        faulty_disk.full_disk,
        faulty_disk.broken_writes,
        faulty_disk.broken_syncs,
        faulty_disk.read_only,
        faulty_disk.broken_reads,
    )
}


def command(control: Path, *arguments: str) -> tuple[str, ...]:
    """The command line that runs `saga` so, in whatever directory."""
    root = Path(__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from {__name__} import main; main()"
    return (sys.executable, "-c", code, str(control), *arguments)


def main() -> None:
    """Run the command."""
    control = Path(sys.argv.pop(1))
    with installed(ControlledDisk(control)):
        saga()
