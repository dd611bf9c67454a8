"""`os.environ` as one mapping with the contents of whichever container asks.

The object stays the same, so `from os import environ` of long ago sees it too: the table behind it is exchanged.
C code (`getenv`) sees the process's own variables only, so containers never write those.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.identity import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.containers.thread.patching import Patches


class Variables(MutableMapping[bytes, bytes]):
    """The table behind `os.environ`: the container's own, or for everybody else the process's."""

    def __init__(self, process: MutableMapping[bytes, bytes]) -> None:
        self.process = process

    @property
    def _seen(self) -> MutableMapping[bytes, bytes]:
        identity = current()
        return self.process if identity is None else identity.environment

    def __getitem__(self, name: bytes) -> bytes:
        return self._seen[name]

    def __setitem__(self, name: bytes, value: bytes) -> None:
        self._seen[name] = value

    def __delitem__(self, name: bytes) -> None:
        del self._seen[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._seen))

    def __len__(self) -> int:
        return len(self._seen)


def encoded(environment: dict[str, str]) -> dict[bytes, bytes]:
    """Variables as `os.environb` has them."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def install(patches: Patches) -> None:
    environ: Any = os.environ
    variables = Variables(environ._data)
    for mapping in (environ, os.environb):
        _exchange(mapping, variables, patches)
    for name in ("putenv", "unsetenv"):
        patches.wrap(os, name, _unless_in_container)


def _exchange(mapping: Any, variables: Variables, patches: Patches) -> None:
    mapping._data = variables

    def undo() -> None:
        if mapping._data is variables:
            mapping._data = variables.process

    patches.later(undo)


def _unless_in_container(original: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        if current() is None:
            original(*arguments)

    return call
