"""What containers log, and how: to stderr, at the configured level."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from web.errors import ServiceError

if TYPE_CHECKING:
    from infra.settings import Server


def configure_logging(server: Server) -> None:
    """Log at the configured level from now on, over what was configured before."""
    logging.basicConfig(level=server.python_log_level, format="%(levelname)s %(name)s: %(message)s", force=True)
    # Modal's client has a handler of its own: what it says would be there twice.
    logging.getLogger("modal-client").propagate = False
    logging.getLogger("uvicorn.error").addFilter(_cut_in_one_line)


def _cut_in_one_line(record: logging.LogRecord) -> bool:
    """An answer that has begun is cut by raising what ended it (a reader who stopped, a deadline), which uvicorn takes
    for a mistake of the application's: any caller could fill the log with tracebacks."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ServiceError):
        record.msg, record.args, record.exc_info = "a connection was cut: %s", (error,), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
