"""Processes that a container starts: its environment, its log, and its end."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.identity import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.identity import Identity
    from emulator.containers.thread.patching import Patches


def install(patches: Patches) -> None:
    patches.wrap(subprocess.Popen, "__init__", _started_by_container)
    patches.wrap(os, "system", _system)


def _started_by_container(original: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(original)

    def start(self: subprocess.Popen[Any], *args: Any, **named: Any) -> None:
        identity = current()
        if identity is None:
            original(self, *args, **named)
            return
        bound = signature.bind(self, *args, **named)
        bound.apply_defaults()
        given = bound.arguments
        if given["env"] is None:
            given["env"] = dict(os.environ)
        if given["stdin"] is None:
            given["stdin"] = subprocess.DEVNULL
        for stream in ("stdout", "stderr"):
            if given[stream] is None:
                given[stream] = identity.descriptor(stream)
        if given["process_group"] is None and not given["start_new_session"]:
            given["process_group"] = 0  # so that it ends with the container, and what it starts too
        original(*bound.args, **bound.kwargs)
        identity.children.add(self)

    return start


def _system(original: Callable[[str], int]) -> Callable[[str], int]:
    def system(command: str) -> int:
        if current() is None:
            return original(command)
        code = subprocess.call(command, shell=True)  # noqa: S602 - as `os.system` does
        return -code if code < 0 else code << 8

    return system


def end(identity: Identity) -> None:
    """Kill what a container has started, and collect it."""
    for child in list(identity.children):
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(child.pid)
                if group != os.getpgid(0):
                    os.killpg(group, signal.SIGKILL)
                else:
                    child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
