"""The record of a running emulator in its state directory, for `emulator env` and against a second emulator there.

Whoever runs holds a lock on the file, so that a record whose emulator was killed is known to be stale, whatever process
has its id now.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from emulator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NAME = "running.json"


@contextmanager
def hold(state: Path) -> Iterator[Callable[[Mapping[str, str]], None]]:
    """Claim a state directory; yields the function that records the emulator's environment once there is one.

    A directory that it makes is the user's alone, and so is the record always: the emulator's token is in it.
    Raises `Problem` when another emulator runs there, or when it can not be written.
    """
    path = state / NAME
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise Problem(f"the state directory {state} can not be used: {error.strerror}") from error
    with open(descriptor, "r+", encoding="utf-8") as file:  # noqa: PTH123
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _pid(file.read())
            raise Problem(f"an emulator (process {pid}) already runs in {state}: stop it, or use --state") from error
        try:
            _write(file.fileno(), {})
            yield lambda environment: _write(file.fileno(), environment)
        finally:
            with suppress(FileNotFoundError):
                path.unlink()


def read(state: Path) -> dict[str, str]:
    """The environment for the emulator that runs in a state directory. Raises `Problem` when none does."""
    path = state / NAME
    try:
        file = path.open("r", encoding="utf-8")
    except OSError:
        raise Problem(f"no emulator runs in {state}: start one with `emulator up`, or name its --state") from None
    with file:
        text = file.read()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass
        else:
            raise Problem(
                f"{path} is stale: its emulator (process {_pid(text)}) has ended; start one with `emulator up`"
            )
    environment = json.loads(text)["environment"] if text else {}
    if not environment:
        raise Problem(f"the emulator in {state} is still starting")
    return {str(name): str(value) for name, value in environment.items()}


def _write(descriptor: int, environment: Mapping[str, str]) -> None:
    text = json.dumps({"pid": os.getpid(), "environment": dict(environment)}).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def _pid(text: str) -> int | str:
    try:
        return int(json.loads(text)["pid"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
