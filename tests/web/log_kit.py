"""What the service has logged, line by line, as a container would write it."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from functions.log_format import JsonLines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.conftest import Json


class Logged(logging.Handler):
    """Spells each line when it is written, in the context in which it is."""

    def __init__(self, *, withhold: bool = True) -> None:
        super().__init__()
        self.setFormatter(JsonLines(withhold=withhold))
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def lines(self, logger: str = "") -> list[Json]:
        """Those of loggers whose name begins so."""
        read: list[dict[str, Any]] = [json.loads(text) for text in self.texts]
        return [line for line in read if line["logger"].startswith(logger)]


@contextlib.contextmanager
def logged(*, level: int = logging.INFO, withhold: bool = True) -> Iterator[Logged]:
    root, handler = logging.getLogger(), Logged(withhold=withhold)
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("web", "functions", "infra")}
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        for logger, before in loggers.items():
            logger.setLevel(before)
