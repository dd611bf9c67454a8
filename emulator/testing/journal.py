"""What an emulator and its containers have said during a test, for its report and for `logs()`."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING

from emulator.logs import ConsoleSink

if TYPE_CHECKING:
    from emulator.logs import LogLine

KEPT = 10_000
"""Pieces of text, the newest."""


class Journal:
    """A `LogSink` that keeps what it gets."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, LogLine]] = deque(maxlen=KEPT)
        self._count = 0

    def __call__(self, line: LogLine) -> None:
        self._count += 1
        self._lines.append((self._count, line))

    @property
    def position(self) -> int:
        """Where it is now: for `text(after=…)`."""
        return self._count

    def text(self, *, app: str = "", after: int = 0) -> str:
        """Whole lines, each with who said it: of the containers of one app, or of all and the emulator's own."""
        out = StringIO()
        write = ConsoleSink(out, everything=True)
        last: dict[tuple[str, str], LogLine] = {}
        for number, line in list(self._lines):
            if number > after and app in ("", line.app):
                write(line)
                last[line.task_id, line.stream] = line
        for line in last.values():
            if line.task_id:
                write(replace(line, text=""))
        return out.getvalue()
