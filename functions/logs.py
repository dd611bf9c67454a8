"""What containers log, and how: to stderr, at the configured level, a line each.

Everyone logs by the standard library, with fields as `extra=`; `functions.log_format` spells the lines.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from functions.log_format import JsonLines, TextLines
from web.asgi import AnswerBroken
from web.errors import ServiceError

if TYPE_CHECKING:
    from infra.settings import Settings

OURS = ("app", "functions", "infra", "web")
"""Whose debugging is known to hold no prompt and no key. Libraries' has requests whole."""

TALKATIVE = "botocore"
"""Says at the level info, in each container, where it found its credentials."""


def configure_logging(settings: Settings, *, model: str | None = None) -> None:
    """Log as configured from now on, over what was configured before. `model`: the id of the one that this container
    serves."""
    server, observability = settings.server, settings.observability
    withhold = not observability.log_prompts
    as_text = observability.log_format == "text" or (observability.log_format == "auto" and sys.stderr.isatty())
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        TextLines(withhold=withhold) if as_text
        else JsonLines(withhold=withhold, fixed={} if model is None else {"model": model})
    )  # fmt: skip
    level: int = logging.getLevelNamesMapping()[server.python_log_level]
    libraries = level if server.log_level == "trace" and not withhold else max(level, logging.INFO)
    logging.basicConfig(level=libraries, handlers=[handler], force=True)
    # What no line says need not be found out (logging's documentation, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(TALKATIVE).setLevel(logging.WARNING if server.log_level == "info" else logging.NOTSET)
    # Modal's client has a handler of its own: what it says would be there twice.
    logging.getLogger("modal-client").propagate = False
    logging.getLogger("uvicorn.error").addFilter(_cut_in_one_line)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """A line that cannot be spelled or written is lost: the standard library would print what it was to hold."""

    def handleError(self, record: logging.LogRecord) -> None:
        try:
            lost = logging.makeLogRecord({"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR"})
            lost.msg, lost.args = "a line of the log was lost: %s of %s", (type(sys.exception()).__name__, record.name)
            self.stream.write(self.format(lost) + self.terminator)
            self.flush()
        except (OSError, ValueError):
            return  # nobody reads it, or the disk is full


def _cut_in_one_line(record: logging.LogRecord) -> bool:
    """An answer that has begun is cut by raising what ended it (a reader who stopped, a deadline), which uvicorn takes
    for a mistake of the application's: any caller could fill the log with tracebacks. It is a warning, and told where
    those are."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ServiceError | AnswerBroken):
        why = error.code or error.type if isinstance(error, ServiceError) else "it failed"
        record.msg, record.args, record.exc_info = "a connection was cut: %s", (why,), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return logging.getLogger(record.name).isEnabledFor(logging.WARNING)
    return True
