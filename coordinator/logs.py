"""How log lines look: text for people or JSON for machines, on standard error.

What a line says stands in `extra`; payloads never do. This module must not know what is logged.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def set_up(level: str, style: str) -> None:
    """Log to standard error; `style` is `text` or `json`."""
    # Nothing of this is shown, and finding it out takes half of the time that a line takes (see "Optimization" in
    # Python's Logging HOWTO): the place in the code, the thread, and the process.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("coordinator").setLevel(level.upper())


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _when(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`time LEVEL message name=value …`, one line and, for an exception, its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = "".join(f" {name}={_word(value)}" for name, value in _extra(record).items() if value != "")
        line = f"{_when(record)} {record.levelname:<7} {_one_line(record.getMessage())}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or '"' in text else _one_line(text)


def _one_line(text: str) -> str:
    """What comes from outside must not make a second line, or move a terminal's cursor."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
