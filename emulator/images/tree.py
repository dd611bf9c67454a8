"""Environments as files: cloning one without copying it, and letting the client in where it is not installed."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from emulator.containers.environment import CLIENT_VARIABLE

_HOOK = "_emulator_client.pth"
_HOOK_TEXT = (
    f"import os, sys; path = os.environ.get({CLIENT_VARIABLE!r}); "
    "path and path not in sys.path and sys.path.append(path)\n"
)
"""As on Modal: the platform's packages come after the image's own."""


def clone(source: Path, target: Path) -> None:
    """A second environment of the same packages. Files are shared, as far as the file system can: installers replace
    files and never write into them. Commands are copied, since they name the environment that they are of."""
    for parent, folders, names in os.walk(source):
        beside = target / Path(parent).relative_to(source)
        beside.mkdir(parents=True, exist_ok=True)
        for name in [*folders, *names]:
            file = Path(parent, name)
            if file.is_symlink():
                (beside / name).symlink_to(file.readlink())
            elif name in names:
                _share(file, beside / name, owned=Path(parent) == source / "bin")
    for command in (target / "bin").iterdir():
        if command.is_file() and not command.is_symlink():
            _rename_within(command, str(source), str(target))


def _share(file: Path, target: Path, *, owned: bool) -> None:
    if not owned:
        try:
            os.link(file, target)
        except OSError:  # another file system, or one without such links
            pass
        else:
            return
    shutil.copy2(file, target)


def _rename_within(command: Path, old: str, new: str) -> None:
    data = command.read_bytes()
    if old.encode() in data and b"\0" not in data[:1024]:
        mode = stat.S_IMODE(command.stat().st_mode)
        command.write_bytes(data.replace(old.encode(), new.encode()))
        command.chmod(mode)


def let_client_in(environment: Path) -> None:
    """Have this environment's Python look through the client's folder, last of all."""
    (site_packages(environment) / _HOOK).write_text(_HOOK_TEXT, encoding="utf-8")


def site_packages(environment: Path) -> Path:
    """Where packages of an environment are. Raises `FileNotFoundError`."""
    for found in environment.glob("lib/python3*/site-packages"):
        return found
    raise FileNotFoundError(f"{environment} is no Python environment")
