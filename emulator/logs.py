"""What the emulator and its containers say, on its way to the terminal and to `modal app logs`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing import TextIO


@dataclass(frozen=True)
class LogLine:
    """One piece of text: from a container (then `task_id` is set) or from the emulator itself."""

    text: str
    """Empty when a container has ended and nothing more comes on this stream."""
    stream: Literal["stdout", "stderr", "emulator"]
    app: str = ""
    function: str = ""
    task_id: str = ""
    followed: bool = False
    """A client shows it already: `modal run` and `modal serve` follow the output of their app."""


LogSink = Callable[[LogLine], None]


class ConsoleSink:
    """Writes whole lines, prefixed with who said them; those that a client shows already only for `everything`."""

    def __init__(self, stream: TextIO | None = None, *, everything: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._everything = everything
        self._partial: dict[tuple[str, str], str] = {}

    def __call__(self, line: LogLine) -> None:
        if line.stream == "emulator":
            self._write(f"emulator | {line.text}")
            return
        if line.followed and not self._everything:
            return
        key = (line.task_id, line.stream)
        *whole, rest = (self._partial.pop(key, "") + line.text).split("\n")
        if rest and not line.text:
            whole.append(rest)
        elif rest:
            self._partial[key] = rest
        for text in whole:
            self._write(f"{line.function} {line.task_id[-4:]} | {text}")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a terminal that was closed: whoever speaks has more to do than to speak
            print(text, file=self._stream, flush=True)
