"""`emulator exec`: a fresh emulator around a command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from emulator.child import environment_for, exit_status
from emulator.emulator import Emulator
from emulator.guard import guarded
from emulator.ingress.ingress import PortTaken
from emulator.logs import ConsoleSink
from emulator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from emulator.containers import Kind

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def execute(command: Sequence[str], *, port: int, containers: Kind, quiet: bool, run_commands: bool = False) -> int:
    """Run a command with the environment of a fresh emulator; its exit status, as a shell gives it.

    127 when there is no such command, 126 when it can not be run. Raises `Problem`.
    """
    log = None if quiet else ConsoleSink(sys.stderr)
    with _Signals() as signals:
        try:
            emulator = Emulator(web_port=port, containers=containers, log=log, run_commands=run_commands)
            emulator.start()
        except PortTaken as error:
            raise Problem(f"{error}: choose another with --port, or 0 for any") from error
        except OSError as error:
            raise Problem(f"the emulator can not start: {error}") from error
        except ValueError as error:
            raise Problem(str(error)) from error
        try:
            return _run(command, environment_for(emulator.environment), signals)
        finally:
            signals.ending(emulator)
            emulator.stop()


class _Signals:
    """Signals for the command: passed on, or kept until there is one. Once it has ended they hurry the emulator."""

    def __init__(self) -> None:
        self._guard: socket.socket | None = None
        self._emulator: Emulator | None = None
        self._hurried = False
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
        return self._pending[0] if self._pending and self._guard is None else None

    @contextmanager
    def going_to(self, guard: socket.socket) -> Iterator[None]:
        self._guard = guard
        for number in self._pending:
            self._tell(number)
        try:
            yield
        finally:
            self._guard = None

    def ending(self, emulator: Emulator) -> None:
        """The command has ended, and the emulator is about to."""
        self._emulator = emulator

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._emulator is not None:
            if self._hurried:
                os._exit(128 + number)
            self._hurried = True
            self._emulator.hurry()
        elif self._guard is None:
            self._pending.append(number)
        elif not (number in (signal.SIGINT, signal.SIGQUIT) and _terminal_sends_to_us()):
            self._tell(number)

    def _tell(self, number: int) -> None:
        if self._guard is not None:
            with suppress(OSError):  # the command has just ended
                self._guard.send(bytes([number]))


def _run(command: Sequence[str], env: dict[str, str], signals: _Signals) -> int:
    if signals.stopped is not None:
        return 128 + signals.stopped
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(guarded(command, theirs), env=env, pass_fds=(theirs.fileno(),))  # noqa: S603
        with signals.going_to(ours):
            return exit_status(child.wait())


def _terminal_sends_to_us() -> bool:
    """Whether Ctrl-C at the terminal reaches the command without us: it is in our process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
