"""How containers are made on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from emulator.containers.base import ContainerRuntime

Kind = Literal["auto", "zygote", "process", "thread"]


def choose_runtime(kind: Kind = "auto", **options: Any) -> ContainerRuntime:
    """A runtime of the given kind; `auto` is forks of a warm process on Linux, and subprocesses elsewhere.

    `thread` is threads of this process, for tests.
    Raises `ValueError` for a kind that is unknown or that this machine does not have. Needs no running loop.
    """
    # Imported here because the container's side imports this package and must stay small.
    if kind == "auto":
        kind = "zygote" if sys.platform == "linux" else "process"
    if kind == "zygote":
        if sys.platform != "linux":
            raise ValueError("containers='zygote' needs Linux, where forking a warm process is safe: use 'process'")
        from emulator.containers.zygote import ZygoteRuntime

        return ZygoteRuntime(**options)
    if kind == "process":
        from emulator.containers.process import ProcessRuntime

        return ProcessRuntime(**options)
    if kind == "thread":
        from emulator.containers.thread.runtime import ThreadRuntime

        return ThreadRuntime(**options)
    raise ValueError(f"containers={kind!r} is unknown: use 'auto', 'zygote', 'process' or 'thread'")
