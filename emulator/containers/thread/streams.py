"""stdout and stderr: each container's go to its own log, everybody else's where they went before."""

from __future__ import annotations

import contextlib
import io
import pdb
import sys
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.identity import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.containers.thread.patching import Patches

NAMES = ("stdout", "stderr")


class LogWriter(io.RawIOBase):
    """What is written to it goes to `write`."""

    def __init__(self, write: Callable[[bytes], None], descriptor: Callable[[], int]) -> None:
        self._write = write
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data)
        self._write(taken)
        return len(taken)

    def fileno(self) -> int:
        return self._descriptor()


class ContainerStream(io.TextIOWrapper):
    """A container's stdout or stderr: whole lines at once, as containers that are processes have it."""

    def __init__(self, write: Callable[[bytes], None], descriptor: Callable[[], int]) -> None:
        raw: Any = LogWriter(write, descriptor)
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


class Router:
    """Stands in `sys.stdout` or `sys.stderr`, and is whichever of the two is the caller's."""

    def __init__(self, name: str, behind: Any) -> None:
        self._name = name
        self.behind = behind

    @property
    def _target(self) -> Any:
        identity = current()
        return self.behind if identity is None else getattr(identity, self._name)

    def write(self, text: str) -> Any:
        return self._target.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self._target.writelines(lines)

    def flush(self) -> None:
        self._target.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def route() -> None:
    """See to it that both streams are routed. Whoever captures output exchanges them, so this is called often."""
    for name in NAMES:
        stream = getattr(sys, name)
        if type(stream) is not Router and stream is not None:
            setattr(sys, name, Router(name, stream))


def unroute() -> None:
    for name in NAMES:
        stream = getattr(sys, name)
        if type(stream) is Router:
            setattr(sys, name, stream.behind)


def install(patches: Patches) -> None:
    route()
    patches.later(unroute)
    redirect: Any = contextlib._RedirectStream
    patches.wrap(redirect, "__enter__", _enter)
    patches.wrap(redirect, "__exit__", _exit)
    patches.wrap(pdb.Pdb, "__init__", _debugger)


def _debugger(original: Callable[..., None]) -> Callable[..., None]:
    """A breakpoint in a container speaks to whoever sits at the process, and not to the container's log."""

    def init(self: Any, *args: Any, **named: Any) -> None:
        stream = sys.stdout
        original(self, *args, **named)
        if current() is not None:
            self.nosigint = True  # SIGINT is how a container is interrupted there, and no Ctrl-C
        if type(stream) is Router and self.stdout is stream:
            self.stdout = stream.behind
            self.use_rawinput = False  # `input`, which asks its questions on `sys.stdout`

    return init


def _enter(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def enter(self: Any) -> Any:
        identity = current()
        if identity is None:
            return original(self)
        self._old_targets.append(getattr(identity, self._stream))
        setattr(identity, self._stream, self._new_target)
        return self._new_target

    return enter


def _exit(original: Callable[..., Any]) -> Callable[..., Any]:
    def leave(self: Any, *error: Any) -> Any:
        identity = current()
        if identity is None:
            return original(self, *error)
        setattr(identity, self._stream, self._old_targets.pop())
        return None

    return leave
