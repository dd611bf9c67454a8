"""Tiny wheels, so that tests of installs need no network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    modules: Mapping[str, str] | None = None,
    command: str = "",
) -> Path:
    """A wheel of pure Python in `folder`. Its module (unless `modules` has others) knows its own `VERSION`.

    `command`: a console script that prints the version.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    source = f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n"
    files = dict(modules or {f"{module}.py": source})
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if command:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{command} = {module}:main\n"
    listed = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*listed, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return target


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
