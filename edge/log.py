"""Structured logs of both processes: one JSON object a line on stderr, scalars only; no file, no network, no payload.

Whatever is not a short scalar is refused where it would be written: an array, bytes or any object leaves only the name
of its type. A foreign exception leaves its type and where it was raised, never its text, which may quote what it met.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import TextIO

from edge.errors import VouchError

Scalar = str | int | float | bool | Enum | PurePath | None

# Long enough for a path and a sentence, too short for an encoded picture or template.
TEXT_LIMIT = 300
_FIELDS = "vouch_fields"
_TRACE_FRAMES = 8


class Log:
    """A named log. Every call is an event with fields: `log.info("link-up", host=host)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"vouch.{name}")

    def debug(self, event: str, **fields: Scalar) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Scalar) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Scalar) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc: BaseException | None = None, **fields: Scalar) -> None:
        """`exc` adds the exception's type, its place, and its text only where the text is ours."""
        self._write(logging.ERROR, event, fields, exc)

    def _write(self, level: int, event: str, fields: Mapping[str, Scalar], exc: BaseException | None = None) -> None:
        trace = (type(exc), exc, exc.__traceback__) if exc is not None else None
        self._logger.log(level, "%s", event, extra={_FIELDS: dict(fields)}, exc_info=trace)


class JsonFormatter(logging.Formatter):
    """One line of JSON for a record of ours or of a library."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "t": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "log": record.name.removeprefix("vouch."),
            "event": _message(record),
        }
        fields = getattr(record, _FIELDS, None)
        if isinstance(fields, dict):
            line.update({str(name): allowed(value) for name, value in fields.items()})
        if record.exc_info and record.exc_info[1] is not None:
            line.update(_exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False)


class Tail(logging.Handler):
    """The last lines of this process's log, in memory, for the technician's page; `attach` until `detach`."""

    def __init__(self, process: str, lines: int = 200) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(process))
        self._lines: deque[str] = deque(maxlen=lines)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    def lines(self) -> list[str]:
        """Oldest first, each one JSON object."""
        return list(self._lines)

    def attach(self) -> None:
        logging.getLogger().addHandler(self)

    def detach(self) -> None:
        logging.getLogger().removeHandler(self)


def setup(process: str, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send every log of this process, libraries' and uncaught exceptions included, through the one formatter."""
    # A record that cannot be written would otherwise be printed with its arguments, unrefused.
    logging.raiseExceptions = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vouch").setLevel(level)
    log = Log("process")

    def uncaught(_kind: type[BaseException], exc: BaseException, _trace: TracebackType | None) -> None:
        log.error("uncaught", exc=exc)

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        log.error("uncaught", exc=args.exc_value, thread=args.thread.name if args.thread else None)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread


def allowed(value: object) -> str | int | float | bool | None:
    """The value as it may be written: a scalar, shortened; anything else is refused and leaves its type's name."""
    match value:
        case Enum():
            return value.name.lower()
        case None | bool() | int():
            return value
        case float():
            return round(value, 6) if value == value and abs(value) != float("inf") else str(value)  # noqa: PLR0124 - NaN
        case str() | PurePath():
            text = str(value)
            return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 1]}…"
        case _:
            return f"<{type(value).__name__} refused>"


def _message(record: logging.LogRecord) -> str:
    """The library's or our own text; arguments are checked before they are formatted in."""
    args = record.args
    if isinstance(args, Mapping):
        checked: object = {name: allowed(value) for name, value in args.items()}
    else:
        checked = tuple(allowed(value) for value in args or ())
    template = allowed(record.msg)
    try:
        text = str(template) % checked if args else str(template)
    except (TypeError, ValueError, KeyError):
        text = str(template)
    return str(allowed(text))


def _exception(exc: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(exc.__traceback__)[-_TRACE_FRAMES:]
    known: dict[str, object] = {
        "error": type(exc).__name__,
        "at": " > ".join(f"{PurePath(f.filename).name}:{f.lineno} {f.name}" for f in frames),
    }
    if isinstance(exc, VouchError):
        known["detail"] = allowed(exc.message)
        if exc.todo:
            known["what_to_do"] = allowed(exc.todo)
    elif isinstance(exc, OSError):
        known["detail"] = allowed(exc.strerror or type(exc).__name__)
    return known
