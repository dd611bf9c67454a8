"""How a line of the log is spelled: as a JSON object, or for people. Pure, but for the names of this container.

Whatever is in a message stays on its line: control characters are escaped. What is spelled as a key is struck
out (`functions.redaction`). What may quote a prompt, the words of an error that nobody
expected while a request was served, is left out unless that is asked for.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from functions.redaction import strike_out
from web.record import current

try:
    import orjson
except ImportError:  # an engine's container, whose lines are few
    orjson = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD: Final = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"})
"""What every record of `logging` has; the rest is what `extra=` gave. (`color_message` is uvicorn's.)"""
LEVELS: Final = {"WARNING": "warn", "CRITICAL": "error"}
"""As the configuration spells them, which has no more than these."""
ENCODER: Final = json.JSONEncoder(default=str, separators=(",", ":"))
CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029",
}  # fmt: skip
HARMLESS: Final = (
    OSError,
    TypeError,
    AttributeError,
    NameError,
    ImportError,
    RuntimeError,
    AssertionError,
    MemoryError,
)
"""Errors that speak of the program and its machine. Others quote what they were given: `ValueError`, `KeyError`."""
WITHHELD: Final = "(its words are left out: observability.log_prompts)"


class JsonLines(logging.Formatter):
    """`withhold`: leave out what may quote a prompt. `fixed`: what each line says beside what its record does."""

    def __init__(self, *, withhold: bool = True, fixed: dict[str, str] | None = None) -> None:
        super().__init__()
        self._withhold = withhold
        self._fixed = fixed or {}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": LEVELS.get(record.levelname) or record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context(),
            "container": container(),
            **self._fixed,
            **_extra(record),
        }
        if told := exception_of(record, withhold=self._withhold):
            line["exception"] = told
        text = _as_json(line)
        struck = strike_out(text)
        return struck if struck == text or _is_json(struck) else _as_json(_struck(line))


class TextLines(logging.Formatter):
    """For people: the same, with the exception on lines of its own."""

    def __init__(self, *, withhold: bool = True) -> None:
        super().__init__()
        self._withhold = withhold

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        level = LEVELS.get(record.levelname) or record.levelname.lower()
        more = {**_extra(record), **_context()}
        told = " ".join(f"{name}={value}" for name, value in more.items() if value is not None)
        message = f"{time} {level:<5} {record.name}: {record.getMessage()}" + (f"  {told}" if told else "")
        lines = [message.translate(CONTROL)]
        lines += [
            f"  {line.translate(CONTROL)}"
            for line in exception_of(record, withhold=self._withhold).splitlines()
        ]  # fmt: skip
        return strike_out("\n".join(lines))


def _as_json(line: dict[str, Any]) -> str:
    """Of ASCII alone: no reader of lines, however it counts them, sees two. What is no JSON is told as text."""
    if orjson is not None:
        try:
            text = orjson.dumps(line, default=str).decode()
        except TypeError:  # of half a character, or too large a number
            return ENCODER.encode(line)
        if text.isascii() and "\x7f" not in text:
            return text
    return ENCODER.encode(line).replace("\x7f", "\\u007f")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _struck(line: dict[str, Any]) -> dict[str, Any]:
    """The line with each value struck out by itself: what stands after the name of a key may be half of an escape, or
    no text at all, and leave no JSON behind."""
    left = dict(line)
    for name, value in line.items():
        told = f"{name}: {value}"
        if value is not None and (struck := strike_out(told)) != told:
            left[name] = struck[len(name) + 2 :]
    return left


def container() -> str:
    """Its id on Modal, read each time, since a container may be another's snapshot; elsewhere the machine's name."""
    return os.environ.get("MODAL_TASK_ID") or socket.gethostname()


def _context() -> dict[str, str]:
    served = current.get()
    if served is None:
        return {}
    return served.ids if served.model is None else {**served.ids, "model": served.model}


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in STANDARD}


def exception_of(record: logging.LogRecord, *, withhold: bool) -> str:
    """The traceback that a record has, or "". `withhold`: without the words of errors that may quote a request, where
    the record is of one."""
    if record.exc_info and record.exc_info[1] is not None:
        of_a_request = current.get() is not None or not record.name.startswith(("functions.", "infra."))
        return "".join(_story(record.exc_info[1], withhold=withhold and of_a_request, seen=set())).rstrip("\n")
    return ""


def _story(error: BaseException, *, withhold: bool, seen: set[int]) -> Iterator[str]:
    """As `traceback` tells an error and what it came from, but for its words."""
    seen.add(id(error))
    cause = error.__cause__
    before = cause or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _story(before, withhold=withhold, seen=seen)
        yield "\nThe above led to:\n\n" if cause is not None else "\nMeanwhile:\n\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(error.__traceback__)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    words = WITHHELD if withhold and not isinstance(error, HARMLESS) else str(error)
    yield f"{name}: {words}\n" if words else f"{name}\n"
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            if id(one) not in seen:
                yield from _story(one, withhold=withhold, seen=seen)
