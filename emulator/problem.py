"""What stops a command: shown as one line, without a traceback."""

from __future__ import annotations


class Problem(Exception):
    """A command can not go on. `status`: the exit status, 2 for what should have been asked differently."""

    def __init__(self, text: str, *, status: int = 1) -> None:
        super().__init__(text)
        self.status = status
