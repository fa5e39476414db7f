"""What the commands that run for minutes have in common: their arguments, and that Ctrl-C ends them in good order."""

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERRUPTED: Final = 130
"""The exit code of a run that was ended with Ctrl-C."""


def at_least_one(text: str) -> int:
    """A count; of nothing there is nothing to say, least of all that all was well. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"`{text}` is not a number from 1")
    return int(text)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Workers that are started meanwhile never hear of Ctrl-C, which a terminal sends to all; this process does later.

    A child inherits what is blocked; had it to ignore the signal by itself, the signal could come before that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
