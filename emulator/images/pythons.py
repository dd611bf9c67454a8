"""The Pythons of this machine: the emulator's own, and others that images may ask for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = (3, 11)
"""Containers run the emulator's own code, which needs that."""

_LOOK = "import json, sys; print(json.dumps([sys.executable, '%d.%d.%d' % sys.version_info[:3], sys.base_prefix]))"
_SECONDS = 20


@dataclass(frozen=True)
class Interpreter:
    """One Python of this machine."""

    path: Path
    version: str
    """Such as "3.12.1"."""
    prefix: Path
    """Where it is installed, whatever environment `path` may be of."""

    @property
    def series(self) -> str:
        return self.version.rpartition(".")[0]

    @property
    def is_own(self) -> bool:
        """Whether the emulator's own packages run on it."""
        return self.series == own().series


def own() -> Interpreter:
    """The one that runs the emulator."""
    return Interpreter(Path(sys.executable), "{}.{}.{}".format(*sys.version_info[:3]), Path(sys.base_prefix))


def find(series: str, *, uv: Path | None = None) -> Interpreter | None:
    """The machine's Python of that series, such as "3.12". Blocks: it starts what it finds, to see that it runs."""
    if series in ("", own().series):
        return own()
    if tuple(map(int, series.split("."))) < OLDEST:
        return None
    for path in _candidates(series, uv):
        found = _look(path)
        if found is not None and found.series == series:
            return found
    return None


def _candidates(series: str, uv: Path | None) -> Iterator[Path]:
    if on_path := shutil.which(f"python{series}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(pyenv.glob(f"{series}.*/bin/python{series}"), reverse=True)
    if uv is not None:
        command = [str(uv), "python", "find", "--no-python-downloads", "--no-project", series]
        found = _run(command)
        if found is not None:
            yield Path(found)


def _look(path: Path) -> Interpreter | None:
    """None for what does not run: a version manager's shim of a version that is not chosen, say."""
    answer = _run([str(path), "-I", "-c", _LOOK])
    if answer is None:
        return None
    executable, version, prefix = json.loads(answer)
    return Interpreter(Path(executable), version, Path(prefix))


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
