"""`emulator exec`: a fresh emulator around a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from emulator.child import environment_for, exit_status
from emulator.emulator import Emulator
from emulator.ingress.ingress import PortTaken
from emulator.logs import ConsoleSink
from emulator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from emulator.containers import Kind

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def execute(command: Sequence[str], *, port: int, containers: Kind, quiet: bool) -> int:
    """Run a command with the environment of a fresh emulator; its exit status, as a shell gives it.

    127 when there is no such command, 126 when it can not be run. Raises `Problem`.
    """
    log = None if quiet else ConsoleSink(sys.stderr)
    with _Signals() as signals:
        try:
            with Emulator(web_port=port, containers=containers, log=log) as emulator:
                return _run(command, environment_for(emulator.environment), signals)
        except PortTaken as error:
            raise Problem(f"{error}: choose another with --port, or 0 for any") from error
        except (PermissionError, ValueError) as error:
            raise Problem(str(error)) from error


class _Signals:
    """Signals for the command: passed on, or kept until there is one."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[int] = []
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._on_signal) for number in FORWARDED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def stopped(self) -> int | None:
        """The signal that came before there was a command to get it."""
        return self._pending[0] if self._pending and self._child is None else None

    @contextmanager
    def going_to(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        self._child = child
        for number in self._pending:
            child.send_signal(number)
        try:
            yield
        finally:
            self._child = None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._child is None:
            self._pending.append(number)
        elif not (number in (signal.SIGINT, signal.SIGQUIT) and _terminal_sends_to_us()):
            with suppress(ProcessLookupError):
                self._child.send_signal(number)


def _run(command: Sequence[str], env: dict[str, str], signals: _Signals) -> int:
    if signals.stopped is not None:
        return 128 + signals.stopped
    try:
        child = subprocess.Popen(command, env=env)  # noqa: S603
    except FileNotFoundError:
        return _cannot(command, "no such command", 127)
    except OSError as error:
        return _cannot(command, error.strerror or "it can not be run", 126)
    with signals.going_to(child):
        return exit_status(child.wait())


def _cannot(command: Sequence[str], why: str, status: int) -> int:
    print(f"emulator: {command[0]}: {why}", file=sys.stderr)
    return status


def _terminal_sends_to_us() -> bool:
    """Whether Ctrl-C at the terminal reaches the command without us: it is in our process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
