"""What one container's processes are told: the plain data that the emulator writes and the container's side reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MODAL_ENTRY = "emulator.containers.compat:run_container"
"""The function that a container runs unless a runtime is told otherwise: the client's own container runtime."""

BOOTSTRAP = (
    "import sys; root = sys.argv.pop(1); sys.path.insert(0, root); "
    "from emulator.containers.guest.main import main; sys.path.remove(root); main()"
)
"""Run as `python -I -c BOOTSTRAP <folder that holds the emulator package> …`."""


@dataclass(frozen=True)
class Launch:
    """How to become one container. Paths are as the container will see them unless said otherwise."""

    task_id: str
    entry: str
    """`module:function` to call: nothing is passed, what it returns is the exit status (None: 0)."""
    environment: dict[str, str]
    workdir: str
    path: list[str]
    """What goes in front of the installed packages on `sys.path`."""
    bare: bool = False
    """No main process: `entry` is not called, and the container ends with the main one of the commands it is told."""
    how: str = ""
    """By which right to make namespaces: "root", "user"; "" makes none (see `guest.namespaces`)."""
    root: str = ""
    """With namespaces: the host folder to be the container's `/`."""
    binds: list[tuple[str, str, bool]] = field(default_factory=list)
    """(host path, path in the container, writable) to show in `root`."""
    overlays: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(host path, path in the container, upper, work): host folders to show with the files of `upper` on top."""
    views: list[dict[str, Any]] = field(default_factory=list)
    """Volumes to show as overlays that are renewed: `path` in the container; the host folders `lower`, `upper`, `work`
    and `at` (see `base.Layers`); `read_only`; `direct`, the host folder to show where there can be no such overlay."""
    private_network: bool = False
    listen: list[int] = field(default_factory=list)
    """Ports of the private network's 127.0.0.1 on which to listen for the emulator. 0: any, for the proxy."""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Launch:
        return cls(**json.loads(path.read_text()))


def emulator_root() -> Path:
    """The folder that holds the emulator package."""
    return Path(__file__).resolve().parents[2]
